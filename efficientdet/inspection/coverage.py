"""How well a set of anchors covers a set of objects, and anchors fitted to them.

An object whose best anchor has an IoU below 0.5 is still given that one anchor, so training looks
well while the object is starved of positives: small and narrow objects are lost this way. One with
few anchors learns slowly, too: smaller anchors lose fewer objects and leave each with fewer, so the
two are weighed as one, the share that objects lack of `ENOUGH` anchors.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from efficientdet.dataset.boxes import paired_iou
from efficientdet.dataset.statistics import SIZE_CLASSES, Objects, in_kitti_order

MATCH_IOU = 0.5  # target assignment: anchors at or above it are positive
# Positives of an object beyond which more help no further; ATSS (Zhang et al. 2020, table 4) takes
# 9 candidates a level and finds 7 to 17 alike. What it chose on KITTI: docs/recipes.md.
ENOUGH = 9
WORTH_A_FIT = 0.01  # of `Coverage.lacking`: less is no reason for other anchors than a model's own
_SCALES = np.arange(1.0, 6.01, 0.25)
_FIT_OBJECTS = 4000

# (anchor_scale, aspect_ratios) -> anchor boxes [A, 4]
MakeAnchors = Callable[[float, Sequence[float]], np.ndarray]


@dataclass(frozen=True)
class Coverage:
    """One row of the anchor report.

    Attributes:
        missed: share of the objects whose best IoU is below 0.5, by group: `all`, each size class,
            each class. Groups without an object are left out.
        mean_iou: mean best IoU, by the same groups.
        positives: mean number of anchors with an IoU of 0.5 or more, by the same groups.
        lacking: mean share of `ENOUGH` such anchors that an object does not have, likewise.
        padding: share of the input's pixels that letterboxing leaves empty, mean over objects'
            images.
    """

    missed: dict[str, float]
    mean_iou: dict[str, float]
    positives: dict[str, float]
    lacking: dict[str, float]
    padding: float


@dataclass(frozen=True)
class Matches:
    """What the anchors are to each of N objects.

    Attributes:
        iou: float [N], 0..1: the greatest IoU with any anchor.
        positives: int [N], anchors with an IoU of 0.5 or more.
    """

    iou: np.ndarray
    positives: np.ndarray

    @property
    def lacking(self) -> np.ndarray:
        """Share of `ENOUGH` positives that each has not: float [N], 0..1."""
        return 1 - np.minimum(self.positives, ENOUGH) / ENOUGH


def measure(objects: Objects, anchors: np.ndarray, input_hw: tuple[int, int]) -> Coverage:
    """Coverage of `objects` by `anchors` at one input size.

    Args:
        objects: N >= 1 of them.
        anchors: float [A, 4], ymin, xmin, ymax, xmax in input pixels.
        input_hw: (height, width) of the input, into which every image is letterboxed.
    """
    return summary(objects, match(objects, anchors, input_hw), input_hw)


def match(objects: Objects, anchors: np.ndarray, input_hw: tuple[int, int]) -> Matches:
    """The same of each object by itself."""
    boxes = letterbox(objects, input_hw)
    return Matches(best_iou(boxes, anchors), num_positives(boxes, anchors))


def summary(objects: Objects, matches: Matches, input_hw: tuple[int, int]) -> Coverage:
    """The means of what each object has."""
    groups = {"all": np.full(len(objects), True)}
    groups |= {name: objects.sizes == name for name in SIZE_CLASSES}
    groups |= in_kitti_order({name: objects.types == name for name in np.unique(objects.types)})
    groups = {name: mask for name, mask in groups.items() if mask.any()}
    _, first = np.unique(objects.image, return_index=True)

    def means(values: np.ndarray) -> dict[str, float]:
        return {name: float(values[mask].mean()) for name, mask in groups.items()}

    return Coverage(
        missed=means(matches.iou < MATCH_IOU),
        mean_iou=means(matches.iou),
        positives=means(matches.positives),
        lacking=means(matches.lacking),
        padding=float(padding(objects.image_hw[first], input_hw).mean()),
    )


def letterbox(objects: Objects, input_hw: tuple[int, int]) -> np.ndarray:
    """The boxes, float [N, 4] as ymin, xmin, ymax, xmax in pixels of an input of `input_hw`.

    Images are scaled to fit as a whole and lie in the upper left corner.
    """
    scale = (np.array(input_hw) / objects.image_hw).min(axis=1)
    return objects.boxes[:, [1, 0, 3, 2]] * scale[:, None]


def padding(image_hw: np.ndarray, input_hw: tuple[int, int]) -> np.ndarray:
    """Share of the input that stays empty around images of int [N, 2] (height, width): [N]."""
    scale = (np.array(input_hw) / image_hw).min(axis=1)
    return 1 - (image_hw * scale[:, None]).prod(axis=1) / np.prod(input_hw)


def best_iou(boxes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """The greatest IoU of each box with any anchor: float [N].

    Anchors of one shape stand on a grid, and the overlap with a box falls with the distance of the
    centres, in y and in x alone: so the nearest of each shape is compared and no other. The result
    is exact and takes N * shapes steps instead of N * A.

    Args:
        boxes: float [N, 4], ymin, xmin, ymax, xmax.
        anchors: float [A, 4], the same; whole grids, as `Anchors` makes them.
    """
    best = np.zeros(len(boxes))
    for axes, half in _grids(anchors):
        near = np.stack([_nearest(axes[i], boxes[:, [i, i + 2]]) for i in (0, 1)], 1)
        best = np.maximum(
            best, paired_iou(boxes, np.concatenate([near - half, near + half], axis=1))
        )
    return best


def num_positives(boxes: np.ndarray, anchors: np.ndarray) -> np.ndarray:
    """How many anchors have an IoU of `MATCH_IOU` or more with each box: int [N].

    In one row of a grid these are its columns within some distance of the box's centre: as far as
    the overlap in x makes up, with that in y, the shared area that such an IoU asks for.

    Args:
        boxes, anchors: as of `best_iou`.
    """
    middle, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    count = np.zeros(len(boxes), int)
    for (rows, columns), half in _grids(anchors):
        least = MATCH_IOU / (1 + MATCH_IOU) * (sides.prod(1) + 4 * half.prod())  # shared area
        most, span = np.minimum(sides, 2 * half), sides / 2 + half
        some = np.flatnonzero(most.prod(1) >= least)
        least, most, span = least[some], most[some], span[some]
        y, x = middle[some].T
        first, end = _within(rows, y, span[:, 0] - least / most[:, 1])
        for step in range((end - first).max(initial=0)):
            here = np.flatnonzero(first + step < end)
            distance = np.abs(y[here] - rows[first[here] + step])
            shared = np.minimum(most[here, 0], span[here, 0] - distance)
            start, stop = _within(columns, x[here], span[here, 1] - least[here] / shared)
            count[some[here]] += stop - start
    return count


def _within(points: np.ndarray, centre: np.ndarray, reach: np.ndarray) -> tuple[np.ndarray, ...]:
    """First and end index [N] of those of `points` (ascending) no farther than reach, if >= 0."""
    first = np.searchsorted(points, centre - reach, "left")
    return first, np.maximum(first, np.searchsorted(points, centre + reach, "right"))


def _grids(anchors: np.ndarray) -> Iterator[tuple[list[np.ndarray], np.ndarray]]:
    """Of each shape of anchors: y and x of its grid, ascending; half its height and width."""
    anchors = anchors.astype(np.float64)
    centre, size = (anchors[:, :2] + anchors[:, 2:]) / 2, anchors[:, 2:] - anchors[:, :2]
    shape = _cluster(size[:, 0]) * len(size) + _cluster(size[:, 1])
    for one in np.unique(shape):
        grid = centre[shape == one]
        yield [np.unique(grid[:, axis]) for axis in (0, 1)], size[shape == one].mean(0) / 2


def fit(
    objects: Objects,
    input_hw: tuple[int, int],
    make_anchors: MakeAnchors,
    ratios: Sequence[float] = (1.0, 2.0, 0.5),
) -> tuple[float, list[float]]:
    """`anchor_scale` and `aspect_ratios` that leave objects with the least lack of anchors.

    Tries all scales from 1 to 6 with the given ratios and with ratios fitted to the boxes, which
    must be worth it. Classes count by the square root of their number, so that cars do not decide
    alone.

    Args:
        objects: N >= 1 of them; a regular sample of 4000 is looked at.
        input_hw: (height, width) of the input.
        make_anchors: gives the anchors of a scale and ratios.
        ratios: width/height as configured. As many are fitted, in the same order (the flattest in
            the flattest one's place).
    """
    objects = objects[:: max(1, len(objects) // _FIT_OBJECTS)]
    weights = _class_weights(objects.types)
    candidates = [ratios, fitted_ratios(objects, weights, ratios)]
    fits = [best_scale(objects, weights, input_hw, make_anchors, one) for one in candidates]
    best = int(fits[0][0] - fits[1][0] >= WORTH_A_FIT)
    return fits[best][1], list(candidates[best])


def best_scale(
    objects: Objects,
    weights: np.ndarray,
    input_hw: tuple[int, int],
    make_anchors: MakeAnchors,
    ratios: Sequence[float],
) -> tuple[float, float]:
    """Cost and `anchor_scale`, of 1 to 6, of the anchors that objects lack least.

    Args:
        weights: of the objects, [N], with a sum of 1.

    Returns:
        The cost is the weighted mean of `Matches.lacking`, less 0.01 of the mean IoU: of equals,
        the nearer fit.
    """

    def cost(scale: float) -> float:
        found = match(objects, make_anchors(scale, ratios), input_hw)
        return float(weights @ (found.lacking - 0.01 * found.iou))

    return min((cost(scale), scale) for scale in _SCALES.tolist())


def fitted_ratios(objects: Objects, weights: np.ndarray, ratios: Sequence[float]) -> list[float]:
    """As many as `ratios`, in their order: the flattest in the flattest one's place."""
    fitted = fit_ratios(objects, weights, len(ratios))
    return [fitted[rank] for rank in np.argsort(np.argsort(ratios))]


def fit_ratios(objects: Objects, weights: np.ndarray, num_ratios: int) -> list[float]:
    """Width/height ratios, ascending: weighted 1-D k-means of their logarithms."""
    logs = np.log(objects.widths / objects.heights)
    order = np.argsort(logs)
    cumulative = np.cumsum(weights[order])
    quantiles = (np.arange(num_ratios) + 0.5) / num_ratios * cumulative[-1]
    centres = logs[order][np.searchsorted(cumulative, quantiles)]
    for _ in range(50):
        nearest = np.abs(logs[:, None] - centres).argmin(axis=1)
        mass = np.bincount(nearest, weights, num_ratios)
        sums = np.bincount(nearest, weights * logs, num_ratios)
        centres = np.where(mass > 0, sums / np.maximum(mass, 1e-12), centres)
    return [round(float(ratio), 2) for ratio in np.exp(np.sort(centres))]


def _class_weights(types: np.ndarray) -> np.ndarray:
    """Weights [N] that sum to 1; a class has the square root of its count in all."""
    _, inverse, counts = np.unique(types, return_inverse=True, return_counts=True)
    weights = 1 / np.sqrt(counts)[inverse]
    return weights / weights.sum()


def _nearest(points: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The one of `points` (ascending) that is nearest to the middle of each of [N, 2] edges."""
    middle = edges.mean(axis=1)
    right = np.searchsorted(points, middle).clip(0, len(points) - 1)
    left = (right - 1).clip(0)
    return np.where(middle - points[left] < points[right] - middle, points[left], points[right])


def _cluster(values: np.ndarray, tolerance: float = 0.01) -> np.ndarray:
    """Numbers 0, 1, ... for values that lie within the tolerance (pixels) of a neighbour."""
    order = np.argsort(values)
    steps = np.diff(values[order], prepend=values[order][:1]) > tolerance
    labels = np.empty(len(values), int)
    labels[order] = np.cumsum(steps)
    return labels
