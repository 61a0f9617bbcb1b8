"""Carries the prediction rows of the heads to other anchors and other classes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from efficientdet.config import Config
from efficientdet.model.anchors import Anchors

RATIO_TOLERANCE = 0.02  # relative; 1.4 x 0.7 and a ratio of 2.0 are the same shape
OCTAVE_TOLERANCE = 0.01


@dataclass(frozen=True)
class AnchorShapes:
    """What tells the anchors of one position apart, in channel order.

    Attributes:
        shapes: (octave in [0, 1), width / height). The scale is not among them: it is one for all
            anchors of a level, see `level_scales`.
    """

    shapes: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, config: Config) -> "AnchorShapes":
        """From `num_scales` and `aspect_ratios`."""
        octaves = [octave / config.num_scales for octave in range(config.num_scales)]
        ratios = [_width_to_height(ratio) for ratio in config.aspect_ratios]
        return cls(tuple((octave, ratio) for octave in octaves for ratio in ratios))

    def __len__(self) -> int:
        return len(self.shapes)

    def matches(self, other: "AnchorShapes") -> dict[int, int]:
        """Number of an anchor here -> number of the anchor of the same shape there."""
        return {
            here: there
            for here, (octave, ratio) in enumerate(self.shapes)
            for there, (other_octave, other_ratio) in enumerate(other.shapes)
            if abs(octave - other_octave) < OCTAVE_TOLERANCE
            and abs(math.log(ratio / other_ratio)) < RATIO_TOLERANCE
        }

    def nearest(self, other: "AnchorShapes") -> dict[int, int]:
        """Number of an anchor here -> that of the one there of the nearest log width and height."""
        theirs = [_log_sides(*shape) for shape in other.shapes]
        if not theirs:
            return {}
        return {
            here: min(range(len(theirs)), key=lambda there: math.dist(sides, theirs[there]))
            for here, sides in enumerate(_log_sides(*shape) for shape in self.shapes)
        }


def level_scales(config: Config) -> dict[int, float]:
    """Level -> `anchor_scale` of its anchors."""
    return dict(zip(config.levels, Anchors(config).scales, strict=True))


@dataclass(frozen=True)
class HeadRows:
    """Which rows of a stored prediction go where.

    Attributes:
        anchors, stored_anchors: anchors at a position, here and there (A and A').
        anchor_rows: anchor here -> anchor there.
        channel_rows: class or coordinate here -> there.
        num_channels: classes or coordinates here (C).
        exact: the anchors of `anchor_rows` have the same shape here and there.
    """

    anchors: int
    stored_anchors: int
    anchor_rows: Mapping[int, int]
    channel_rows: Mapping[int, int]
    num_channels: int
    exact: bool = True

    @property
    def complete(self) -> bool:
        """Whether every row comes from the checkpoint, and from an anchor of its own shape."""
        counts = (len(self.anchor_rows), len(self.channel_rows))
        return self.exact and counts == (self.anchors, self.num_channels)

    @property
    def empty(self) -> bool:
        """Whether no row does."""
        return not (self.anchor_rows and self.channel_rows)

    def carry(self, initial: np.ndarray, stored: np.ndarray) -> np.ndarray:
        """`initial` [..., A*C] with the matching rows of `stored` [..., A'*C']."""
        result = initial.reshape(*initial.shape[:-1], self.anchors, -1).copy()
        source = stored.reshape(*stored.shape[:-1], self.stored_anchors, -1)
        for anchor, stored_anchor in self.anchor_rows.items():
            for row, stored_row in self.channel_rows.items():
                result[..., anchor, row] = source[..., stored_anchor, stored_row]
        return result.reshape(initial.shape)


def _width_to_height(ratio: float | tuple[float, float]) -> float:
    if isinstance(ratio, float):
        return ratio
    x_factor, y_factor = ratio
    return x_factor / y_factor


def _log_sides(octave: float, ratio: float) -> tuple[float, float]:
    """Logarithms of width and height, for an anchor_scale of 1."""
    size, half = octave * math.log(2), math.log(ratio) / 2
    return size + half, size - half
