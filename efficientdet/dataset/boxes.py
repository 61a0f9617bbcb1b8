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


def paired_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union [N], row by row, of boxes [N, 4] of positive area."""
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    shared = np.maximum(sides, 0).prod(axis=1)
    return shared / (area(a) + area(b) - shared)


def coverage(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The share [N, M] of each box of `a` that lies inside each box of `b`."""
    return _ratio(intersection(a, b), np.broadcast_to(area(a)[:, None], (len(a), len(b))))


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=numerator > 0)
