"""How a run has learnt: losses, learning rate and metrics over the steps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from efficientdet.visualize.curves import legend_below, tidy
from efficientdet.visualize.fonts import in_plot

Line = Mapping[str, Any]

_MAX_LINES = 12  # in one plot: the classes beyond are left out, and counted in the title
_SMOOTH_SHARE = 40  # the running mean is over so small a part of the lines


@dataclass(frozen=True)
class _Plot:
    """One plot: names of numbers in training lines and in evaluation lines, by label."""

    title: str
    training: Mapping[str, str]
    evaluation: Mapping[str, str]
    percent: bool = False


def figure(
    training: Sequence[Line], evaluations: Sequence[Line], best: int | None = None
) -> Figure:
    """All plots in a grid of four columns.

    Args:
        training: lines of `metrics.jsonl`, by step.
        evaluations: likewise; percentages are of numbers in [0, 1].
        best: the step of the best evaluation, which gets a dotted line.
    """
    plots = _plots(training, evaluations)
    rows = -(-len(plots) // 4) or 1
    result = Figure(figsize=(17, 4.2 * rows), layout="constrained")
    axes = result.subplots(rows, 4, squeeze=False).flatten()
    for place, plot in zip(axes, plots, strict=False):
        _draw(place, plot, training, evaluations, best)
    for place in axes[len(plots) :]:
        place.set_axis_off()
    return result


def single_figures(
    training: Sequence[Line], evaluations: Sequence[Line], best: int | None = None
) -> dict[str, Figure]:
    """Each plot of `figure` by itself, by its title: a page may be as narrow as a telephone."""
    figures = {}
    for plot in _plots(training, evaluations):
        figures[plot.title] = Figure(figsize=(4.4, 3.7), layout="constrained")
        _draw(figures[plot.title].subplots(), plot, training, evaluations, best)
    return figures


def _plots(training: Sequence[Line], evaluations: Sequence[Line]) -> list[_Plot]:
    """Those that have something to show."""
    names = list(dict.fromkeys(name for line in evaluations for name in line))

    def named(is_meant: Callable[[str], bool], label: Callable[[str], str]) -> dict[str, str]:
        return {label(name): name for name in names if is_meant(name)}

    def loss(title: str, name: str) -> _Plot:
        return _Plot(title, {"training": name}, {"validation": f"val_{name}"})

    moderate = named(
        lambda name: name.endswith("moderate_R40"),
        lambda name: name.removeprefix("kitti/").removesuffix("_R40").removesuffix("_moderate"),
    )
    by_class = named(
        lambda name: name.startswith("AP_/"), lambda name: in_plot(name[len("AP_/") :])
    )
    shown = dict(list(by_class.items())[:_MAX_LINES])
    more = f" (the first {_MAX_LINES} of {len(by_class)})" if len(shown) < len(by_class) else ""
    rename = {"moderate": "mean"}
    plots = [
        loss("Detection loss", "det_loss"),
        loss("Class loss", "cls_loss"),
        loss("Box loss", "box_loss"),
        _Plot("Learning rate", {"learning rate": "learning_rate"}, {}),
        _Plot("COCO AP, %", {}, {n: n for n in ("AP", "AP50", "AP75")}, percent=True),
        _Plot("COCO AP by size, %", {}, {n: n for n in ("APs", "APm", "APl")}, percent=True),
        _Plot(
            "KITTI R40, moderate, %",
            {},
            {rename.get(label, label): name for label, name in moderate.items()},
            percent=True,
        ),
        _Plot(f"COCO AP by class{more}, %", {}, shown, percent=True),
    ]
    known = {name for line in (*training, *evaluations) for name in line if line[name] is not None}
    return [p for p in plots if known & {*p.training.values(), *p.evaluation.values()}]


def _draw(
    place: Axes,
    plot: _Plot,
    training: Sequence[Line],
    evaluations: Sequence[Line],
    best: int | None,
) -> None:
    for label, name in plot.training.items():
        steps, values = _series(training, name)
        if len(steps):
            smooth = running_mean(values)
            place.plot(steps, values, color="#1668a8", alpha=0.25, linewidth=0.8)
            place.plot(steps, smooth, color="#1668a8", linewidth=1.6, label=label)
    colours = ["#d1601f", "#2b7a4b", "#7a4fa3", "#b8860b", "#c2356d", "#1fa8a8", "#555555"]
    colours = colours if plot.training else ["#1668a8", *colours]
    for number, (label, name) in enumerate(plot.evaluation.items()):
        steps, values = _series(evaluations, name)
        if len(steps):
            values = 100 * values if plot.percent else values
            place.plot(
                steps, values, "o-" if number < len(colours) else "s--", markersize=3.5,
                color=colours[number % len(colours)], linewidth=1.4, label=label,
            )  # fmt: skip
    if best is not None and plot.evaluation:
        place.axvline(
            best, color="#888888", linestyle=":", linewidth=1.2, label=f"best (step {best:,})"
        )
    place.set(title=plot.title, xlabel="step")
    place.set_xlim(left=0)
    if plot.percent:
        place.set_ylim(bottom=0)
    place.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    place.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    tidy(place)
    if plot.evaluation:
        legend_below(place, columns=3)


def _series(lines: Sequence[Line], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of what is known."""
    known = [(line["step"], line[name]) for line in lines if line.get(name) is not None]
    steps, values = zip(*known, strict=True) if known else ((), ())
    return np.array(steps, float), np.array(values, float)


def running_mean(values: np.ndarray) -> np.ndarray:
    """The mean of each value and those just before it."""
    window = max(1, len(values) // _SMOOTH_SHARE)
    sums = np.cumsum(np.concatenate([np.zeros(1), values]))
    first = np.maximum(np.arange(1, len(values) + 1) - window, 0)
    last = np.arange(1, len(values) + 1)
    return (sums[last] - sums[first]) / (last - first)
