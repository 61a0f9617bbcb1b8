"""How well a set of anchors covers a set of objects, and anchors fitted to them.

An object whose best anchor has an IoU below 0.5 is still given that one anchor, so training looks
well while the object is starved of positives: small and narrow objects are lost this way.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from efficientdet.dataset.boxes import paired_iou
from efficientdet.dataset.statistics import SIZE_CLASSES, Objects, in_kitti_order

MATCH_IOU = 0.5  # target assignment: anchors at or above it are positive
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
        padding: share of the input's pixels that letterboxing leaves empty, mean over objects'
            images.
    """

    missed: dict[str, float]
    mean_iou: dict[str, float]
    positives: dict[str, float]
    padding: float


def measure(objects: Objects, anchors: np.ndarray, input_hw: tuple[int, int]) -> Coverage:
    """Coverage of `objects` by `anchors` at one input size.

    Args:
        objects: N >= 1 of them.
        anchors: float [A, 4], ymin, xmin, ymax, xmax in input pixels.
        input_hw: (height, width) of the input, into which every image is letterboxed.
    """
    iou = best_iou(letterbox(objects, input_hw), anchors)
    return summary(objects, anchors, iou, input_hw)


def summary(
    objects: Objects, anchors: np.ndarray, iou: np.ndarray, input_hw: tuple[int, int]
) -> Coverage:
    """The same where the best IoU of each object with any anchor, [N], 0..1, is known."""
    count = num_positives(letterbox(objects, input_hw), anchors)
    groups = {"all": np.full(len(objects), True)}
    groups |= {name: objects.sizes == name for name in SIZE_CLASSES}
    groups |= in_kitti_order({name: objects.types == name for name in np.unique(objects.types)})
    groups = {name: mask for name, mask in groups.items() if mask.any()}
    _, first = np.unique(objects.image, return_index=True)
    return Coverage(
        missed={name: float((iou[mask] < MATCH_IOU).mean()) for name, mask in groups.items()},
        mean_iou={name: float(iou[mask].mean()) for name, mask in groups.items()},
        positives={name: float(count[mask].mean()) for name, mask in groups.items()},
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
        for row in rows:
            shared = np.minimum(most[:, 0], span[:, 0] - np.abs(middle[:, 0] - row))
            some = np.flatnonzero(shared * most[:, 1] >= least)
            reach = span[some, 1] - least[some] / shared[some]
            ends = [np.searchsorted(columns, middle[some, 1] + x, side)
                    for x, side in ((-reach, "left"), (reach, "right"))]  # fmt: skip
            count[some] += ends[1] - ends[0]
    return count


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
    """`anchor_scale` and `aspect_ratios` that leave the fewest objects below IoU 0.5.

    Tries all scales from 1 to 6 with the given ratios and with ratios fitted to the boxes. Classes
    count by the square root of their number, so that cars do not decide alone.

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
    best = min((0, 1), key=lambda index: fits[index][0])
    return fits[best][1], list(candidates[best])


def best_scale(
    objects: Objects,
    weights: np.ndarray,
    input_hw: tuple[int, int],
    make_anchors: MakeAnchors,
    ratios: Sequence[float],
    slack: float = 0.0,
) -> tuple[float, float]:
    """Cost and `anchor_scale`, of 1 to 6, of the anchors that leave the fewest below IoU 0.5.

    Args:
        weights: of the objects, [N], with a sum of 1.
        slack: the smallest scale is taken whose cost is within so much of the least.

    Returns:
        The cost is the weighted share of the objects that are lost, less 0.1 of the mean IoU: of
        equal losses, the nearer fit.
    """
    boxes = letterbox(objects, input_hw)

    def cost(scale: float) -> float:
        found = best_iou(boxes, make_anchors(scale, ratios))
        return float(weights @ ((found < MATCH_IOU) - 0.1 * found))

    costs = {scale: cost(scale) for scale in _SCALES.tolist()}
    enough = min(costs.values()) + slack
    return next((cost, scale) for scale, cost in costs.items() if cost <= enough)


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
