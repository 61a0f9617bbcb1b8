"""Pixels -> what the network takes in, on the device."""

from typing import Any

import numpy as np
from keras import ops

from efficientdet.config import Config

Tensor = Any


def normalise(images: Tensor, shown: Tensor, config: Config) -> Tensor:
    """(rgb - mean) / std inside the picture, 0 below it and to its right.

    Args:
        images: uint8 [B, H, W, 3], the picture in the top left corner.
        shown: int32 [B, 2], its height and width.

    Returns:
        float32 [B, H, W, 3]
    """
    mean, std = np.float32(config.mean_rgb), np.float32(config.stddev_rgb)
    height, width = images.shape[1:3]
    inside = (ops.arange(height) < shown[:, :1])[:, :, None]
    inside = inside & (ops.arange(width) < shown[:, 1:])[:, None, :]
    normalised = ops.cast(images, "float32") * (1.0 / std) - mean / std
    return ops.where(inside[..., None], normalised, 0.0)
