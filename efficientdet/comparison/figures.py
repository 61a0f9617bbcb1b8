"""Curves of several runs over each other, in the page's own colours."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from efficientdet.comparison.runs import StoredRun
from efficientdet.comparison.scores import JudgedRun, compared_metrics
from efficientdet.evaluation.kitti_table import MODERATE_MEAN
from efficientdet.inspection.svg import INK, LINE, inline
from efficientdet.run.history import Line
from efficientdet.visualize.learning_curves import running_mean

# Each is read on a light page and on a dark one; the dashes tell them apart in a grey print.
COLOURS = ("#2a7fc1", "#d9661f", "#1f9d6b", "#9a5fc7", "#b8860b", "#d1477f", "#1797a6", "#808890")
DASHES = ("", "6 2", "2 2", "8 2 2 2", "4 4", "10 3", "1 3", "6 2 2 2 2 2")
_MOST_POINTS = 300  # of a curve in the page
_MOST_CLASSES = 12
_TRAINING = {
    "det_loss": "detection loss", "cls_loss": "class loss", "box_loss": "box loss",
    "learning_rate": "learning rate", "gradient_norm": "gradient norm",
    "images_per_second": "images per second",
}  # fmt: skip
_VALIDATION = {name: _TRAINING[name] for name in ("det_loss", "cls_loss", "box_loss")}


@dataclass(frozen=True)
class Overlay:
    """One plot with a curve for each run that has it."""

    title: str
    picture: Markup


@dataclass(frozen=True)
class _Curve:
    number: int  # of the run
    x: np.ndarray
    y: np.ndarray
    marked: float | None = None  # x of the point that stands out


def x_axis(runs: Sequence[StoredRun]) -> str:
    """`epoch` where every line of every run tells it, else `step`."""
    lines = [line for run in runs for line in (*run.history.training, *run.evaluations)]
    return "epoch" if all(line.get("epoch") is not None for line in lines) else "step"


def training_plots(runs: Sequence[StoredRun]) -> list[Overlay]:
    """Losses and rates, as running means, and the validation losses."""
    x = x_axis(runs)
    plots = []
    for name, title in _TRAINING.items():
        curves = []
        for number, run in enumerate(runs):
            steps, values = _series(run.history.training, name, x)
            if len(steps):
                smooth = values if name == "learning_rate" else running_mean(values)
                curves.append(_Curve(number, _thinned(steps), _thinned(smooth)))
        plots.append(_plot(f"training: {title}", curves, x))
    for name, title in _VALIDATION.items():
        plots.append(_evaluations(f"validation: {title}", runs, f"val_{name}", x, scale=1))
    return [plot for plot in plots if plot]


def metric_plots(runs: Sequence[StoredRun]) -> list[Overlay]:
    """AP over time: means and sizes first, then classes."""
    x = x_axis(runs)
    known = dict.fromkeys(name for run in runs for line in run.evaluations for name in line)
    names = [name for name in compared_metrics(known) if not name.startswith("AP_/")]
    names += [n for n in compared_metrics(known) if n.startswith("AP_/")][:_MOST_CLASSES]
    plots = [_evaluations(f"{label(name)}, %", runs, name, x, scale=100) for name in names]
    return [plot for plot in plots if plot]


def precision_plots(judged: Sequence[JudgedRun], numbers: Sequence[int]) -> list[Overlay]:
    """Precision over recall by class: COCO's at IoU 0.5, and KITTI's moderate ones.

    Args:
        numbers: of the runs on the page, for their colours.
    """
    if not judged:
        return []
    plots, first = [], judged[0].result
    for class_id, name in first.label_map.names.items():
        if first.coco.num_objects[class_id]:
            rows = [one.result.coco.precision[0, :, class_id - 1, 0] for one in judged]
            plots.append(_precision(f"{name}, IoU 0.5", rows, numbers))
    plots = plots[:_MOST_CLASSES]
    for number, curve in enumerate(first.kitti):
        if curve.num_objects and curve.difficulty.name == "moderate":
            rows = [one.result.kitti[number].precision for one in judged]
            plots.append(_precision(f"{curve.class_name}, KITTI moderate", rows, numbers))
    return plots


def label(metric: str) -> str:
    """How the page calls a metric."""
    if metric == MODERATE_MEAN:
        return "KITTI moderate, mean"
    if metric.startswith("kitti/"):
        return f"KITTI moderate, {metric.removeprefix('kitti/').removesuffix('_moderate_R40')}"
    sizes = {"APs": "AP small", "APm": "AP medium", "APl": "AP large"}
    return sizes.get(metric, metric.replace("AP_/", "AP "))


def _evaluations(
    title: str, runs: Sequence[StoredRun], name: str, x: str, scale: float
) -> Overlay | None:
    curves = []
    for number, run in enumerate(runs):
        steps, values = _series(run.evaluations, name, x)
        if len(steps):
            best = run.best.get(x) if run.best and len(steps) > 1 else None
            curves.append(_Curve(number, steps, scale * values, best))
    return _plot(title, curves, x, are_points=True, bottom=0 if scale == 100 else None)


def _precision(title: str, rows: Sequence[np.ndarray], numbers: Sequence[int]) -> Overlay:
    pairs = zip(numbers, rows, strict=True)
    curves = [_Curve(number, np.linspace(0, 1, len(row)), row) for number, row in pairs]
    return _plot(title, curves, "recall", top=1.02, bottom=0)


def _plot(
    title: str,
    curves: Sequence[_Curve],
    x: str,
    *,
    are_points: bool = False,
    bottom: float | None = None,
    top: float | None = None,
) -> Overlay | None:
    """None where there is no curve."""
    if not curves:
        return None

    def paint(axes: Axes) -> None:
        for curve in curves:
            colour, style = COLOURS[curve.number], _dashes(curve.number)
            axes.plot(curve.x, curve.y, color=colour, linestyle=style, linewidth=1.5)
            if are_points:
                axes.plot(curve.x, curve.y, "o", color=colour, markersize=3)
            if curve.marked in curve.x:
                y = curve.y[curve.x == curve.marked][-1]
                axes.plot(
                    [curve.marked], [y], "o", markersize=9, markerfacecolor="none",
                    markeredgecolor=colour,
                )  # fmt: skip
        axes.set_xlabel(x)
        axes.set_ylabel("precision" if x == "recall" else "")
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=bottom, top=top)
        most = max(curve.x[-1] for curve in curves)
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=bool(most > 2)))
        axes.grid(color=LINE, linewidth=0.5)
        axes.tick_params(color=INK)

    return Overlay(title, inline(paint, height=2.6, width=4.1))


def _dashes(number: int) -> str | tuple:
    """As matplotlib wants it."""
    lengths = [float(one) / 1.5 for one in DASHES[number].split()]
    return (0, lengths) if lengths else "-"


def _series(lines: Sequence[Line], name: str, x: str) -> tuple[np.ndarray, np.ndarray]:
    known = [(line[x], line[name]) for line in lines if line.get(name) is not None]
    places, values = zip(*known, strict=True) if known else ((), ())
    return np.array(places, float), np.array(values, float)


def _thinned(values: np.ndarray) -> np.ndarray:
    """At most so many points as a plot can show, the last one among them."""
    step = -(-len(values) // _MOST_POINTS)
    return values[::-1][::step][::-1] if step > 1 else values
