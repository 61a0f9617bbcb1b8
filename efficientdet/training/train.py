"""Puts a training run together: records, configuration, weights, loop."""

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import keras
import numpy as np
from rich.console import Console

from efficientdet import backend
from efficientdet.checkpoint.report import REPORT_FILE, RestoreReport, read_restored_names
from efficientdet.checkpoint.restore import restore
from efficientdet.checkpoint.stored import require
from efficientdet.config import Config
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UsageError, UserError
from efficientdet.inference.precision import explain_precision
from efficientdet.inference.validation import EpochEvaluation, Validator, check_metric, obeyed
from efficientdet.input.pipeline import InputPipeline
from efficientdet.input.record_set import RecordSet
from efficientdet.run.callbacks import MetricsFile, TensorBoard
from efficientdet.run.checkpoints import Checkpoints
from efficientdet.run.directory import RunDirectory
from efficientdet.run.metrics_log import MetricsLog
from efficientdet.training import preflight as before_start
from efficientdet.training.engine import Learner
from efficientdet.training.fallback import decide_batch_norm
from efficientdet.training.progress_bar import ProgressBar
from efficientdet.training.trainer import Plan, Trainer

logger = logging.getLogger(__name__)

DEFAULT_BATCH = 64  # AutoML's


@dataclass(frozen=True)
class Start:
    """Which weights a fresh run begins with; see the flags of main.py."""

    ckpt: str | None = None
    backbone_ckpt: str | None = None  # not both
    classes: str = "auto"
    init_classes: bool = False
    allow_partial: bool = False

    @property
    def path(self) -> str | None:
        """The checkpoint to read, if any."""
        return self.ckpt or self.backbone_ckpt

    def load_into(self, learner: Learner, label_map: LabelMap) -> RestoreReport:
        """Restores the model's weights from `path`; the averages begin with them."""
        report = restore(
            learner.model,
            self.path,
            learner.config,
            label_map=label_map,
            backbone_only=self.backbone_ckpt is not None,
            classes=self.classes,
            init_classes=self.init_classes,
            allow_partial=self.allow_partial,
        )
        learner.state.reset_shadows()
        learner.started_from(report.restored_names)
        return report


def train(
    model_dir: str,
    *,
    model_name: str | None,
    overrides: Mapping[str, Any],
    train_pattern: str,
    val_pattern: str | None,
    label_map_path: str | None,
    start: Start,
    batch_size: int | Literal["auto"] | None,
    eval_batch_size: int,
    num_examples: int | None,
    max_minutes: float | None,
    eval_samples: int | None,
    save_steps: int,
    keep: int,
    preflight: bool,
) -> None:
    """Trains, and evaluates after each epoch if there is a `val_pattern`; resumes where it can.

    Args:
        model_dir: folder of the run; a checkpoint in it is gone on from.
        overrides: hyper-parameters of the command line.
        batch_size: images an update; None or `auto`: the run's own, else 64, or the most that fits.
        num_examples: images an epoch; None: those of the records.
        max_minutes: end after so much training, earlier starts of the run counted; None: never.
    """
    console = Console()
    run = RunDirectory(model_dir)
    records = RecordSet.open(train_pattern, label_map_path, run.stored_label_map)
    label_map = run.label_map(records.label_map)
    validation = None
    if val_pattern:
        validation = RecordSet.open(val_pattern, label_map_path, label_map)
        if validation.label_map != label_map:
            raise UserError(
                f"{val_pattern} was made with the classes {validation.label_map}, {train_pattern} "
                f"with {label_map}; convert both with the same --label_map_path and --classes"
            )
    config = run.config(model_name, overrides, label_map, start.path)
    checkpoints = Checkpoints(run.path, keep=keep)
    batch_size = _known_batch(batch_size, checkpoints)
    if batch_size and batch_size % config.grad_accum_steps:
        raise UsageError(
            f"grad_accum_steps={config.grad_accum_steps} does not divide the batch of {batch_size}"
        )
    resuming = bool(checkpoints.steps())
    if start.path and not resuming:
        require(start.path)
    unit = math.lcm(config.grad_accum_steps, backend.num_devices())
    _check_batch(batch_size or unit, records, config)
    if batch_size or not resuming:  # auto: likely a small card, and when resuming the same again
        loaded = read_restored_names(run.path) is not None if resuming else start.path is not None
        config = decide_batch_norm(config, batch_size or 1, loaded=loaded)
    explain_precision(config)
    if preflight:
        before_start.check_records(records, validation, config=config)
    evaluate = None
    if validation:
        count = obeyed("eval_samples", eval_samples, validation.num_examples)
        validator = Validator(
            validation, config, eval_batch_size, num_images=count, console=console
        )
        check_metric(config.best_metric, validator.metric_names)
        evaluate = EpochEvaluation(validator, run.path / "eval")

    learner = Learner(config, changed=lambda changed: run.write(changed, label_map))
    batch_size = batch_size or learner.largest_batch(
        *config.image_hw, records.max_objects, multiple_of=unit, at_most=records.num_examples
    )
    examples = obeyed("num_examples_per_epoch", num_examples, records.num_examples)
    plan = Plan(
        batch_size,
        steps_per_epoch=max(1, examples // batch_size),
        num_epochs=config.num_epochs,
        save_steps=save_steps,
        best_metric=config.best_metric,
        max_seconds=math.inf if max_minutes is None else 60 * max_minutes,
    )
    batches = _training_batches(records, config, batch_size, examples)
    if preflight:
        before_start.check_disk(learner.model, run.path, keep=keep)
        for first in islice(batches(0, 0), 1):  # without one, the trainer says so
            before_start.draw_batch(first, run.path / "preflight.png", config=config)

    log = MetricsLog(run.path / "metrics.jsonl")
    trainer = Trainer(
        learner,
        plan,
        checkpoints,
        batches=batches,
        evaluate=evaluate,
        callbacks=[ProgressBar(console), MetricsFile(log), TensorBoard(run.path)],
    )
    _resume_or_load(trainer, start, run, label_map, console)
    run.write(config, label_map)  # from here on it is a run: all that could be refused was
    logger.info(_headline(learner, plan, records))
    if max_minutes is not None:
        logger.info(_time_and_rate(config, max_minutes))
    console.print(learner.freeze_report.table())
    trainer.fit()
    progress = trainer.progress
    logger.info(
        f"done: {progress.step} steps in {progress.seconds / 60:.1f} minutes of training, "
        f"checkpoints and metrics in {run.path}"
    )


def _resume_or_load(
    trainer: Trainer, start: Start, run: RunDirectory, label_map: LabelMap, console: Console
) -> None:
    """Brings the learner to the run's newest checkpoint, else to the weights to start from."""
    if trainer.resume():
        trainer.learner.started_from(read_restored_names(run.path))
        if start.path:
            logger.info(f"{start.path} is not read again: the run is past its start")
        logger.info(f"going on at step {trainer.progress.step}, epoch {trainer.progress.epoch + 1}")
    elif start.path:
        report = start.load_into(trainer.learner, label_map)
        console.print(report.table())
        report.write(run.path)
    else:
        (run.path / REPORT_FILE).unlink(missing_ok=True)  # of a run that is gone


def _known_batch(asked: int | Literal["auto"] | None, checkpoints: Checkpoints) -> int | None:
    """Images an update, as far as known before there is a model; None: what fits must be tried.

    A run that goes on keeps its own, so that its optimisation stays the same.
    """
    if isinstance(asked, int):
        return asked
    loaded = checkpoints.load_latest()
    if loaded and loaded[1].batch_size:
        stored = loaded[1].batch_size
        logger.info(
            f"going on with the run's batch of {stored} images; --train_batch_size changes it"
        )
        return stored
    if asked is None:
        if loaded:
            logger.info(
                f"the run's checkpoint does not tell its batch: going on with {DEFAULT_BATCH}"
            )
        return DEFAULT_BATCH
    if not backend.has_gpu():
        raise UsageError(
            "--train_batch_size=auto tries what fits on the GPU, and there is none; say a number"
        )
    return None


def _check_batch(batch_size: int, records: RecordSet, config: Config) -> None:
    """Raises UsageError if no update could be made of so many images."""
    devices = backend.num_devices()
    if batch_size % devices:
        raise UsageError(f"--train_batch_size={batch_size} is no multiple of {devices} GPUs")
    # Frames that are repeated make a pass longer than the records.
    if batch_size > records.num_examples and not config.repeat_threshold:
        raise UsageError(
            f"a batch of {batch_size} images, but the training records hold "
            f"{records.num_examples}: lower --train_batch_size (or grad_accum_steps)"
        )


def _training_batches(
    records: RecordSet,
    config: Config,
    batch_size: int,
    examples_per_epoch: int,
) -> Callable[[int, int], Iterator[Mapping[str, np.ndarray]]]:
    pipeline = InputPipeline(
        records.files,
        config,
        batch_size=batch_size,
        training=True,
        num_classes=config.num_classes,
        max_instances=_instances(records, config),
        seed=config.seed,
        examples_per_epoch=examples_per_epoch,
    )
    return lambda epoch, skip: pipeline.batches(epoch=epoch, skip_batches=skip)


def _instances(records: RecordSet, config: Config) -> int:
    """Rows for boxes in a batch: what the fullest image needs after mosaic and copy-paste."""
    return max(
        1, records.max_objects * (4 if config.mosaic_prob else 1) + (config.copy_paste_prob > 0)
    )


def _time_and_rate(config: Config, minutes: float) -> str:
    """What a limit of time does to the learning rate, in a line."""
    method, limit = config.lr_decay_method, f"--max_train_minutes={minutes:g}"
    if method in ("cosine", "polynomial"):
        return (
            f"{limit}: the learning rate comes down to 0 by then or by the end of epoch "
            f"{config.num_epochs}, whichever is nearer"
        )
    return (
        f"{limit}: lr_decay_method={method} does not heed it; cosine and polynomial come down by "
        "then"
    )


def _headline(learner: Learner, plan: Plan, records: RecordSet) -> str:
    config = learner.config
    height, width = config.image_hw
    micro = f" in {config.grad_accum_steps} micro-batches" if config.grad_accum_steps > 1 else ""
    parameters = sum(math.prod(v.shape) for v in learner.model.trainable_variables)
    return (
        f"{config.name}, input {width}x{height}, {config.num_classes} classes, "
        f"{parameters / 1e6:.2f} M parameters, {keras.config.dtype_policy().name} on "
        f"{backend.device()} ({keras.backend.backend()})\n"
        f"{records.num_examples} training images, batch {plan.batch_size}{micro}, "
        f"{plan.steps_per_epoch} steps an epoch, {plan.num_epochs} epochs"
    )
