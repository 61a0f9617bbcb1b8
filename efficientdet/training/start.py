"""Puts a training run together: records, configuration, weights, loop."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import keras
import numpy as np
from rich.console import Console

from efficientdet import backend
from efficientdet.checkpoint.report import RestoreReport
from efficientdet.checkpoint.restore import restore
from efficientdet.checkpoint.stored import require
from efficientdet.config import Config, nearest
from efficientdet.console import printer
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UsageError, UserError
from efficientdet.input.pipeline import InputPipeline
from efficientdet.input.record_set import RecordSet
from efficientdet.run_directory import RunDirectory
from efficientdet.training import preflight as before_start
from efficientdet.training.callbacks import MetricsFile, ProgressBar, TensorBoard
from efficientdet.training.checkpoints import Checkpoints
from efficientdet.training.learner import Learner
from efficientdet.training.metrics_log import MetricsLog
from efficientdet.training.precision import explain_precision
from efficientdet.training.trainer import Plan, Trainer
from efficientdet.training.validation import EpochEvaluation, Validator, obeyed

FROZEN_BN_BELOW = 8  # images in a micro-batch


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
    batch_size: int | None,
    eval_batch_size: int,
    num_examples: int | None,
    max_minutes: float | None,
    eval_samples: int | None,
    save_steps: int,
    keep: int,
    best_metric: str,
    preflight: bool,
) -> None:
    """Trains, and evaluates after each epoch if there is a `val_pattern`; resumes where it can.

    Args:
        model_dir: folder of the run; a checkpoint in it is gone on from.
        overrides: hyper-parameters of the command line.
        batch_size: images an update; None: the most that fits.
        num_examples: images an epoch; None: those of the records.
        max_minutes: end after so much training, earlier starts of the run counted; None: never.
    """
    console = Console()
    say = printer(console)
    run = RunDirectory(model_dir, say)
    records = RecordSet.open(train_pattern, label_map_path, say)
    validation = RecordSet.open(val_pattern, label_map_path, say) if val_pattern else None
    label_map = run.label_map(records.label_map)
    if validation and validation.label_map != label_map:
        raise UserError(f"{val_pattern}: made with another label map than {train_pattern}")
    config = run.config(model_name, overrides, label_map)
    if not run.exists:
        config = _decide_batch_norm(config, batch_size, loaded=start.path is not None, say=say)
    if batch_size and batch_size % config.grad_accum_steps:
        raise UsageError(
            f"grad_accum_steps={config.grad_accum_steps} does not divide the batch of {batch_size}"
        )
    checkpoints = Checkpoints(run.path, keep=keep, warn=say)
    if start.path and not checkpoints.steps():
        require(start.path)
    explain_precision(config, say)
    if preflight:
        before_start.check_records(records, validation, config=config, say=say)
    evaluate = None
    if validation:
        count = obeyed("eval_samples", eval_samples, validation.num_examples, say)
        validator = Validator(
            validation, config, eval_batch_size, num_images=count, console=console
        )
        _check_metric(best_metric, validator.metric_names)
        evaluate = EpochEvaluation(validator, run.path / "eval")

    learner = Learner(config, say=say, changed=lambda changed: run.write(changed, label_map))
    batch_size = batch_size or _fitting_batch(checkpoints, learner, records)
    examples = obeyed("num_examples_per_epoch", num_examples, records.num_examples, say)
    plan = Plan(
        batch_size,
        steps_per_epoch=max(1, examples // batch_size),
        num_epochs=config.num_epochs,
        save_steps=save_steps,
        best_metric=best_metric,
        max_seconds=math.inf if max_minutes is None else 60 * max_minutes,
    )
    batches = _training_batches(records, config, batch_size, examples, say)
    if preflight:
        before_start.check_disk(learner.model, run.path, keep=keep)
        for first in islice(batches(0, 0), 1):  # without one, the trainer says so
            before_start.draw_batch(first, run.path / "preflight.png", config=config)

    log = MetricsLog(run.path / "metrics.jsonl")
    trainer = Trainer(
        learner,
        plan,
        checkpoints,
        log,
        batches=batches,
        evaluate=evaluate,
        callbacks=[ProgressBar(console), MetricsFile(log), TensorBoard(run.path)],
        say=say,
    )
    _resume_or_load(trainer, start, run, label_map, console)
    run.write(config, label_map)  # from here on it is a run: all that could be refused was
    say(_headline(learner, plan, records))
    if max_minutes is not None:
        say(_time_and_rate(config, max_minutes))
    console.print(learner.freeze_report.table())
    trainer.fit()
    progress = trainer.progress
    say(
        f"done: {progress.step} steps in {progress.seconds / 60:.1f} minutes of training, "
        f"checkpoints and metrics in {run.path}"
    )


def _resume_or_load(
    trainer: Trainer, start: Start, run: RunDirectory, label_map: LabelMap, console: Console
) -> None:
    """Brings the learner to the run's newest checkpoint, else to the weights to start from."""
    say = printer(console)
    if trainer.resume():
        if start.path:
            say(f"{start.path} is not read again: the run is past its start")
        say(f"going on at step {trainer.progress.step}, epoch {trainer.progress.epoch + 1}")
    elif start.path:
        report = start.load_into(trainer.learner, label_map)
        console.print(report.table())
        report.write(run.path)


def _check_metric(name: str, known: Sequence[str]) -> None:
    """Now, and not after the first epoch."""
    if name not in known:
        raise UsageError(
            f"--best_metric={name}: these validation records have no such metric"
            f"{nearest(name, known)}"
        )


def _fitting_batch(checkpoints: Checkpoints, learner: Learner, records: RecordSet) -> int:
    """The batch of a run that goes on, so that its optimisation stays the same; else what fits."""
    loaded = checkpoints.load_latest()
    if loaded and loaded[1].batch_size:
        return loaded[1].batch_size
    if not backend.has_gpu():
        raise UsageError(
            "--train_batch_size=auto tries what fits on the GPU, and there is none; say a number"
        )
    return learner.largest_batch(*learner.config.image_hw, records.max_objects)


def _decide_batch_norm(
    config: Config, batch_size: int | None, *, loaded: bool, say: Callable[[str], None]
) -> Config:
    """At the start of a run: freezes BatchNorm statistics where nobody said what to do.

    Statistics of a few images are noise. Those of a loaded checkpoint are better as long as the
    micro-batch is small; a random network has none worth keeping. (None stays None otherwise: then
    the parts that are frozen as a whole keep theirs.)
    """
    micro = max(1, (batch_size or 1) // config.grad_accum_steps)  # auto: likely a small card
    if config.is_training_bn is not None or not loaded or micro >= FROZEN_BN_BELOW:
        return config
    say(f"BatchNorm statistics stay as loaded: {micro} images in a micro-batch are too few")
    return dataclasses.replace(config, is_training_bn=False)


def _training_batches(
    records: RecordSet,
    config: Config,
    batch_size: int,
    examples_per_epoch: int,
    say: Callable[[str], None],
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
        say=say,
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
