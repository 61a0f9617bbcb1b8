"""Exponential moving averages of weights and BatchNorm statistics, with TensorFlow 1's warm-up."""

from typing import Any

from keras import ops

Tensor = Any


def ema_update(
    shadows: list[Tensor], values: list[Tensor], step: Tensor, decay: float
) -> list[Tensor]:
    """The averages after an update: `shadow + (1 - d) * (value - shadow)`.

    d is `min(decay, (1 + step) / (10 + step))`, so that a short run is not held back by its first
    weights.

    Args:
        shadows: the averages so far, float32.
        values: what they follow, after the update.
        step: updates done, this one included; a number or a float32 scalar.
        decay: in 0..1.
    """
    rate = 1.0 - ops.minimum(decay, (1.0 + step) / (10.0 + step))
    return [shadow + rate * (value - shadow) for shadow, value in zip(shadows, values, strict=True)]
