"""The training loop: epochs of steps, saved, evaluated, resumed, and guarded against NaN."""

import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from efficientdet import processes
from efficientdet.config import Config
from efficientdet.errors import UserError
from efficientdet.inference.validation import EpochEvaluation
from efficientdet.run.callbacks import Callback, is_summary
from efficientdet.run.checkpoints import CheckpointManager, Progress, hold
from efficientdet.run.scoreboard import Scoreboard
from efficientdet.training import bad_batch
from efficientdet.training.engine import StateLost, TrainingEngine
from efficientdet.training.interrupt import Interrupt
from efficientdet.training.schedules import learning_rate
from efficientdet.training.together import follow_writer
from efficientdet.training.train_state import EMA
from efficientdet.wording import counted

logger = logging.getLogger(__name__)

Batch = Mapping[str, np.ndarray]
BAD_STREAK = 3  # non-finite steps in a row before training goes back to a checkpoint
MAX_ROLLBACKS = 3
AT_ONCE = 1e-3  # seconds; logs that take longer to come are of a step that was still running


@dataclass(frozen=True)
class Plan:
    """How long to train, and when to save.

    Attributes:
        batch_size: effective batch, images an update.
        steps_per_epoch: updates between two evaluations.
        save_steps: updates between two checkpoints, apart from those at the end of an epoch.
        best_metric: name of the metric by which the best checkpoint is kept.
        max_seconds: end after so much time in training, evaluations not counted. A learning rate
            that falls to the end of the run falls to the nearer of the two ends.
    """

    batch_size: int
    steps_per_epoch: int
    num_epochs: int
    save_steps: int = 1000
    best_metric: str = "AP"
    max_seconds: float = math.inf


@dataclass(frozen=True)
class StepInFlight:
    """A step that the device may still be busy with.

    Attributes:
        logs: what `TrainingEngine.fetch` takes.
        step, fraction: steps and epochs done with it.
    """

    logs: Any
    batch: Batch
    step: int
    fraction: float
    rate: float


class Trainer:
    """Trains a `TrainingEngine` from where `progress` is to the end of the plan.

    The next step is dispatched, its batch uploaded, before the logs of the one before it are
    fetched: the device waits for no host. Before anything is saved all logs are in, so that a run
    ends in the same bits, with the same lines, as one that looks at each step at once.

    Args:
        engine: model, state and step.
        batches: (data epoch, batches to skip) -> iterator over the rest of that pass.
        evaluate: called after each epoch (None: never); it uses the engine's averages.
    """

    def __init__(
        self,
        engine: TrainingEngine,
        plan: Plan,
        checkpoints: CheckpointManager,
        *,
        batches: Callable[[int, int], Iterator[Batch]],
        evaluate: EpochEvaluation | None,
        callbacks: Sequence[Callback] = (),
    ):
        self.engine, self.plan, self.progress = engine, plan, Progress()
        self._checkpoints = checkpoints
        self._scoreboard = Scoreboard(checkpoints, plan.best_metric)
        self._batches, self._evaluate = batches, evaluate
        self._callbacks = callbacks
        self._compilations = 0  # that the steps so far have been through
        self._in_flight: list[StepInFlight] = []
        self._since = self._waited = 0.0  # the last look at the clock; for input since then

    @property
    def config(self) -> Config:
        """The engine's; a fallback may change it on the way."""
        return self.engine.config

    def resume(self) -> bool:
        """Goes to the newest checkpoint; False if there is none."""
        loaded = self._checkpoints.load_latest()
        if loaded is None:
            self.progress = Progress(steps_per_epoch=self.plan.steps_per_epoch)
            self._scoreboard.truncate(-1)  # whatever stands there is of a run that is gone
            return False
        arrays, progress = loaded
        absent = self.engine.state.load(arrays)
        averages = [name for name in absent if name.endswith(f"/{EMA}")]
        if averages:
            logger.info(
                f"the checkpoint has no moving average of {len(averages)} variables: it begins at "
                "their present values"
            )
        if lacking := [name for name in absent if name not in averages]:
            logger.warning(f"the checkpoint lacks {len(lacking)} variables, first {lacking[0]}")
        self.progress = progress.rescaled(self.plan.steps_per_epoch)
        if progress.steps_per_epoch != self.plan.steps_per_epoch:
            logger.info(
                f"an epoch has {self.plan.steps_per_epoch} steps now, it had "
                f"{progress.steps_per_epoch}: going on at the same place of the same epoch, the "
                "learning rate follows the batch size"
            )
        self._scoreboard.truncate(self.progress.step)
        return True

    def fit(self) -> None:
        """Trains to the end of the plan.

        Raises:
            Stopped: SIGINT or SIGTERM came; a checkpoint was written.
            UserError: non-finite losses that going back did not cure, or no memory, or no disk.
        """
        self._tell_rise()
        try:
            with Interrupt() as interrupt:
                if self.progress.step == 0:
                    self._save()
                while not self._finished(interrupt):
                    self._train_epoch(interrupt)
            if self._evaluate is not None:
                self._evaluate.show_last()
        finally:
            for callback in self._callbacks:
                callback.close()

    def _finished(self, interrupt: Interrupt) -> bool:
        if processes.from_writer(self._evaluation_is_due):
            with interrupt.at_once():  # all is saved; the next start evaluates again
                self._run_evaluation()
        if processes.from_writer(self._should_stop_early):
            logger.info(
                f"no better {self.plan.best_metric} in "
                f"{counted(self.config.early_stopping_epochs, 'evaluation')}: stopping early"
            )
            return True
        return self.progress.epoch >= self.plan.num_epochs or self._is_out_of_time()

    def _is_out_of_time(self) -> bool:
        return self.progress.seconds >= self.plan.max_seconds

    def _train_epoch(self, interrupt: Interrupt) -> None:
        """Steps to the end of the present epoch or of the time, and a checkpoint there."""
        progress, plan = self.progress, self.plan
        self.engine.train_heads_only(progress.epoch < self.config.heads_only_epochs)
        for callback in self._callbacks:
            callback.on_epoch(
                progress.epoch,
                progress.step_in_epoch,
                plan.steps_per_epoch,
                plan.num_epochs,
                self._compilations != self.engine.compilations,
            )
        batches = self._stream()
        while self.progress.step_in_epoch < plan.steps_per_epoch:
            try:
                self._step(batches)
                asked = interrupt.came_to_any()
                if asked or self._is_at_a_stop():
                    self._settle()
            except StateLost:
                self._redo()
                batches = self._stream()
                continue
            if self.progress.bad_streak >= BAD_STREAK:
                self._go_back()
                batches = self._stream()
            if asked:
                self._save()
                processes.part()
                interrupt.stop_if_received()
            if self._is_out_of_time():
                self._end_epoch()
                self._save()
                return
            if self.progress.step % plan.save_steps == 0:
                self._save()
        self._end_epoch()
        self.progress.epoch += 1
        self.progress.step_in_epoch = 0
        self._save()

    def _end_epoch(self) -> None:
        for callback in self._callbacks:
            callback.on_epoch_end()

    def _is_at_a_stop(self) -> bool:
        """Whether no step may be under way now, as all that was done is saved or looked at."""
        step, plan = self.progress.step, self.plan
        is_end = self.progress.step_in_epoch == plan.steps_per_epoch
        return is_end or step % plan.save_steps == 0 or self._is_out_of_time()

    def _step(self, batches: Iterator[Batch]) -> None:
        """Dispatches one update."""
        progress, ahead = self.progress, self.engine.steps_in_flight
        start = time.monotonic()
        if not self._in_flight:
            self._since, self._waited = start, 0.0
        batch = next(batches)
        self._waited += time.monotonic() - start
        rate = self._rate(self.plan.max_seconds)
        logs = self.engine.dispatch(batch, step=progress.step, learning_rate=rate)
        progress.step += 1
        progress.step_in_epoch += 1
        progress.data_examples += self.plan.batch_size
        self._in_flight.append(StepInFlight(logs, batch, progress.step, progress.fraction, rate))
        if self._compilations != self.engine.compilations:
            self._settle()  # alone, for the sake of its time
        elif len(self._in_flight) > ahead:
            self._settle(keep=min(1, ahead))

    def _settle(self, keep: int = 0) -> None:
        """Fetches the logs of all steps but the `keep` newest, and tells the callbacks of them."""
        count = len(self._in_flight) - keep
        if count <= 0:
            return
        done, self._in_flight = self._in_flight[:count], self._in_flight[count:]
        start = time.monotonic() if self.engine.steps_in_flight else math.inf
        rows = self.engine.fetch([one.logs for one in done])
        now = time.monotonic()
        if now - start > AT_ONCE:  # the device was busy while the host waited for input
            self._waited = 0.0
        seconds, share = (now - self._since) / count, self._waited / (now - self._since)
        # Limit of time and guard against NaN: what the writer sees, all go by.
        rows, seconds = processes.from_writer(lambda: (rows, seconds))
        self._since, self._waited = now, 0.0
        for one, logs in zip(done, rows, strict=True):
            self._count_time(seconds, one.step)
            logs |= {
                "learning_rate": one.rate,
                "images_per_second": self.plan.batch_size / seconds,
                "data_wait": share,
            }
            self._tell(one, logs)
            if self.progress.bad_streak >= BAD_STREAK:
                self._in_flight = []  # it goes back: what came after is undone
                break
        self._compilations = self.engine.compilations

    def _tell(self, one: StepInFlight, logs: dict[str, float]) -> None:
        """Counts a step that is done, and tells the callbacks."""
        progress = self.progress
        if logs["finite"] or logs["loss_scale"] > 1.0:  # overflow in float16 is part of the game
            progress.bad_streak = 0
        else:
            progress.bad_streak += 1
            bad_batch.keep(self._checkpoints.folder, one.step, one.batch, logs)
        progress.rows.append(logs)
        for callback in self._callbacks:
            callback.on_step(one.step, one.fraction, logs)
        if is_summary(one.step):
            rows, progress.rows = progress.rows, []
            for callback in self._callbacks:
                callback.on_summary(one.step, one.fraction, rows)

    def _count_time(self, seconds: float, step: int) -> None:
        """Adds what a step took, or, where it compiled, what such steps take."""
        progress, compiled = self.progress, self._compilations != self.engine.compilations
        if compiled:
            seconds = progress.seconds / (step - 1) if step > 1 else 0.0
        elif not progress.seconds:  # the steps before this one compiled, and nothing was known
            seconds *= step
        progress.seconds += seconds

    def _rate(self, max_seconds: float) -> float:
        """The next step's learning rate, when training ends after `max_seconds`."""
        progress, end_step = self.progress, math.inf
        if max_seconds < math.inf and progress.seconds:  # at the pace so far
            done = progress.schedule_step - len(self._in_flight)
            end_step = done * max_seconds / progress.seconds
        rate = learning_rate(
            progress.schedule_step,
            config=self.config,
            batch_size=self.plan.batch_size,
            steps_per_epoch=self.plan.steps_per_epoch,
            end_step=end_step,
        )
        return progress.lr_factor * float(rate)

    def _tell_rise(self) -> None:
        """Says so when another limit of time than at the last start raises the learning rate."""
        before, now = self._rate(self.progress.max_seconds), self._rate(self.plan.max_seconds)
        if now > before:
            logger.info(
                f"there is more time to train than at the last start: the learning rate goes up "
                f"again, from {before:.2g} to {now:.2g}"
            )

    def _stream(self) -> Iterator[Batch]:
        """Batches from the present data position on, pass after pass."""
        while True:
            # After a change of the batch size the position may lie within a batch.
            skip = -(-self.progress.data_examples // self.plan.batch_size)
            empty = skip == 0
            for batch in self._batches(self.progress.data_epoch, skip):
                empty = False
                yield batch
            if empty:
                raise UserError(
                    f"the training records hold fewer images than one batch of "
                    f"{self.plan.batch_size}; lower --train_batch_size"
                )
            self.progress.data_epoch += 1
            self.progress.data_examples = 0

    def _save(self) -> None:
        if not processes.is_writer():
            return
        self.progress.batch_size = self.plan.batch_size
        self.progress.max_seconds = self.plan.max_seconds
        self._checkpoints.save(self.engine.state.arrays(), self.progress)

    def _go_back(self) -> None:
        """Returns to the last checkpoint, at half the learning rate."""
        rollbacks, factor = self.progress.rollbacks + 1, self.progress.lr_factor / 2
        seconds = self.progress.seconds
        if rollbacks > MAX_ROLLBACKS:
            raise UserError(
                f"the loss was not finite {BAD_STREAK} times in a row, {rollbacks} times over, the "
                f"learning rate halved each time. Look at {self._checkpoints.folder}/bad_batches "
                "and run inspect_tfrecord.py on the records; then try a lower learning_rate"
            )
        if processes.is_writer():
            self.resume()
        progress = follow_writer(self.engine.state, self.progress)
        self.progress = dataclasses.replace(
            progress, rollbacks=rollbacks, lr_factor=factor, bad_streak=0, seconds=seconds
        )
        self._save()
        logger.info(
            f"not finite {BAD_STREAK} times in a row: back to step {self.progress.step}, "
            f"learning rate x {factor:g} from here on"
        )

    def _redo(self) -> None:
        """Returns to the last checkpoint after the memory that ran out took the state with it."""
        seconds, self._in_flight = self.progress.seconds, []
        self.resume()
        self.progress.seconds = seconds
        logger.info(f"the weights went with the memory: back to step {self.progress.step}")

    def _evaluation_is_due(self) -> bool:
        """Whether an epoch, or the time, has just ended and its evaluation is not in the log."""
        at_an_end = self.progress.step_in_epoch == 0 or self._is_out_of_time()
        if self._evaluate is None or self.progress.step == 0 or not at_an_end:
            return False
        return not self._scoreboard.has(self.progress.step, self._evaluate.num_images)

    def _run_evaluation(self) -> None:
        engine, prefix = self.engine, self._checkpoints.prefix(self.progress.step)
        if not processes.is_writer():
            self._evaluate.help(engine.detector())
            return
        evaluated = self._evaluate(engine.detector(), prefix)
        with self._evaluate.written(evaluated):
            # Archived before it is logged: a crash in between repeats both.
            with hold(prefix) as checkpoint:
                is_best = self._scoreboard.keep_if_best(
                    checkpoint, evaluated.metrics, self._evaluate.kept
                )
            logger.info(self._scoreboard.line(evaluated.metrics, is_best))
            for callback in self._callbacks:
                callback.on_evaluation(
                    self.progress.step, self.progress.epoch, evaluated.metrics, evaluated.pictures
                )

    def _should_stop_early(self) -> bool:
        return 0 < self.config.early_stopping_epochs <= self._scoreboard.evaluations_since_best()
