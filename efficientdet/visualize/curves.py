"""Precision over recall as pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from efficientdet.atomic import atomic_path
from efficientdet.evaluation.coco import CocoResult
from efficientdet.evaluation.kitti import DIFFICULTIES, NUM_RECALLS, Curve
from efficientdet.visualize.drawing import class_colour
from efficientdet.visualize.fonts import in_plot

_DIFFICULTY_COLOURS = dict(
    zip((d.name for d in DIFFICULTIES), ("#1a9850", "#e08214", "#b2182b"), strict=True)
)


def kitti_figure(curves: Sequence[Curve]) -> Figure:
    """One plot for each class of the KITTI benchmark, with a curve for each difficulty."""
    names = list(dict.fromkeys(curve.class_name for curve in curves))
    figure, plots = _plots(names)
    recall = np.linspace(0, 1, NUM_RECALLS)
    for curve in curves:
        if curve.num_objects:
            plots[curve.class_name].plot(
                recall,
                curve.precision,
                color=_DIFFICULTY_COLOURS[curve.difficulty.name],
                label=f"{curve.difficulty.name}, R40 {100 * curve.r40:.1f}",
            )
    return _finish(figure, plots)


def coco_figure(
    result: CocoResult, class_names: Mapping[int, str], ious: Sequence[float] = (0.5, 0.75)
) -> Figure:
    """Precision over recall of every class with ground truth, a plot for each IoU of COCO's ten."""
    levels = {f"IoU {iou:g}": round((iou - 0.5) / 0.05) for iou in ious}
    figure, plots = _plots(list(levels))
    for title, level in levels.items():
        for class_id, name in class_names.items():
            precision = result.precision[level, :, class_id - 1, 0]
            if result.num_objects[class_id]:
                plots[title].plot(
                    np.linspace(0, 1, len(precision)),
                    precision,
                    color=np.array(class_colour(class_id)) / 255 * 0.8,  # on white
                    label=f"{in_plot(name)}, AP {100 * precision.mean():.1f}",
                )
    return _finish(figure, plots)


def save(figure: Figure, path: str | Path) -> None:
    """Writes a PNG."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, bbox_inches="tight")


def pixels(figure: Figure) -> np.ndarray:
    """The figure as a uint8 [H, W, 3] image."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]


def tidy(plot: Axes) -> None:
    """A light grid, no box."""
    plot.grid(color="#dddddd", linewidth=0.6)
    plot.spines[["top", "right"]].set_visible(False)


def legend_below(plot: Axes, columns: int) -> None:
    """The names of the curves under the plot: over it, they hide what they name."""
    inches = plot.figure.dpi_scale_trans  # a share of a low plot would be the axis' label
    plot.legend(
        loc="upper center", bbox_to_anchor=(0.5, 0), ncols=columns, fontsize=8,
        bbox_transform=plot.transAxes + ScaledTranslation(0, -0.45, inches),
        frameon=False, columnspacing=1.2, handlelength=1.6, borderaxespad=0,
    )  # fmt: skip


def _plots(titles: Sequence[str]) -> tuple[Figure, dict[str, Axes]]:
    figure = Figure(figsize=(4.4 * max(len(titles), 1), 4.3), layout="constrained")
    axes = figure.subplots(1, max(len(titles), 1), squeeze=False)[0]
    axes[0].set_ylabel("precision")
    return figure, dict(zip(titles, axes, strict=False))


def _finish(figure: Figure, plots: Mapping[str, Axes]) -> Figure:
    for title, plot in plots.items():
        plot.set(title=title, xlabel="recall", xlim=(0, 1), ylim=(0, 1.02))
        tidy(plot)
        if plot.lines:
            legend_below(plot, columns=1 if len(plot.lines) <= 3 else 2)
        else:
            plot.text(0.5, 0.5, "no ground truth", ha="center", color="#888888")
    return figure
