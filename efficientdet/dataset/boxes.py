"""Overlaps of boxes in numpy, without the `+ 1` of some evaluators.

Boxes are `left, top, right, bottom` or `top, left, bottom, right`, of one unit, both sides alike.
"""

import numpy as np


def area(boxes: np.ndarray) -> np.ndarray:
    """Areas [N] of boxes [N, 4]."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def intersection(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Areas [N, M] that boxes `a` [N, 4] and `b` [M, 4] share."""
    top_left = np.maximum(a[:, None, :2], b[None, :, :2])
    bottom_right = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = np.maximum(bottom_right - top_left, 0)
    return sides[..., 0] * sides[..., 1]


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union [N, M]; 0 where both boxes are empty."""
    shared = intersection(a, b)
    return _ratio(shared, area(a)[:, None] + area(b)[None, :] - shared)


def paired_intersection(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Areas [N] that the boxes [N, 4] of each row share."""
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    np.maximum(sides, 0, out=sides)
    return sides[:, 0] * sides[:, 1]


def paired_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union [N], row by row; 0 where both boxes are empty."""
    shared = paired_intersection(a, b)
    return _ratio(shared, area(a) + area(b) - shared)


def paired_coverage(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The share [N] of each box of `a` that lies inside the box of `b` in its row."""
    return _ratio(paired_intersection(a, b), area(a))


def coverage(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The share [N, M] of each box of `a` that lies inside each box of `b`."""
    return _ratio(intersection(a, b), np.broadcast_to(area(a)[:, None], (len(a), len(b))))


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=numerator > 0)
