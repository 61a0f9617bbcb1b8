"""Scores a checkpoint on records, once or as new ones appear; also a COCO model as it is."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
from rich.console import Console

from efficientdet.checkpoint.restore import restore
from efficientdet.checkpoint.stored import require
from efficientdet.config import Config
from efficientdet.console import printer
from efficientdet.errors import UserError
from efficientdet.evaluation import zero_shot as class_map
from efficientdet.evaluation.evaluate import evaluate as judge
from efficientdet.evaluation.frames import read_truths
from efficientdet.evaluation.self_check import check_table, self_check
from efficientdet.inference import Detector
from efficientdet.input.record_set import RecordSet
from efficientdet.model.detector import build_detector
from efficientdet.run_directory import RunDirectory
from efficientdet.training.checkpoints import Checkpoints
from efficientdet.training.precision import compute_policy, explain_precision
from efficientdet.training.validation import EpochEvaluation, Validator, obeyed

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

    Args:
        watch_seconds: look for a newer checkpoint so often, until interrupted; None: once.
    """
    console = Console()
    say = printer(console)
    run = RunDirectory(model_dir, say)
    records = RecordSet.open(val_pattern, label_map_path, say, run.stored_label_map)
    label_map = run.label_map(records.label_map)
    config = run.config(model_name, overrides, label_map)
    path = ckpt or newest_checkpoint(run.path)
    require(str(path))  # before anything slow
    model = load_model(config, say)
    count = obeyed("eval_samples", eval_samples, records.num_examples, say)
    validator = Validator(records, config, batch_size, num_images=count, console=console)
    evaluation = EpochEvaluation(validator, run.path / "eval")
    while True:
        load_weights(model, path, config, say, label_map=label_map, classes=ckpt_classes)
        evaluation(model, config, Detector(model, config).values)
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
    say = printer(console)
    records = RecordSet.open(val_pattern, label_map_path, say)
    entries = class_map.read_class_map(class_map_path)
    name = model_name or "efficientdet-d1"
    config = Config.for_model(name).override(dict(overrides) | {"num_classes": COCO_CLASSES})
    require(ckpt)
    model = load_model(config, say)
    load_weights(model, ckpt, config, say)
    count = obeyed("eval_samples", eval_samples, records.num_examples, say)
    validator = Validator(records, config, batch_size, num_images=count, console=console)
    detections = validator.detect(Detector(model, config))
    mapped = class_map.to_kitti(detections, entries, records.label_map)
    console.print(mapped.table())
    say("\nwith the class map:")
    judge(validator.truths, mapped.detections, mapped.label_map).print_table(console)
    say("\nwithout it, COCO ids read as KITTI ids (what a bare evaluation does):")
    plain = class_map.without_map(detections, records.label_map)
    judge(validator.truths, plain, records.label_map).print_table(console)


def check_metrics(val_pattern: str, label_map_path: str | None) -> None:
    """Feeds the ground truth back as detections: every metric must come out as perfect.

    Raises:
        UserError: one did not.
    """
    console = Console()
    records = RecordSet.open(val_pattern, label_map_path, printer(console))
    truths = read_truths(records.files, records.label_map)
    checks = self_check(truths, records.label_map)
    console.print(check_table(checks))
    if not all(check.passed for check in checks):
        raise UserError(f"{val_pattern}: the ground truth judged against itself is not perfect")


def load_model(config: Config, say: Callable[[str], None]) -> keras.Model:
    """A model of `config`, with random weights, in the precision that the device gains from."""
    explain_precision(config, say)
    keras.config.set_dtype_policy(compute_policy(config))
    return build_detector(config)


def load_weights(
    model: keras.Model, path: str | Path, config: Config, say: Callable[[str], None], **how: Any
) -> None:
    """Restores all of `model`; for `how` see `restore`.

    Raises:
        UserError: a part would keep its random weights, and every figure would mean nothing.
    """
    report = restore(model, str(path), config, **how)
    report.require_complete()
    say(report.line())


def newest_checkpoint(model_dir: Path) -> Path:
    """Prefix of the newest checkpoint in a model_dir.

    Raises:
        UserError: there is none.
    """
    checkpoints = Checkpoints(model_dir)
    steps = checkpoints.steps()
    if not steps:
        raise UserError(
            f"{model_dir}: no checkpoint to evaluate (model.ckpt-N.index); train first, or name "
            "one with --ckpt"
        )
    return checkpoints.prefix(steps[-1])
