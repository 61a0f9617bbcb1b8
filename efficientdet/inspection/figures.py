"""Plots of a data set: how large, how flat, how crowded, how hidden its objects are."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping

import matplotlib

matplotlib.use("Agg")  # no window
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator

from efficientdet.dataset.statistics import SIZE_CLASSES, Objects, Statistics, in_kitti_order
from efficientdet.visualize.drawing import class_colour
from efficientdet.visualize.html import figure_png

_GREY = "#8a9099"
_MAX_CLASSES, _OTHER = 12, "other"


def figures(statistics: Statistics, class_ids: Mapping[str, int]) -> list[tuple[str, str]]:
    """Captions and `data:` URIs of all plots of a set that has objects."""
    objects = _merge_rare(statistics.objects)
    colours = text_colours(objects, class_ids)
    return [
        ("Boxes, in pixels of the image", _draw(2, lambda axes: _boxes(axes, objects, colours))),
        ("Images", _draw(1, lambda axes: _images(axes, statistics))),
        ("Visibility", _draw(1, lambda axes: _visibility(axes, objects, colours))),
    ]


def _merge_rare(objects: Objects) -> Objects:
    """A plot tells about a dozen colours apart: the classes beyond that become `other`."""
    frequent = [name for name, _ in Counter(objects.types.tolist()).most_common(_MAX_CLASSES)]
    types = np.where(np.isin(objects.types, frequent), objects.types, _OTHER)
    return dataclasses.replace(objects, types=types)


def _draw(rows: int, paint: Callable[[np.ndarray], None]) -> str:
    figure, axes = plt.subplots(rows, 2, figsize=(11, 3.3 * rows), layout="constrained")
    try:
        for one in axes.flat:
            one.spines[["top", "right"]].set_visible(False)
            one.grid(axis="y", color="#e4e6e8", linewidth=0.8)
            one.set_axisbelow(True)
        paint(axes.reshape(rows, 2))
        return figure_png(figure)
    finally:
        plt.close(figure)


def _boxes(axes: np.ndarray, objects: Objects, colours: dict[str, tuple]) -> None:
    area = objects.widths * objects.heights
    _histogram(axes[0, 0], objects.widths, objects.types, colours, "width (px)")
    _histogram(axes[0, 1], objects.heights, objects.types, colours, "height (px)")
    _histogram(axes[1, 0], area, objects.types, colours, "area (px²)")
    ratio = objects.widths / objects.heights
    _histogram(axes[1, 1], ratio, objects.types, colours, "aspect ratio (width / height)")
    for limit in list(SIZE_CLASSES.values())[:-1]:
        axes[1, 0].axvline(limit, color=_GREY, linestyle="--", linewidth=1)
    axes[0, 0].legend(frameon=False, fontsize=8)


def _images(axes: np.ndarray, statistics: Statistics) -> None:
    counts = np.bincount(statistics.num_objects)
    axes[0, 0].bar(np.arange(len(counts)), counts, width=0.85, color=_GREY)
    axes[0, 0].set(xlabel="objects on an image", ylabel="images")
    share = 100 * np.array(statistics.dont_care_share)
    axes[0, 1].hist(share, bins=30, color=_GREY)
    axes[0, 1].set(xlabel="DontCare regions, % of the image", ylabel="images", yscale="log")


def _visibility(axes: np.ndarray, objects: Objects, colours: dict[str, tuple]) -> None:
    _stacked(axes[0, 0], objects.occluded, objects.types, colours, np.arange(-0.5, 4), rwidth=0.85)
    axes[0, 0].set_xticks(range(4), ["visible", "partly", "largely", "unknown"])
    axes[0, 0].set(xlabel="occlusion", ylabel="objects")
    cut = objects[objects.truncated > 0]
    _stacked(axes[0, 1], cut.truncated, cut.types, colours, np.linspace(0, 1, 21))
    axes[0, 1].set(xlabel=f"truncation, of the {len(cut)} objects that are cut off")


def _histogram(
    axis: Axes, values: np.ndarray, types: np.ndarray, colours: dict[str, tuple], label: str
) -> None:
    """On a logarithmic axis; the outermost bins also hold the one in a thousand beyond them."""
    low, high = np.quantile(values, [0.001, 0.999])
    low, high = max(low, 1e-3), max(high, low * 1.1, 2e-3)
    _stacked(axis, values.clip(low, high), types, colours, np.geomspace(low, high, 41))
    axis.set(xscale="log", xlabel=label, ylabel="objects")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_locator(NullLocator())


def _stacked(
    axis: Axes,
    values: np.ndarray,
    types: np.ndarray,
    colours: dict[str, tuple],
    bins: np.ndarray,
    **style: float,
) -> None:
    parts = [values[types == name] for name in colours]
    colour, label = list(colours.values()), list(colours)
    axis.hist(parts, bins=bins, stacked=True, color=colour, label=label, **style)


def text_colours(objects: Objects, class_ids: Mapping[str, int]) -> dict[str, tuple[float, ...]]:
    """Class text -> colour (0..1), the one that its boxes have in the pictures."""
    names = in_kitti_order(dict.fromkeys(np.unique(objects.types).tolist()))
    return {name: tuple(np.array(class_colour(class_ids.get(name, 0))) / 255) for name in names}
