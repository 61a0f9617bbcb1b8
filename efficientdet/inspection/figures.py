"""Plots of data sets, side by side: which objects, where, how large, how crowded, how hidden."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, to_hex
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.statistics import SIZE_CLASSES, Objects, in_kitti_order
from efficientdet.inspection.checks import InspectedSet
from efficientdet.inspection.svg import INK, LINE, inline
from efficientdet.visualize.drawing import class_colour

_GREY = "#8a9099"
_MAX_CLASSES, _MAX_BARS, _OTHER = 12, 24, "other"
_THOUSANDS = FuncFormatter(lambda value, _: f"{value:,.10g}")


@dataclass(frozen=True)
class Plot:
    """One kind of plot; `pictures`: the name of each set, and its <svg>."""

    title: str
    note: str
    pictures: list[tuple[str, Markup]]


def plots(
    sets: Sequence[InspectedSet], class_ids: Mapping[str, int], label_map: LabelMap | None
) -> list[Plot]:
    """All plots of sets that have objects; their axes are the same, so that they compare."""
    if not sets:
        return []
    all_objects = [one.statistics.objects for one in sets]
    merged = _merge_rare(all_objects)
    colours = _colours(merged, class_ids)

    def plot(title: str, note: str, paint: Callable, values: Sequence, height: float = 2.7) -> Plot:
        pictures = [
            (one.path.name, inline(lambda axes, of=of: paint(axes, of), height))
            for one, of in zip(sets, values, strict=True)
        ]
        return Plot(title, note, pictures)

    def histogram(title: str, label: str, values: Callable[[Objects], np.ndarray], **lines) -> Plot:
        edges = _log_edges(np.concatenate([values(one) for one in merged]))

        def paint(axes: Axes, of: Objects) -> None:
            _sizes(axes, values(of), of.types, colours, edges, label, **lines)

        return plot(title, "", paint, merged)

    names = _bar_names(all_objects, label_map)
    longest = max(Counter(one.types.tolist()).most_common(1)[0][1] for one in all_objects)
    limits = list(SIZE_CLASSES.values())[:-1]
    return [
        plot(
            "Objects by class",
            "On a logarithmic axis. The faint part of a bar is ignored in training.",
            lambda axes, of: _class_counts(axes, of, names, class_ids, longest),
            all_objects,
            0.7 + 0.21 * len(names),
        ),
        plot("Where the objects are", "Centres of the boxes.", _heat_map, all_objects, 2.1),
        histogram("Width", "width in pixels of the image (log)", lambda of: of.widths),
        histogram("Height", "height in pixels of the image (log)", lambda of: of.heights),
        histogram(
            "Area",
            "area in square pixels (log); dashed: small | medium | large",
            lambda of: of.widths * of.heights,
            limits=limits,
        ),
        histogram("Shape", "width / height (log)", lambda of: of.widths / of.heights),
        plot("Objects on an image", "", _crowding, [one.statistics.num_objects for one in sets]),
        plot("DontCare", "", _dont_care, [one.statistics.dont_care_share for one in sets]),
        plot("Occlusion", "", lambda axes, of: _occlusion(axes, of, colours), merged),
        plot("Truncation", "", lambda axes, of: _truncation(axes, of, colours), merged),
    ]


def legend(sets: Sequence[InspectedSet], class_ids: Mapping[str, int]) -> dict[str, str]:
    """Class text -> colour `#rrggbb` of the plots and of the boxes in the pictures."""
    merged = _merge_rare([one.statistics.objects for one in sets])
    return {name: to_hex(colour) for name, colour in _colours(merged, class_ids).items()}


def _class_counts(
    axes: Axes, objects: Objects, names: Sequence[str], ids: Mapping[str, int], longest: int
) -> None:
    trained = Counter(objects.types[objects.trained].tolist())
    every = Counter(objects.types.tolist())
    for row, name in enumerate(names):
        colour = _colour(ids.get(name, 0))
        axes.barh(row, every[name], height=0.7, color=colour, alpha=0.35)
        axes.barh(row, trained[name], height=0.7, color=colour)
        ignored = every[name] - trained[name]
        text = f"{trained[name]:,}" if trained[name] or ignored else "none"
        text += f" + {ignored:,} ignored" if ignored else ""
        weight = "normal" if every[name] else "bold"
        at = (max(every[name], 0.8), row)
        axes.annotate(text, at, (3, 0), textcoords="offset points", va="center", weight=weight)
    axes.set(xscale="log", xlim=(0.8, longest * 6), ylim=(len(names) - 0.4, -0.6))
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("objects (log)")
    _log_ticks(axes.xaxis, (1,))
    _grid(axes, "x")


def _heat_map(axes: Axes, objects: Objects) -> None:
    height, width = Counter(map(tuple, objects.image_hw.tolist())).most_common(1)[0][0]
    columns = 48 if len(objects) >= 500 else 24
    rows = max(4, round(columns * height / width))
    centres = (objects.boxes[:, :2] + objects.boxes[:, 2:]) / 2 / objects.image_hw[:, ::-1]
    counts, _, _ = np.histogram2d(*centres.clip(0, 1).T[::-1], (rows, columns), [[0, 1]] * 2)
    picture = axes.imshow(
        np.ma.masked_equal(counts, 0),
        extent=(0, width, height, 0),
        cmap="viridis",
        norm=LogNorm(1, max(counts.max(), 2)),
        interpolation="nearest",
    )
    axes.spines[:].set(visible=True, color=LINE)
    axes.set(xlabel=f"x in pixels of {width} x {height}", ylabel="y in pixels")
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    bar = axes.figure.colorbar(picture, cax=axes.inset_axes([1.02, 0, 0.025, 1]))
    bar.set_label("centres (log)")
    bar.outline.set_visible(False)
    _log_ticks(bar.ax.yaxis, (1, 2, 5) if counts.max() < 50 else (1,))


def _sizes(
    axes: Axes,
    values: np.ndarray,
    types: np.ndarray,
    colours: Mapping[str, tuple],
    edges: np.ndarray,
    label: str,
    limits: Sequence[float] = (),
) -> None:
    """On a logarithmic axis; the outermost bins also hold the one in a thousand beyond them."""
    _stacked(axes, values.clip(edges[0], edges[-1]), types, colours, edges)
    axes.set(xscale="log", xlabel=label, xlim=edges[[0, -1]])
    _log_ticks(axes.xaxis, (1, 2, 5) if edges[-1] < 1000 * edges[0] else (1,))
    for limit in limits:
        axes.axvline(limit, color=INK, linestyle="--", linewidth=0.8)


def _crowding(axes: Axes, num_objects: Sequence[int]) -> None:
    counts = np.bincount(num_objects)
    axes.bar(np.arange(len(counts)), counts, width=0.85, color=_GREY)
    axes.set_xlabel("objects on an image")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    _count_axis(axes, "images")


def _dont_care(axes: Axes, shares: Sequence[float]) -> None:
    percent = 100 * np.array(shares)
    axes.hist(percent, bins=np.linspace(0, max(5, np.ceil(percent.max())), 31), color=_GREY)
    axes.set_xlabel("DontCare regions, % of the image")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set(yscale="log", ylabel="images (log)", ylim=(0.8, None))
    _log_ticks(axes.yaxis, (1,) if len(shares) >= 10 else (1, 2, 5))
    _grid(axes, "y")


def _occlusion(axes: Axes, objects: Objects, colours: Mapping[str, tuple]) -> None:
    bottom = np.zeros(4)
    for name, colour in colours.items():
        counts = np.bincount(objects.occluded[objects.types == name].clip(0, 3), minlength=4)
        axes.bar(range(4), counts, 0.85, bottom, color=colour)
        bottom += counts
    axes.set_xticks(range(4), ["visible", "partly", "largely", "unknown"])
    _count_axis(axes, "objects")


def _truncation(axes: Axes, objects: Objects, colours: Mapping[str, tuple]) -> None:
    cut = objects[objects.truncated > 0]
    _stacked(axes, cut.truncated, cut.types, colours, np.linspace(0, 1, 21))
    axes.set(xlabel=f"share outside the image, of the {len(cut):,} objects cut off", xlim=(0, 1))


def _stacked(
    axes: Axes,
    values: np.ndarray,
    types: np.ndarray,
    colours: Mapping[str, tuple],
    edges: np.ndarray,
) -> None:
    bottom = np.zeros(len(edges) - 1)
    for name, colour in colours.items():
        counts, _ = np.histogram(values[types == name], edges)
        if counts.any():
            axes.stairs(bottom + counts, edges, baseline=bottom, fill=True, color=colour)
        bottom += counts
    _count_axis(axes, "objects")


def _count_axis(axes: Axes, label: str) -> None:
    axes.set_ylabel(label)
    axes.set_ylim(0, max(axes.get_ylim()[1], 1.05))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
    axes.yaxis.set_major_formatter(_THOUSANDS)
    _grid(axes, "y")


def _log_ticks(axis, subs: Sequence[int]) -> None:
    axis.set_major_locator(LogLocator(subs=subs, numticks=20))
    axis.set_major_formatter(_THOUSANDS)
    axis.set_minor_locator(NullLocator())


def _grid(axes: Axes, axis: str) -> None:
    axes.grid(axis=axis, color=LINE, linewidth=0.7)
    axes.set_axisbelow(True)


def _log_edges(values: np.ndarray) -> np.ndarray:
    """41 edges of bins around nearly all values; the ends begin with 1, 2 or 5."""
    low, high = np.quantile(values, [0.001, 0.999])
    steps = np.outer(10.0 ** np.arange(-3, 9), (1, 2, 5)).ravel()
    first = np.clip(np.searchsorted(steps, low, "right") - 1, 0, len(steps) - 2)
    last = np.clip(np.searchsorted(steps, high), first + 1, len(steps) - 1)
    return np.geomspace(steps[first], steps[last], 41)


def _bar_names(all_objects: Sequence[Objects], label_map: LabelMap | None) -> list[str]:
    """The classes that have a bar: those of the sets, and those of the map that no set has."""
    counts = Counter({names[0]: 0 for names in label_map.types} if label_map else ())
    for objects in all_objects:
        counts.update(objects.types.tolist())
    return list(in_kitti_order(dict(counts.most_common(_MAX_BARS))))


def _merge_rare(all_objects: Sequence[Objects]) -> list[Objects]:
    """A plot tells about a dozen colours apart: the classes beyond that become `other`."""
    counts = Counter(name for one in all_objects for name in one.types.tolist())
    frequent = [name for name, _ in counts.most_common(_MAX_CLASSES)]
    return [
        dataclasses.replace(one, types=np.where(np.isin(one.types, frequent), one.types, _OTHER))
        for one in all_objects
    ]


def _colours(all_objects: Sequence[Objects], class_ids: Mapping[str, int]) -> dict[str, tuple]:
    """Class text -> colour (0..1), the one that its boxes have in the pictures."""
    names = in_kitti_order({name: 0 for one in all_objects for name in np.unique(one.types)})
    return {str(name): _colour(class_ids.get(name, 0)) for name in names}


def _colour(class_id: int) -> tuple[float, ...]:
    return tuple(np.array(class_colour(class_id)) / 255)
