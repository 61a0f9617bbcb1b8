"""Puts a training run together: records, configuration, weights, loop."""

import dataclasses
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import keras
import numpy as np
from rich.table import Table

from efficientdet import backend, processes
from efficientdet.checkpoint.report import REPORT_FILE, read_restored_names
from efficientdet.checkpoint.restore import restore
from efficientdet.checkpoint.stored import require
from efficientdet.config import Config, flatten
from efficientdet.console import console
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UsageError, UserError
from efficientdet.inference.precision import explain_precision
from efficientdet.inference.results_files import ResultsFiles
from efficientdet.inference.validation import EpochEvaluation, Validator, check_metric, count_images
from efficientdet.input.pipeline import InputPipeline
from efficientdet.input.record_set import RecordSet
from efficientdet.model.freeze import FreezeReport
from efficientdet.run import journal, record_prints
from efficientdet.run.callbacks import MetricsFile, TensorBoard
from efficientdet.run.checkpoints import CheckpointManager
from efficientdet.run.directory import RunDirectory
from efficientdet.run.lock import training_alone
from efficientdet.run.metrics_log import MetricsLog
from efficientdet.run.scoreboard import Scoreboard
from efficientdet.training import preflight, together
from efficientdet.training.ema import slow_statistics
from efficientdet.training.engine import TrainingEngine
from efficientdet.training.fallback import decide_batch_norm
from efficientdet.training.options import TrainOptions
from efficientdet.training.progress_bar import ProgressBar
from efficientdet.training.trainer import Plan, Trainer
from efficientdet.wording import counted, duration

logger = logging.getLogger(__name__)

DEFAULT_BATCH = 64  # AutoML's
# The folder of the run, for processes that are not its writer: nothing is there, nor can be.
NOWHERE = f"{os.devnull}/model_dir"


@dataclass(frozen=True)
class OpenedRun:
    """A run with its records: all that can be read and refused before there is a model.

    Attributes:
        batch_size: images an update; None: the most that fits, a multiple of `batch_unit`.
        evaluation: None: never.
    """

    directory: RunDirectory
    records: RecordSet
    validation: RecordSet | None
    label_map: LabelMap
    config: Config
    checkpoints: CheckpointManager
    batch_size: int | None
    batch_unit: int
    evaluation: EpochEvaluation | None


def train(options: TrainOptions) -> None:
    """Trains, and evaluates after each epoch if there are validation records; resumes if it can."""
    together.agree_on_command(options)
    if not processes.is_writer():
        help_to_train(options)
        return
    directory = RunDirectory(options.model_dir)
    with training_alone(directory.path):
        directory.remove_stale()
        run = open_run(options)
        trainer = build_trainer(options, run)
        files = {"train": run.records.files, "val": run.validation.files if run.validation else []}
        with journal.start(directory.path, files), processes.blamed():
            trainer.fit()
    processes.part()
    if best := Scoreboard(run.checkpoints, run.config.best_metric).best_line():
        logger.info(best)
    progress = trainer.progress
    logger.info(
        f"done: {counted(progress.step, 'step')}, {duration(progress.seconds)} of training; "
        f"checkpoints and metrics in {directory.path}"
    )


def help_to_train(options: TrainOptions) -> None:
    """The part of a process that is not the writer: it computes, and writes nothing.

    Weights, and where to go on, are what the writer read.
    """
    options = dataclasses.replace(options, model_dir=NOWHERE, ckpt=None, backbone_ckpt=None)
    with processes.blamed():
        build_trainer(options, open_run(options)).fit()
    processes.part()


def open_run(options: TrainOptions) -> OpenedRun:
    """Reads what there is, and decides what is left open.

    Raises:
        UserError: bad records, another run's folder, a checkpoint or a metric that is not there.
    """
    directory = RunDirectory(options.model_dir)
    records, validation, label_map = _open_records(options, directory)
    together.agree_on_records(records, validation)
    config = _config(options, directory, label_map)
    config.check_classes()
    checkpoints = CheckpointManager(directory.path, keep=options.keep_checkpoints)
    batch_size, is_resumed, loaded = processes.from_writer(
        lambda: _what_is_there(options, directory, checkpoints)
    )
    if batch_size and batch_size % config.grad_accum_steps:
        raise UsageError(
            f"grad_accum_steps={config.grad_accum_steps} does not divide the batch of {batch_size}"
        )
    if options.initial_weights and not is_resumed:
        require(options.initial_weights, config.backbone_name if options.backbone_ckpt else None)
    unit = config.grad_accum_steps * backend.num_devices()
    _check_batch(batch_size or unit, records, config)
    if batch_size or not is_resumed:  # auto: likely a small card, and if resumed the same again
        config = decide_batch_norm(config, batch_size or 1, loaded=loaded)
    if is_resumed:
        record_prints.tell_changes(directory.path, {"train": records, "val": validation})
    for one in filter(None, (records, validation)):
        one.require_at_most(config.max_instances_per_image)
    explain_precision(config)
    if not options.skip_preflight:
        preflight.check_records(records, validation, config=config)
    evaluation = None
    if validation:
        count = count_images("eval_samples", options.eval_samples, validation.num_examples)
        validator = Validator(
            validation, config, options.eval_batch_size, num_images=count,
            strict=not options.skip_preflight,
        )  # fmt: skip
        check_metric(config.best_metric, validator.metric_names)
        evaluation = EpochEvaluation(validator, directory.path / "eval", options.verbose)
    return OpenedRun(
        directory, records, validation, label_map, config, checkpoints, batch_size, unit, evaluation
    )


def build_trainer(options: TrainOptions, run: OpenedRun) -> Trainer:
    """Model, step, plan and input, brought to where the run stopped or to its initial weights."""
    config, folder, records = run.config, run.directory.path, run.records
    with console.status("building the network"):
        engine = TrainingEngine(config, changed=lambda changed: _write_down(changed, run))
    batch_size = run.batch_size or engine.largest_batch(
        *config.image_hw, records.max_objects, multiple_of=run.batch_unit,
        at_most=records.num_examples,
    )  # fmt: skip
    examples = count_images(
        "num_examples_per_epoch", options.num_examples_per_epoch, records.num_examples
    )
    minutes = options.max_train_minutes
    plan = Plan(
        batch_size,
        steps_per_epoch=max(1, examples // batch_size),
        num_epochs=config.num_epochs,
        save_steps=options.save_checkpoints_steps,
        best_metric=config.best_metric,
        max_seconds=math.inf if minutes is None else 60 * minutes,
    )
    batches = _training_batches(records, config, batch_size, examples)
    if not options.skip_preflight and processes.is_writer():
        preflight.check_disk(engine.model, folder, keep=options.keep_checkpoints)
        preflight.draw_first(
            batches(0, 0), folder / "preflight.png", config=config, label_map=run.label_map
        )
    hparams = flatten(config.to_dict()) | {"train_batch_size": batch_size}
    hparams["ckpt"] = options.initial_weights
    callbacks = [
        ProgressBar(), MetricsFile(MetricsLog(folder / "metrics.jsonl")),
        TensorBoard(folder, hparams), ResultsFiles(folder),
    ]  # fmt: skip
    trainer = Trainer(
        engine,
        plan,
        run.checkpoints,
        batches=batches,
        evaluate=run.evaluation,
        callbacks=callbacks if processes.is_writer() else [],
    )
    restored = processes.from_writer(lambda: _resume_or_load(trainer, options, run))
    engine.started_from(restored and frozenset(restored))
    trainer.progress = together.follow_writer(engine.state, trainer.progress)
    if processes.is_writer():  # now it is a run: all that could be refused was
        run.directory.write(config, run.label_map)
        record_prints.write(folder, {"train": records, "val": run.validation})
    logger.info(_headline(engine, plan, records))
    if minutes is not None:
        logger.info(_time_and_rate(config, minutes))
    elif not options.ckpt:
        steps = plan.num_epochs * plan.steps_per_epoch
        if slow := slow_statistics(config.batch_norm_momentum, steps):
            logger.info(slow)
    console.print(_freeze_table(engine.freeze_report))
    return trainer


def _config(options: TrainOptions, directory: RunDirectory, label_map: LabelMap) -> Config:
    """The run's, as the writer reads it."""
    known = (options.model_name, options.hparams, label_map, options.initial_weights)
    if processes.count() == 1:
        return directory.config(*known)
    values = processes.from_writer(lambda: directory.config(*known).to_dict())
    return Config.for_model(values["name"]).override(values)


def _write_down(changed: Config, run: OpenedRun) -> None:
    """Stores the config that a lack of memory changed, and that it did."""
    before = flatten(run.directory.config(None, {}, run.label_map).to_dict())
    changes = {k: v for k, v in flatten(changed.to_dict()).items() if v != before[k]}
    run.directory.write(changed, run.label_map)
    journal.write(run.directory.path, "memory", {"changes": changes})


def _open_records(
    options: TrainOptions, directory: RunDirectory
) -> tuple[RecordSet, RecordSet | None, LabelMap]:
    """Training and validation records, and the run's label map, which is that of both."""
    train_pattern, val_pattern = options.train_file_pattern, options.val_file_pattern
    path = options.label_map_path
    records = RecordSet.open(train_pattern, path, directory.stored_label_map)
    label_map = directory.label_map(records.label_map)
    if not val_pattern:
        return records, None, label_map
    validation = RecordSet.open(val_pattern, path, label_map)
    if validation.label_map != label_map:
        raise UserError(
            f"{val_pattern} was made with the classes {validation.label_map}, {train_pattern} "
            f"with {label_map}; convert both with the same --label_map_path and --classes"
        )
    return records, validation, label_map


def _resume_or_load(trainer: Trainer, options: TrainOptions, run: OpenedRun) -> list[str] | None:
    """Brings the engine to the run's newest checkpoint, else to the weights to start from.

    Returns the names of the variables that the run began with; None: it began at random.
    """
    engine, folder, ckpt = trainer.engine, run.directory.path, options.initial_weights
    with console.status("looking for a checkpoint to go on from"):
        resumed = trainer.resume()
    if resumed:
        restored = read_restored_names(folder)
        if ckpt:
            logger.info(f"{ckpt} is not read again: the run is past its start")
        logger.info(f"going on at step {trainer.progress.step}, epoch {trainer.progress.epoch + 1}")
        return restored and sorted(restored)
    if ckpt:
        report = restore(
            engine.model,
            ckpt,
            engine.config,
            label_map=run.label_map,
            backbone_only=options.backbone_ckpt is not None,
            classes=options.ckpt_classes,
            init_classes=options.init_classes_from_ckpt,
            allow_partial=options.allow_partial_ckpt,
        )
        engine.state.reset_shadows()  # the averages begin with the loaded weights
        console.print(report.table())
        report.write(folder)
        return sorted(report.restored_names)
    (folder / REPORT_FILE).unlink(missing_ok=True)  # of a run that is gone
    return None


def _what_is_there(
    options: TrainOptions, directory: RunDirectory, checkpoints: CheckpointManager
) -> tuple[int | None, bool, bool]:
    """The batch, see `_known_batch`; is there a checkpoint; did the run begin with weights."""
    batch_size = _known_batch(options.train_batch_size, checkpoints)
    is_resumed = bool(checkpoints.steps())
    loaded = options.initial_weights is not None
    if is_resumed and batch_size:
        loaded = read_restored_names(directory.path) is not None
    return batch_size, is_resumed, loaded


def _known_batch(asked: int | Literal["auto"] | None, checkpoints: CheckpointManager) -> int | None:
    """Images an update, as far as known before there is a model; None: what fits must be tried.

    A run that goes on keeps its own, so that its optimisation stays the same.
    """
    if isinstance(asked, int):
        return asked
    if stored := checkpoints.newest_batch_size():
        logger.info(
            f"going on with the run's batch of {stored} images; --train_batch_size changes it"
        )
        return stored
    if asked is None:
        if stored is not None:
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
    devices, steps = backend.num_devices(), config.grad_accum_steps
    if batch_size % (devices * steps):
        gpus = f"{devices} {'GPUs' if backend.has_gpu() else 'devices'}"
        if (count := processes.count()) > 1:
            gpus += f" (of {count} processes)"
        micro = f" x {steps} micro-batches" if steps > 1 else ""
        raise UsageError(f"--train_batch_size={batch_size} is no multiple of {gpus}{micro}")
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
        rows=backend.rows_of_process(batch_size, config.grad_accum_steps),
        # Half precision is what the network makes of them first of all.
        image_dtype="uint8" if config.uint8_images else keras.config.dtype_policy().compute_dtype,
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


def _headline(engine: TrainingEngine, plan: Plan, records: RecordSet) -> str:
    config = engine.config
    height, width = config.image_hw
    micro = f" in {config.grad_accum_steps} micro-batches" if config.grad_accum_steps > 1 else ""
    images = counted(records.num_examples, "training image")
    parameters = sum(math.prod(v.shape) for v in engine.model.trainable_variables)
    return (
        f"{config.name}, input {width}x{height}, {counted(config.num_classes, 'class')}, "
        f"{parameters / 1e6:.2f} M parameters, {keras.config.dtype_policy().name} on "
        f"{backend.device()} ({keras.backend.backend()})\n"
        f"{images}, batch {plan.batch_size}{micro}, "
        f"{counted(plan.steps_per_epoch, 'step')} an epoch, {counted(plan.num_epochs, 'epoch')}"
    )


def _freeze_table(report: FreezeReport) -> Table:
    """What is trained, one row a part."""
    table = Table(title="what is trained")
    for column in ("part", "variables", "frozen", "BatchNorm in training"):
        table.add_column(column, justify="right" if column in ("variables", "frozen") else "left")
    for row in report.rows:
        table.add_row(row.part, str(row.num_variables), str(row.num_frozen), row.batch_norm)
    return table
