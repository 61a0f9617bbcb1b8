"""Scores a checkpoint on records, once or as new ones appear; also a COCO model as it is."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
from rich.console import Console

from efficientdet.checkpoint.bundle import INDEX_SUFFIX
from efficientdet.checkpoint.restore import restore
from efficientdet.checkpoint.stored import require
from efficientdet.checkpoint.trained_with import check_input, configure
from efficientdet.config import Config
from efficientdet.errors import UsageError, UserError
from efficientdet.evaluation import zero_shot as class_map
from efficientdet.evaluation.evaluate import evaluate as judge
from efficientdet.evaluation.frames import read_truths
from efficientdet.evaluation.self_check import check_table, self_check
from efficientdet.inference.detector import Detector
from efficientdet.inference.precision import compute_policy, explain_precision
from efficientdet.inference.validation import (
    EpochEvaluation,
    Evaluated,
    Validator,
    check_metric,
    obeyed,
)
from efficientdet.input.record_set import RecordSet
from efficientdet.model.detector import build_detector
from efficientdet.run.checkpoints import Checkpoints, hold
from efficientdet.run.curve import EvaluationCurve, own_prefix
from efficientdet.run.directory import RunDirectory

logger = logging.getLogger(__name__)

COCO_CLASSES = 90


def evaluate(
    model_dir: str,
    *,
    model_name: str | None,
    overrides: Mapping[str, Any],
    val_pattern: str,
    label_map_path: str | None,
    ckpt: str | None,
    ckpt_classes: str,
    batch_size: int,
    eval_samples: int | None,
    watch_seconds: int | None,
) -> None:
    """Scores the newest checkpoint of `model_dir`, or `ckpt`; writes into `model_dir/eval`.

    What the run itself trained also gets a point on its curve, and may become its best. Another
    checkpoint leaves only its results and its report.

    Args:
        watch_seconds: look for a newer checkpoint so often, until interrupted; None: once.
    """
    console = Console()
    run = RunDirectory(model_dir)
    records = RecordSet.open(val_pattern, label_map_path, run.stored_label_map)
    if watch_seconds is not None and not ckpt:
        _await_checkpoint(run.path, watch_seconds)
    label_map = run.label_map(records.label_map)
    config = run.config(model_name, overrides, label_map, ckpt)
    path = ckpt or newest_checkpoint(run.path)
    require(str(path))  # before anything slow
    model = load_model(config)
    count = obeyed("eval_samples", eval_samples, records.num_examples)
    validator = Validator(records, config, batch_size, num_images=count, console=console)
    evaluation = EpochEvaluation(validator, run.path / "eval")
    curve: EvaluationCurve | None = None

    def score() -> Evaluated:
        load_weights(model, path, config, label_map=label_map, classes=ckpt_classes)
        return evaluation(model, config, Detector(model, config).values, path)

    while True:
        own = own_prefix(path, run)
        if own is None:
            logger.info(
                f"{path} was not trained in {run.path}: it gets no part in its curve and archive"
            )
            score()
        else:
            path = own
            curve = curve or EvaluationCurve(run.path, _best_metric(config, overrides, validator))
            try:
                with hold(own) as checkpoint:
                    found = score()
                    curve.add(checkpoint, found.metrics, found.pictures, evaluation.kept)
            except UserError:
                if Path(f"{own}{INDEX_SUFFIX}").exists():
                    raise
                logger.info(f"{own} is gone, training has newer ones")
                path = newest_checkpoint(run.path)
                continue
        if watch_seconds is None:
            return
        done = path
        while path == done:
            time.sleep(watch_seconds)
            path = newest_checkpoint(run.path)


def zero_shot(
    *,
    model_name: str | None,
    overrides: Mapping[str, Any],
    val_pattern: str,
    label_map_path: str | None,
    ckpt: str,
    class_map_path: str,
    batch_size: int,
    eval_samples: int | None,
) -> None:
    """Judges a 90-class COCO checkpoint on KITTI through a class map, and without one."""
    console = Console()
    records = RecordSet.open(val_pattern, label_map_path)
    entries = class_map.read_class_map(class_map_path)
    name = model_name or "efficientdet-d1"
    overrides = dict(overrides) | {"num_classes": COCO_CLASSES}
    config = configure(Config.for_model(name), overrides, ckpt)
    require(ckpt)
    model = load_model(config)
    load_weights(model, ckpt, config)
    count = obeyed("eval_samples", eval_samples, records.num_examples)
    validator = Validator(records, config, batch_size, num_images=count, console=console)
    detections = validator.detect(Detector(model, config))
    mapped = class_map.to_kitti(detections, entries, records.label_map)
    console.print(mapped.table())
    logger.info("\nwith the class map:")
    judge(validator.truths, mapped.detections, mapped.label_map).print_table(console)
    logger.info("\nwithout it, COCO ids read as KITTI ids (what a bare evaluation does):")
    plain = class_map.without_map(detections, records.label_map)
    judge(validator.truths, plain, records.label_map).print_table(console)


def check_metrics(val_pattern: str, label_map_path: str | None) -> None:
    """Feeds the ground truth back as detections: every metric must come out as perfect.

    Raises:
        UserError: one did not.
    """
    console = Console()
    records = RecordSet.open(val_pattern, label_map_path)
    truths = read_truths(records.files, records.label_map)
    checks = self_check(truths, records.label_map)
    console.print(check_table(checks))
    if not all(check.passed for check in checks):
        raise UserError(f"{val_pattern}: the ground truth judged against itself is not perfect")


def load_model(config: Config) -> keras.Model:
    """A model of `config`, with random weights, in the precision that the device gains from."""
    explain_precision(config)
    keras.config.set_dtype_policy(compute_policy(config))
    return build_detector(config)


def load_weights(model: keras.Model, path: str | Path, config: Config, **how: Any) -> None:
    """Restores all of `model`; for `how` see `restore`.

    Raises:
        UserError: a part would keep its random weights, or the images would be scaled otherwise
            than those it was trained on: every figure would mean nothing.
    """
    check_input(str(path), config)
    report = restore(model, str(path), config, **how)
    report.require_complete()
    logger.info(report.line())


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
    if not Checkpoints(model_dir).steps():
        logger.info(f"{model_dir}: no checkpoint yet; looking again every {seconds} seconds")
    while not Checkpoints(model_dir).steps():
        time.sleep(seconds)


def newest_checkpoint(model_dir: Path, *, to: str = "evaluate") -> Path:
    """Prefix of the newest checkpoint in a model_dir, to do something with.

    Raises:
        UserError: there is none.
    """
    checkpoints = Checkpoints(model_dir)
    steps = checkpoints.steps()
    if not steps:
        raise UserError(
            f"{model_dir}: no checkpoint to {to} (model.ckpt-N.index); train first, or name "
            "one with --ckpt"
        )
    return checkpoints.prefix(steps[-1])
