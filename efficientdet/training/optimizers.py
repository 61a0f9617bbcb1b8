"""SGD with momentum and Adam as TensorFlow 1 has them, as pure functions of tensors.

Keras' own give other numbers: its SGD keeps the learning rate inside the velocity, which a warm-up
then distorts; its Adam has another epsilon.
"""

import abc
from typing import Any

from keras import ops

from efficientdet.config import Config

Tensor = Any

ADAM_BETAS = 0.9, 0.999
ADAM_EPSILON = 1e-8


class Optimizer(abc.ABC):
    """State in, state out; a slot is a list of tensors, one for each value."""

    slot_names: tuple[str, ...]  # as in AutoML's checkpoints: `<variable>/<slot name>`

    def init(self, values: list[Tensor]) -> list[list[Tensor]]:
        """The slots before the first update: zeros."""
        return [[ops.zeros_like(value) for value in values] for _ in self.slot_names]

    def update(
        self,
        values: list[Tensor],
        gradients: list[Tensor],
        slots: list[list[Tensor]],
        learning_rate: Tensor,
        step: Tensor,
    ) -> tuple[list[Tensor], list[list[Tensor]]]:
        """One update.

        Args:
            values: float32 tensors.
            gradients: one for each.
            slots: from `init` or the last update.
            learning_rate: a number, a float32 scalar, or a tensor of rates for each element.
            step: number of this update, from 1; a number or a float32 scalar.

        Returns:
            (new values, new slots)
        """
        new_values, new_slots = [], []
        for value, gradient, *own in zip(values, gradients, *slots, strict=True):
            change, *own = self._change(gradient, *own, step=step)
            new_values.append(value - learning_rate * change)
            new_slots.append(own)
        return new_values, [list(slot) for slot in zip(*new_slots, strict=True)]

    @abc.abstractmethod
    def _change(self, gradient: Tensor, *slots: Tensor, step: Tensor) -> tuple:
        """(what the learning rate multiplies, new slots...) of one value."""


class MomentumSGD(Optimizer):
    """v <- momentum * v + g; w <- w - learning_rate * v."""

    slot_names = ("Momentum",)

    def __init__(self, momentum: float):
        self.momentum = momentum

    def _change(self, gradient: Tensor, velocity: Tensor, *, step: Tensor) -> tuple:
        velocity = self.momentum * velocity + gradient
        return velocity, velocity


class Adam(Optimizer):
    """Kingma & Ba 2015, as at the end of section 2: epsilon is not bias-corrected."""

    slot_names = ("Adam", "Adam_1")

    def _change(self, gradient: Tensor, mean: Tensor, square: Tensor, *, step: Tensor) -> tuple:
        beta1, beta2 = ADAM_BETAS
        step = ops.cast(step, "float32")
        correction = ops.sqrt(1 - beta2**step) / (1 - beta1**step)
        mean = mean + (1 - beta1) * (gradient - mean)
        square = square + (1 - beta2) * (ops.square(gradient) - square)
        return correction * mean / (ops.sqrt(square) + ADAM_EPSILON), mean, square


def make_optimizer(config: Config) -> Optimizer:
    """The optimizer that `config.optimizer` names."""
    return Adam() if config.optimizer == "adam" else MomentumSGD(config.momentum)


def clip_by_global_norm(gradients: list[Tensor], max_norm: float) -> tuple[list[Tensor], Tensor]:
    """Limits the joint L2 norm of the gradients to `max_norm` (0: no limit).

    As in AutoML each gradient alone is limited first, so that one huge gradient does not take the
    others down to nothing.

    Returns:
        (the gradients, their joint norm before clipping: float32 scalar)
    """
    norms = ops.sqrt(ops.stack([ops.sum(ops.square(gradient)) for gradient in gradients]))
    joint = _joint(norms)
    if not max_norm:
        return gradients, joint
    limited = _joint(ops.minimum(norms, max_norm))
    factors = max_norm / ops.maximum(norms, max_norm) * max_norm / ops.maximum(limited, max_norm)
    factors = ops.unstack(factors, len(gradients))
    return [g * factor for g, factor in zip(gradients, factors, strict=True)], joint


def _joint(norms: Tensor) -> Tensor:
    return ops.sqrt(ops.sum(ops.square(norms)))
