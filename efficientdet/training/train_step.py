"""One optimizer update of the effective batch, as one pure function of state and batch."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from efficientdet import backend
from efficientdet.config import Config
from efficientdet.model import losses, pixels, targets
from efficientdet.model.anchors import Anchors
from efficientdet.training.ema import ema_update
from efficientdet.training.optimizers import Optimizer, clip_by_global_norm
from efficientdet.training.train_state import TrainState

State = dict[str, list]
LOSS_SCALE_GROWTH_STEPS = 2000
# What is told of a step besides the terms of its loss.
LOG_NAMES = ("reg_l2_loss", "loss", "gradient_norm", "num_positives", "finite", "loss_scale")


class TrainStep:
    """Computes targets, losses and gradients, clips, and applies them once.

    The loss is normalised by the positives of the whole effective batch. So targets and the one
    normaliser come first; the micro-batches' losses and gradients then simply add up, and the
    update does not depend on how the batch was cut (BatchNorm statistics of a micro-batch do,
    unless they are frozen).

    Args:
        model: from `build_detector`, of which `state` holds the variables.
        config: hyper-parameters; `grad_accum_steps` is the number of micro-batches.
        masks: per trainable variable, whether it is updated (False: frozen).
        lr_scales: per trainable variable, a factor on the learning rate.
    """

    def __init__(
        self,
        model: keras.Model,
        state: TrainState,
        optimizer: Optimizer,
        config: Config,
        *,
        masks: list[bool],
        lr_scales: list[float],
    ):
        self._model, self._state, self._optimizer, self._config = model, state, optimizer, config
        self._masks, self._lr_scales = masks, lr_scales
        self._anchors = Anchors(config).boxes
        self._dynamic_scale = keras.config.dtype_policy().compute_dtype == "float16"
        self._update = backend.compile_update(
            self._pure, state.read, state.write, config.grad_accum_steps
        )
        self.log_names = (*losses.loss_names(config), *LOG_NAMES)

    def __call__(self, batch: Mapping[str, np.ndarray], *, step: int, learning_rate: float) -> Any:
        """Updates the state by one effective batch, and does not wait until that is done.

        Args:
            batch: `images` [B, H, W, 3], `boxes` [B, M, 4] float32, `classes` [B, M] int32, with
                uint8 images `shown` too, as the input pipeline makes them; B is a multiple of
                `grad_accum_steps`.
            step: updates done before this one.
            learning_rate: of this update, before `lr_scales`.

        Returns:
            A float32 vector on the device, in the order of `log_names`: `cls_loss`, `box_loss`,
            `det_loss`, `reg_l2_loss`, `loss`, `gradient_norm`, `num_positives`, `finite` (0.0: loss
            or gradient was not finite; nothing was changed) and `loss_scale`.
        """
        keys = ("images", "boxes", "classes", "shown")
        inputs = {key: np.asarray(batch[key]) for key in keys if key in batch}
        inputs["step"] = np.float32(step)
        inputs["learning_rate"] = np.float32(learning_rate)
        return self._update(inputs)

    def _pure(self, state: State, inputs: Mapping[str, Any]) -> tuple[State, Any]:
        config = self._config
        assigned = targets.assign(self._anchors, inputs["boxes"], inputs["classes"], config=config)
        normaliser, positives = losses.normaliser(
            assigned.num_positives, config, state["positives"][0]
        )
        images = inputs["images"]
        if "shown" in inputs:
            images = pixels.normalise(images, inputs["shown"], config)
        gradients, statistics, logs = self._gradients(state, images, assigned, normaliser)
        (logs["reg_l2_loss"], _), decay = backend.value_and_grad(self._l2_loss, state["trainables"])
        logs["loss"] = logs["det_loss"] + logs["reg_l2_loss"]
        gradients = [
            g + d if mask else ops.zeros_like(g)
            for g, d, mask in zip(gradients, decay, self._masks, strict=True)
        ]
        gradients, norm = clip_by_global_norm(gradients, config.clip_gradients_norm)
        finite = ops.isfinite(norm) & ops.isfinite(logs["loss"])
        new_state = self._apply(state, finite, gradients, statistics, positives, inputs)
        logs |= {
            "gradient_norm": norm,
            "num_positives": ops.sum(assigned.num_positives),
            "finite": ops.cast(finite, "float32"),
            "loss_scale": state["loss_scale"][0] if self._dynamic_scale else ops.ones(()),
        }
        return new_state, ops.stack([logs[name] for name in self.log_names])

    def _gradients(
        self, state: State, images: Any, assigned: targets.Targets, normaliser: Any
    ) -> tuple[list, list, dict[str, Any]]:
        """Gradients of det_loss, new BN statistics and losses, summed over the micro-batches."""
        steps = self._config.grad_accum_steps
        scale = self._loss_scale(state)
        micro = [backend.cut(x, steps) for x in (images, *assigned)]

        def loss_fn(trainables: list, statistics: list, images: Any, assigned: targets.Targets):
            outputs, statistics = self._model.stateless_call(
                trainables, statistics, images, training=True
            )
            parts = losses.detection_loss(
                outputs, assigned, self._anchors, config=self._config, normaliser=normaliser
            )
            return parts["det_loss"] * scale, (parts, statistics)

        def body(i: Any, carry: tuple) -> tuple:
            gradients, statistics, sums = carry
            images, *rest = [x[i] for x in micro]
            (_, (parts, statistics)), new = backend.value_and_grad(
                loss_fn, state["trainables"], statistics, images, targets.Targets(*rest)
            )
            gradients = [
                a + ops.cast(b, a.dtype) / scale for a, b in zip(gradients, new, strict=True)
            ]
            return gradients, statistics, {key: sums[key] + parts[key] for key in sums}

        start = (
            [ops.zeros_like(w) for w in state["trainables"]],
            state["statistics"],
            {key: ops.zeros((), "float32") for key in losses.loss_names(self._config)},
        )
        return backend.repeat(steps, body, start)

    def _l2_loss(self, trainables: list) -> tuple[Any, None]:
        named = zip(self._state.names, trainables, strict=True)
        return losses.l2_loss(named, self._config), None

    def _apply(
        self,
        state: State,
        finite: Any,
        gradients: list,
        statistics: list,
        positives: Any,
        inputs: Mapping[str, Any],
    ) -> State:
        """The state after the update; where something was not finite, the state before it."""

        def unless_bad(new: list, old: list) -> list:
            return [ops.where(finite, n, o) for n, o in zip(new, old, strict=True)]

        flat, slot_names = self._state.flat, self._optimizer.slot_names
        weights, slots = flat(state["trainables"]), [state[name] for name in slot_names]
        updates = state["updates"][0] + 1.0
        values, new_slots = self._optimizer.update(
            [weights],
            [flat(gradients)],
            slots,
            inputs["learning_rate"] * self._learning_rate_scales(),
            updates,
        )
        new = {
            **state,
            "trainables": self._state.unflat(*unless_bad(values, [weights])),
            "statistics": unless_bad(statistics, state["statistics"]),
            "positives": unless_bad([positives], state["positives"]),
            "updates": unless_bad([updates], state["updates"]),
            **self._next_loss_scale(state, finite),
        }
        for name, slot, old in zip(slot_names, new_slots, slots, strict=True):
            new[name] = unless_bad(slot, old)
        if self._state.has_ema:
            shadows = ema_update(
                state["shadows"],
                self._state.averaged(new),
                inputs["step"] + 1.0,
                self._config.moving_average_decay,
            )
            new["shadows"] = unless_bad(shadows, state["shadows"])
        return new

    def _learning_rate_scales(self) -> Any:
        """1.0, or a vector for the flat weights: 0 where frozen, else the variable's own scale."""
        scales = [s * m for s, m in zip(self._lr_scales, self._masks, strict=True)]
        if set(scales) == {1.0}:
            return 1.0
        weights = self._state.trainables
        return self._state.flat(
            [ops.full(w.shape, s) for w, s in zip(weights, scales, strict=True)]
        )

    def _loss_scale(self, state: State) -> Any:
        if not self._dynamic_scale:
            return 1.0
        return self._config.loss_scale or state["loss_scale"][0]

    def _next_loss_scale(self, state: State, finite: Any) -> State:
        """Halved on overflow, doubled after 2000 finite steps (Micikevicius et al., 2018)."""
        scale, good = state["loss_scale"][0], state["good_steps"][0] + 1.0
        grow = good >= LOSS_SCALE_GROWTH_STEPS
        grown = ops.where(grow, scale * 2.0, scale)
        shrunk = ops.maximum(scale / 2.0, 1.0)
        return {
            "loss_scale": [ops.where(finite, grown, shrunk)],
            "good_steps": [ops.where(finite & ~grow, good, 0.0)],
        }
