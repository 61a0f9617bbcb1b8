"""Where the labels of boxes go: beside their boxes, off each other, off small objects."""

import numpy as np

from efficientdet.dataset.boxes import area, intersection

_STEPS = 7  # heights of itself that a label may move away from its box
_STEP_COST = 0.15  # of one such step, in objects that would be covered instead
_PILE_COST = 5.0  # of a label that lies on others altogether


def place(boxes: np.ndarray, sizes: np.ndarray, image: tuple[int, int], avoid: np.ndarray):
    """Rectangles for the labels, one after the other, each where it hides least.

    Above or below its box comes first, then further off. A label of a large box may lie on it: what
    counts is the share of each object that is hidden.

    Args:
        boxes: float [N, 4], `left top right bottom`, whose labels they are.
        sizes: float [N, 2], width and height of each label.
        image: width and height.
        avoid: float [M, 4], all objects of the picture, `boxes` included.

    Returns:
        float [N, 4], `left top right bottom`, inside the image where it is large enough.
    """
    placed = np.zeros((0, 4))
    for box, size in zip(boxes, sizes, strict=True):
        places, steps = _candidates(box, size, np.asarray(image, float))
        hidden = intersection(places, avoid) / np.maximum(area(avoid), 1.0)
        piled = intersection(places, placed) / max(float(np.prod(size)), 1.0)
        cost = hidden.sum(1) + _PILE_COST * piled.sum(1) + _STEP_COST * steps
        placed = np.concatenate([placed, places[[np.argmin(cost)]]])
    return placed


def _candidates(box: np.ndarray, size: np.ndarray, image: np.ndarray):
    """Rectangles [C, 4] for one label, and how many steps from its box each lies, [C]."""
    (left, top, right, bottom), (width, height) = box, size
    columns = (left, right - width, (left + right - width) / 2)
    rows = [(top - height, 0.0), (bottom, 0.1), (top, 1.0)]
    rows += [(top - height * (1 + k), k) for k in range(1, _STEPS)]
    rows += [(bottom + height * k, k + 0.1) for k in range(1, _STEPS)]
    corners = [(x, y, k + 0.05 * i) for y, k in rows for i, x in enumerate(columns)]
    corners += [(x, top, 1.0) for x in (right, left - width)]
    corners = np.array(corners)
    inside = np.clip(corners[:, :2], 0, np.maximum(image - size, 0))
    moved = np.abs(inside - corners[:, :2]).sum(1) / height
    return np.concatenate([inside, inside + size], axis=1), corners[:, 2] + moved
