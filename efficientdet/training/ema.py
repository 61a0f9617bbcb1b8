"""Exponential moving averages of weights and BatchNorm statistics, with TensorFlow 1's warm-up."""

import math
from typing import Any

from keras import ops

Tensor = Any
MUCH = 0.01  # of the first values, at the end of a run


def ema_update(
    shadows: list[Tensor], values: list[Tensor], step: Tensor, decay: float
) -> list[Tensor]:
    """The averages after an update: `shadow + (1 - d) * (value - shadow)`.

    d is `min(decay, (1 + step) / (10 + step))`, so that a short run is not held back by its first
    weights: whatever the decay, less than 1 % of the averages is their start after 4 updates.

    Args:
        shadows: the averages so far, float32.
        values: what they follow, after the update.
        step: updates done, this one included; a number or a float32 scalar.
        decay: in 0..1.
    """
    rate = 1.0 - ops.minimum(decay, (1.0 + step) / (10.0 + step))
    return [shadow + rate * (value - shadow) for shadow, value in zip(shadows, values, strict=True)]


def slow_statistics(momentum: float, steps: int) -> str | None:
    """A sentence if BatchNorm's moving statistics still hold much of their start after a run.

    Unlike the averages above they have no warm-up, and new layers begin at mean 0 and variance 1.

    Args:
        momentum: `batch_norm_momentum`.
        steps: updates of the whole run.
    """
    share = momentum**steps
    if share <= MUCH:
        return None
    enough = math.floor(100 * MUCH ** (1 / steps)) / 100
    return (
        f"batch_norm_momentum={momentum:g}: {100 * share:.2g}% of BatchNorm's statistics will be "
        f"their start after {steps} steps; with {enough:g} it is "
        f"{MUCH:.0%} at most"
    )
