"""The learning rate of each step: a linear warm-up, then one of five curves.

In numpy: the rate of one step is a dozen operations on one number, which cost a device more to be
sent than to be done.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from efficientdet.config import Config

BASE_BATCH_SIZE = 64  # the batch that `learning_rate` and `lr_warmup_init` are meant for
STEP_DROP = 0.1


def learning_rate(
    step: ArrayLike,
    *,
    config: Config,
    batch_size: int,
    steps_per_epoch: float,
    end_step: float = math.inf,
) -> np.ndarray:
    """The learning rate of the update that follows `step` updates.

    As AutoML's, but for two of its methods: here `cosine` is counted from the end of the warm-up,
    so that it starts at the full rate and ends at 0, and `constant` has a warm-up too.

    Args:
        step: updates done so far; a number or an array.
        config: `learning_rate`, `num_epochs` and the fields around them.
        batch_size: images of one update, with all its micro-batches and replicas (linear scaling
            rule, Goyal et al. 2017).
        steps_per_epoch: updates of one epoch.
        end_step: where training ends if that is before `num_epochs`: `cosine` and `polynomial`
            come down by then. What is counted in epochs (warm-up, drops, restarts) stays there.

    Returns:
        float32, of the shape of `step`.
    """
    step = np.asarray(step, np.float32)
    warmup_steps = int(config.lr_warmup_epoch * steps_per_epoch)
    warmup = step / max(warmup_steps, 1)
    warmup = config.lr_warmup_init + warmup * (config.learning_rate - config.lr_warmup_init)
    decay = _decay(step, warmup_steps, config, steps_per_epoch, end_step)
    rate = np.where(step < warmup_steps, warmup, config.learning_rate * decay)
    return np.asarray(rate * (batch_size / BASE_BATCH_SIZE), np.float32)


def _decay(
    step: np.ndarray, warmup_steps: int, config: Config, steps_per_epoch: float, end_step: float
) -> np.ndarray:
    """The factor of the base rate, 1 to 0, after the warm-up."""
    total_steps = max(min(config.num_epochs * steps_per_epoch, end_step), 1)
    match config.lr_decay_method:
        case "cosine":
            return _cosine((step - warmup_steps) / max(total_steps - warmup_steps, 1))
        case "cosine_restarts":
            return _cosine_restarts(
                (step - warmup_steps) / (config.restart_epochs * steps_per_epoch)
            )
        case "stepwise":
            drops = config.first_lr_drop_epoch, config.second_lr_drop_epoch
            return STEP_DROP ** _count_reached(step, [int(d * steps_per_epoch) for d in drops])
        case "polynomial":
            return np.maximum(1 - step / total_steps, 0.0) ** config.poly_lr_power
        case "constant":
            return np.ones_like(step)


def _cosine(progress: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.cos(math.pi * np.clip(progress, 0.0, 1.0)))


def _cosine_restarts(periods: np.ndarray) -> np.ndarray:
    """SGDR (Loshchilov & Hutter 2017): period n is 2**n first periods long."""
    restarts = _count_reached(periods, [2.0**n - 1 for n in range(1, 24)])
    length = 2.0**restarts
    return _cosine((periods - (length - 1)) / length)


def _count_reached(value: np.ndarray, bounds: list[float]) -> np.ndarray:
    """How many of the bounds are at or below the value, as float32."""
    return sum(np.float32(value >= bound) for bound in bounds)
