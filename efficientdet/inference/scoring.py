"""Scores a checkpoint on records, once or as new ones appear; also a COCO model as it is."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from efficientdet.checkpoint.bundle import INDEX_SUFFIX
from efficientdet.checkpoint.class_rows import ClassMode
from efficientdet.checkpoint.stored import require
from efficientdet.checkpoint.trained_with import configure
from efficientdet.config import Config
from efficientdet.console import console
from efficientdet.dataset.coco_classes import NUM_COCO_CLASSES, read_class_map
from efficientdet.errors import UsageError, UserError
from efficientdet.evaluation import zero_shot as class_map
from efficientdet.evaluation.evaluate import evaluate as compute_metrics
from efficientdet.evaluation.self_check import check_table, self_check
from efficientdet.inference.detector import Detector, load_detector
from efficientdet.inference.exported import open_export
from efficientdet.inference.results_files import write_results
from efficientdet.inference.truths import read_truths
from efficientdet.inference.validation import (
    EpochEvaluation,
    Validator,
    check_metric,
    count_images,
)
from efficientdet.input.record_set import RecordSet
from efficientdet.run import record_prints
from efficientdet.run.checkpoints import (
    CheckpointManager,
    checkpoint_of,
    hold,
    newest_checkpoint,
)
from efficientdet.run.curve import EvaluationCurve, own_prefix
from efficientdet.run.directory import RunDirectory
from efficientdet.run.lock import require_writable

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluateOptions:
    """The flags of main.py that `--mode=eval` reads, under their names.

    Attributes:
        model_dir: of the run; None with `zero_shot` and `self_check`.
        hparams: hyper-parameters of the command line, by dotted key.
        ckpt: instead of the newest checkpoint of the run.
        best: the run's best checkpoint (`archive/`) instead of the newest.
        class_map: file for `zero_shot`: which COCO class stands for which KITTI class.
        verbose: with `watch`, print the tables of every evaluation; else they are printed anyhow.
        skip_preflight: read records that training would refuse, where they can be read.
        export: a file of export.py instead of a checkpoint; it needs no `model_dir`.
        watch: look for a newer checkpoint every `min_eval_interval` seconds, until interrupted.
    """

    model_dir: str | None
    val_file_pattern: str
    model_name: str | None = None
    hparams: Mapping[str, Any] = field(default_factory=dict)
    label_map_path: str | None = None
    ckpt: str | None = None
    best: bool = False
    ckpt_classes: ClassMode = "auto"
    class_map: str = ""
    eval_batch_size: int = 1
    eval_samples: int | None = None
    watch: bool = False
    min_eval_interval: int = 180
    skip_preflight: bool = False
    verbose: bool = False
    export: str | None = None


def evaluate(options: EvaluateOptions) -> None:
    """Scores the newest checkpoint of `model_dir`, or `ckpt`; writes into `model_dir/eval`.

    What the run itself trained also gets a point on its curve, and may become its best. Another
    checkpoint leaves only its results and its report.
    """
    run = RunDirectory(options.model_dir)
    records = RecordSet.open(options.val_file_pattern, options.label_map_path, run.stored_label_map)
    if options.watch and not options.ckpt:
        _await_checkpoint(run.path, options.min_eval_interval)
    label_map = run.label_map(records.label_map)
    config = run.config(options.model_name, options.hparams, label_map, options.ckpt)
    path = options.ckpt or checkpoint_of(
        run.path, "best" if options.best else "newest", to="evaluate"
    )
    require(str(path))  # before anything slow
    require_writable(run.path / "eval")
    record_prints.tell_changes(run.path, {"val": records})
    run.remove_stale()
    validator = _validator(options, records, config)
    verbose = options.verbose or not options.watch
    evaluation = EpochEvaluation(validator, run.path / "eval", verbose)
    curve: EvaluationCurve | None = None
    detector: Detector | None = None
    while True:
        own = own_prefix(path, run)
        if own and not curve:
            curve = EvaluationCurve(run.path, _best_metric(config, options.hparams, validator))
        try:
            if detector is None:
                detector = load_detector(config, path, label_map, options.ckpt_classes)
            else:
                detector.load(path, label_map, options.ckpt_classes)
            if own is None:
                logger.info(
                    f"{path} was not trained in {run.path}: no part in its curve and archive"
                )
                with evaluation.written(evaluation(detector, path)):
                    pass
            else:
                with (
                    hold(own) as checkpoint,
                    evaluation.written(found := evaluation(detector, own)),
                ):
                    curve.add(checkpoint, found.metrics, found.pictures, evaluation.kept)
                    write_results(run.path)
        except UserError:
            if own is None or options.best or Path(f"{own}{INDEX_SUFFIX}").exists():
                raise
            logger.info(f"{own} is gone, training has newer ones")
            path = newest_checkpoint(run.path, to="evaluate")
            continue
        if not options.watch:
            return
        done = path
        while path == done:
            time.sleep(options.min_eval_interval)
            path = newest_checkpoint(run.path, to="evaluate")


def evaluate_export(options: EvaluateOptions) -> None:
    """Scores a file of export.py, as it is; prints the tables, and writes nothing.

    Raises:
        UserError: it cannot be read, its classes are not those of the records, or `hparams` would
            change it.
    """
    if options.hparams:
        raise UsageError(f"{options.export} is as it was exported: leave out --hparams")
    detector = open_export(options.export)
    info = detector.info
    records = RecordSet.open(options.val_file_pattern, options.label_map_path, info.label_map)
    if records.label_map != info.label_map:
        raise UserError(
            f"{options.export} finds {info.label_map}; {options.val_file_pattern} was made with "
            f"{records.label_map}"
        )
    logger.info(f"{options.export}: {info.config.name}, made of {info.checkpoint}")
    validator = _validator(options, records, info.config, originals=True)
    validator.show(validator(detector))


def zero_shot(options: EvaluateOptions) -> None:
    """Judges a 90-class COCO checkpoint on KITTI through a class map, and without one."""
    records = RecordSet.open(options.val_file_pattern, options.label_map_path)
    entries = read_class_map(options.class_map)
    overrides = dict(options.hparams) | {"num_classes": NUM_COCO_CLASSES}
    model = Config.for_model(options.model_name or "efficientdet-d1")
    config = configure(model, overrides, options.ckpt)
    require(options.ckpt)
    validator = _validator(options, records, config)
    detections = validator.detect(load_detector(config, options.ckpt))
    mapped = class_map.to_kitti(detections, entries, records.label_map)
    console.print(mapped.table())
    logger.info("\nwith the class map:")
    compute_metrics(validator.truths, mapped.detections, mapped.label_map).print_table(console)
    logger.info("\nwithout it, COCO ids read as KITTI ids (what a bare evaluation does):")
    plain = class_map.without_map(detections, records.label_map)
    compute_metrics(validator.truths, plain, records.label_map).print_table(console)


def check_metrics(options: EvaluateOptions) -> None:
    """Feeds the ground truth back as detections: every metric must come out as perfect.

    Raises:
        UserError: one did not.
    """
    records = RecordSet.open(options.val_file_pattern, options.label_map_path)
    truths = read_truths(records.files, records.label_map, strict=not options.skip_preflight)
    checks = self_check(truths, records.label_map)
    console.print(check_table(checks))
    if not all(check.passed for check in checks):
        raise UserError(
            f"{options.val_file_pattern}: the ground truth judged against itself is not perfect"
        )


def _validator(
    options: EvaluateOptions, records: RecordSet, config: Config, *, originals: bool = False
) -> Validator:
    count = count_images("eval_samples", options.eval_samples, records.num_examples)
    strict = not options.skip_preflight
    return Validator(
        records,
        config,
        options.eval_batch_size,
        num_images=count,
        strict=strict,
        originals=originals,
    )


def _best_metric(config: Config, overrides: Mapping[str, Any], validator: Validator) -> str | None:
    """By which a best checkpoint is kept; None where the run's metric is none of these records."""
    try:
        check_metric(config.best_metric, validator.metric_names)
    except UsageError as error:
        if "best_metric" in overrides:
            raise
        logger.info(f"no checkpoint is kept as the best: {error}")
        return None
    return config.best_metric


def _await_checkpoint(model_dir: Path, seconds: float) -> None:
    """Sleeps until training has saved its first one."""
    if not CheckpointManager(model_dir).steps():
        logger.info(f"{model_dir}: no checkpoint yet; looking again every {seconds} seconds")
    while not CheckpointManager(model_dir).steps():
        time.sleep(seconds)
