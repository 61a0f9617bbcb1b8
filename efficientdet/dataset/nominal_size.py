"""Do boxes fit the images that they are of, or one nominal size that some script took for all?

Copies of KITTI in YOLO's format are in circulation whose boxes were made pixels by one size, while
the images have four; and labels stay behind where images were resized.
"""

import numpy as np
from numpy.typing import ArrayLike

_SLACK = 2.0  # pixels: an edge is the last pixel or the one after it, rounded
_APART = 4.0  # pixels: sizes that differ by less say nothing
_FRAMES = 3  # of one size that reach as far
_UNUSED = 0.75  # boxes of a whole set come nearer to the right and the lower edge than this
_ENOUGH = 50  # frames, for the latter


def nominal_size(sizes: ArrayLike, reaches: ArrayLike) -> str:
    """What is wrong with the boxes as a whole, in one line; empty where nothing is.

    Args:
        sizes: width and height of each image that has objects, in pixels.
        reaches: of each, how far its boxes reach, right and down, in pixels; unclipped.
    """
    if not len(sizes):
        return ""
    size, reach = np.array(sizes, float), np.array(reaches, float)
    most = reach.max(axis=0)
    said = f"{most[0]:g}x{most[1]:g}"
    outside = (reach > size + 1).any(axis=1)
    if outside.sum() > max(1, 0.02 * len(size)):
        smallest = size[outside].min(axis=0)
        return (
            f"boxes of {outside.sum():,} of {len(size):,} images reach outside, up to {said}, "
            f"where images are as small as {smallest[0]:g}x{smallest[1]:g}: labels of "
            "another set, of images before they were resized, or made pixels by one nominal size"
        )
    for axis, side in enumerate(("width", "height")):
        if sides := _same_end(size[:, axis], reach[:, axis]):
            return (
                f"boxes end at {most[axis]:g} px in images of {side} {sides[0]:g} as in those of "
                f"{sides[-1]:g}: they fit a nominal {side}, not the images'; make them pixels by "
                "each image's own size"
            )
    if len(size) >= _ENOUGH and (reach <= _UNUSED * size).all():
        return (
            f"no box of {len(size):,} images reaches beyond {said}, though images are as large as "
            f"{size[:, 0].max():g}x{size[:, 1].max():g}: labels of smaller copies of them?"
        )
    return ""


def _same_end(size: np.ndarray, reach: np.ndarray) -> list[float]:
    """The sizes, ascending, in which boxes often end at the same pixel, as no size of theirs asks.

    Objects that the image's edge cuts off end there: in images of each size at another pixel.
    """
    end = reach.max()
    often = [
        one
        for one in np.unique(size)
        if (np.abs(reach[size == one] - end) <= _SLACK).sum() >= _FRAMES
    ]
    return often if often and often[-1] - often[0] > _APART else []
