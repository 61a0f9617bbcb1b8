"""A model with the state and the compiled step that train it; rebuilt when memory runs out."""

import dataclasses
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from efficientdet import backend, processes
from efficientdet.config import Config
from efficientdet.errors import UserError
from efficientdet.inference.detector import Detector
from efficientdet.inference.precision import compute_policy
from efficientdet.model import freeze
from efficientdet.model.detector import build_detector, part_of
from efficientdet.training.fallback import decide_batch_norm, next_fallback
from efficientdet.training.optimizers import make_optimizer
from efficientdet.training.train_state import TrainState
from efficientdet.training.train_step import TrainStep

logger = logging.getLogger(__name__)

LARGEST_BATCH = 64


class StateLost(Exception):
    """Memory ran out, room was made, but weights and slots are gone: load a checkpoint."""


class TrainingEngine:
    """Does training steps, and makes room on the device when one does not fit.

    Args:
        config: with `is_training_bn` decided for its micro-batch.
        changed: receives the config when a lack of memory changed it.

    Attributes:
        compilations: how often the step was made anew; the next one compiles it.
    """

    def __init__(
        self,
        config: Config,
        *,
        changed: Callable[[Config], None] = lambda config: None,
    ):
        self.config, self._changed = config, changed
        self._heads_only, self.compilations, self._batch_size = False, 0, 1
        self._detector: Detector | None = None
        self._restored: Collection[str] | None = None
        self.build()

    def started_from(self, restored: Collection[str] | None) -> None:
        """Says which variables began with a checkpoint's values; None: the run began at random.

        BatchNorms that are not among them are never frozen; a fallback may freeze the others.
        """
        if restored != self._restored:
            self._restored = restored
            self.compile_step()

    def build(self) -> None:
        """A new model of the present config, with its state; the weights are random again."""
        keras.config.set_dtype_policy(compute_policy(self.config))
        keras.utils.set_random_seed(self.config.seed)
        self.model = build_detector(self.config)
        optimizer = make_optimizer(self.config)
        self.state = TrainState(self.model, optimizer, self.config)
        self._optimizer = optimizer
        self.compile_step()

    def compile_step(self) -> None:
        """(Re)makes the step, after what is frozen has changed."""
        frozen = freeze.apply(
            self.model,
            self.config,
            parts=("backbone", "fpn") if self._heads_only else (),
            restored=self._restored,
        )
        scales = {"backbone": self.config.backbone_lr_scale}
        self.freeze_report = frozen
        self.compilations += 1
        self.step = TrainStep(
            self.model,
            self.state,
            self._optimizer,
            self.config,
            masks=[name not in frozen.frozen_names for name in self.state.names],
            lr_scales=[scales.get(part_of(name), 1.0) for name in self.state.names],
        )

    def train_heads_only(self, heads_only: bool) -> None:
        """Freezes backbone and BiFPN, or releases them again."""
        if heads_only != self._heads_only:
            self._heads_only = heads_only
            self.compile_step()
            what = "the heads alone" if heads_only else "all parts"
            logger.info(f"from here on {what} are trained")

    @property
    def steps_in_flight(self) -> int:
        """How many steps may be under way before the logs of the first are fetched."""
        if self.config.fetch_steps is not None:
            return self.config.fetch_steps
        return int(backend.runs_ahead())

    def update(
        self, batch: Mapping[str, np.ndarray], *, step: int, learning_rate: float
    ) -> dict[str, float]:
        """`dispatch` and `fetch` of one step."""
        (logs,) = self.fetch([self.dispatch(batch, step=step, learning_rate=learning_rate)])
        return logs

    def dispatch(self, batch: Mapping[str, np.ndarray], *, step: int, learning_rate: float) -> Any:
        """One step, see `TrainStep`; on out-of-memory a fallback is taken and the step redone.

        Returns:
            What `fetch` takes. The step may still be under way.

        Raises:
            StateLost: out of memory, and there is no state left to redo the step with.
            UserError: it does not fit even with every fallback.
        """
        self._batch_size = len(batch["images"])
        while True:
            try:
                return self.step(batch, step=step, learning_rate=learning_rate)
            except Exception as error:
                if not backend.is_out_of_memory(error):
                    raise
            self._make_room()

    def fetch(self, dispatched: Sequence[Any]) -> list[dict[str, float]]:
        """The logs of steps, by name, when they are done; the host waits once for all of them.

        Raises:
            StateLost: memory ran out in one of them; those after it are void.
            UserError: and nothing is left to give up.
        """
        try:
            rows = backend.fetch(dispatched)
        except Exception as error:
            if not backend.is_out_of_memory(error):
                raise
            rows = None
        if rows is None:  # outside the except, which would keep the step's tensors alive
            self._make_room(is_lost=True)
        return [dict(zip(self.step.log_names, row.tolist(), strict=True)) for row in rows]

    def detector(self) -> Detector:
        """The model with the averages of its weights; compiled once for each model."""
        if self._detector is None or self._detector.model is not self.model:
            self._detector = Detector(self.model, self.config)
        self._detector.values = self.state.evaluation_values()
        return self._detector

    def largest_batch(
        self,
        height: int,
        width: int,
        max_objects: int,
        *,
        multiple_of: int = 1,
        at_most: int = LARGEST_BATCH,
    ) -> int:
        """Doubles the batch, with real steps, until one does not fit; the state stays as it was.

        Args:
            height, width: of the input, pixels.
            max_objects: boxes of an image.
            multiple_of: the smallest batch: micro-batches and devices need equal shares.
            at_most: images there are.

        Raises:
            UserError: not even the smallest fits.
        """
        arrays, fits, size = self.state.arrays(), 0, multiple_of
        while size <= max(multiple_of, min(LARGEST_BATCH, at_most)):
            batch = {
                "images": np.zeros((size, height, width, 3), np.float32),
                "boxes": np.tile(np.float32([[0, 0, 32, 32]]), (size, max(1, max_objects), 1)),
                "classes": np.ones((size, max(1, max_objects)), np.int32),
            }
            try:
                backend.fetch([self.step(batch, step=0, learning_rate=0.0)])
            except Exception as error:
                if not backend.is_out_of_memory(error):
                    raise
                break
            fits, size = size, 2 * size
        self.state.load(arrays)
        if not fits:
            steps = self.config.grad_accum_steps
            least = f"{size} images in {steps} micro-batches" if size > 1 else "one image"
            raise UserError(f"out of memory with {least}; say {self.config.name} a smaller input")
        logger.info(f"--train_batch_size=auto: {fits} images fit")
        return fits

    def _make_room(self, *, is_lost: bool = False) -> None:
        """Builds all anew with the next fallback, and keeps the state if there still is one."""
        batch_size = self._batch_size
        fallback = next_fallback(self.config, batch_size)
        if fallback is None:
            raise UserError(
                f"out of memory with {self.config.name} at {self.config.image_size}, micro-batch "
                f"{batch_size // self.config.grad_accum_steps}, mixed precision and remat on: "
                "take a smaller image_size or model "
                "(`python -m efficientdet.commands.memory` prints what fits)"
            )
        changes, line = fallback
        if processes.count() > 1:  # the others are within the step, and cannot be called back
            said = ",".join(f"{name}={value}" for name, value in changes.items())
            raise UserError(
                "out of memory, and several processes do not make room by themselves: add "
                f"--hparams={said} to the command of each; it goes on from the newest checkpoint"
            )
        logger.info(f"out of memory: {line}; the step is done again")
        is_lost = is_lost or backend.is_lost(self.state.read())
        arrays = {} if is_lost else self.state.arrays()
        self.config = decide_batch_norm(
            dataclasses.replace(self.config, **changes),
            batch_size,
            loaded=self._restored is not None,
        )
        self._changed(self.config)
        self._detector = None
        del self.step, self.state, self.model
        self.build()
        if is_lost:
            raise StateLost
        self.state.load(arrays)
