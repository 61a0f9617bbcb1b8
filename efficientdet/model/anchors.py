"""Anchor boxes over the feature pyramid, and the box code that is relative to them.

Boxes are `[ymin, xmin, ymax, xmax]` in pixels of the network input.
"""

from functools import cached_property
from typing import Any

import numpy as np
from keras import ops

from efficientdet.config import Config

Tensor = Any


class Anchors:
    """The anchors of one input size; rows are ordered by level, y, x, octave, aspect.

    At level l an anchor of octave o and aspect (x, y factors) is
    `anchor_scale * stride_l * 2**(o / num_scales)` times that aspect. A stride is input size over
    feature size, axis by axis, and need not be an integer.
    """

    def __init__(self, config: Config):
        self.image_hw = config.image_hw
        self.levels = config.levels
        self.num_scales = config.num_scales
        self.scales = _scale_per_level(config)
        self.aspects = [_aspect_factors(aspect) for aspect in config.aspect_ratios]

    @cached_property
    def feature_sizes(self) -> list[tuple[int, int]]:
        """(h, w) of the feature map of each level, finest first."""
        return [feature_size(self.image_hw, level) for level in self.levels]

    @cached_property
    def boxes(self) -> np.ndarray:
        """float32 [A, 4]; anchors reach over the image's edges."""
        levels = zip(self.feature_sizes, self.scales, strict=True)
        boxes = [self._level_boxes(np.array(size), scale) for size, scale in levels]
        return np.concatenate(boxes).astype(np.float32)

    def _level_boxes(self, size: np.ndarray, scale: float) -> np.ndarray:
        stride = np.array(self.image_hw) / size
        octaves = 2.0 ** (np.arange(self.num_scales) / self.num_scales)
        aspects_yx = np.array(self.aspects)[:, ::-1]
        half = (scale * stride * octaves[:, None])[:, None] * aspects_yx / 2  # [octave, aspect, yx]
        y, x = ((np.arange(n) + 0.5) * step for n, step in zip(size, stride, strict=True))
        centre = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1)[:, :, None, None]
        return np.concatenate([centre - half, centre + half], axis=-1).reshape(-1, 4)


def feature_size(image_hw: tuple[int, int], level: int) -> tuple[int, int]:
    """(h, w) after `level` convolutions of stride 2 with SAME padding."""
    height, width = image_hw
    return -(-height // 2**level), -(-width // 2**level)


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Boxes as (ty, tx, th, tw) relative to their anchors (Faster R-CNN, eq. 2).

    Args:
        boxes: float [..., 4] of positive height and width.
        anchors: float [..., 4], one for each box.
    """
    centre, size = _centre_and_size(boxes)
    anchor_centre, anchor_size = _centre_and_size(anchors)
    return ops.concatenate(
        [(centre - anchor_centre) / anchor_size, ops.log(size / anchor_size)], axis=-1
    )


def decode(codes: Tensor, anchors: Tensor) -> Tensor:
    """The inverse of `encode`: float [..., 4] codes and their anchors -> boxes, not clipped."""
    anchor_centre, anchor_size = _centre_and_size(anchors)
    centre = codes[..., :2] * anchor_size + anchor_centre
    half = ops.exp(codes[..., 2:]) * anchor_size / 2
    return ops.concatenate([centre - half, centre + half], axis=-1)


def _centre_and_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    low, high = boxes[..., :2], boxes[..., 2:]
    return (low + high) / 2, high - low


def _aspect_factors(aspect: float | tuple[float, float]) -> tuple[float, float]:
    """(x factor, y factor) of a width/height ratio, or of the pair itself."""
    if isinstance(aspect, int | float):
        return float(np.sqrt(aspect)), float(1 / np.sqrt(aspect))
    return tuple(aspect)


def _scale_per_level(config: Config) -> list[float]:
    scales = config.anchor_scale
    return scales if isinstance(scales, list) else [scales] * len(config.levels)
