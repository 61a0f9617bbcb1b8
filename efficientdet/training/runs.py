"""Puts a run together: records, configuration, weights, loop. What main.py calls."""

import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from rich.console import Console
from rich.progress import track

from efficientdet import backend
from efficientdet.checkpoint.restore import restore
from efficientdet.config import Config
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UsageError, UserError
from efficientdet.evaluation.frames import FrameDetections
from efficientdet.evaluation.results import write_coco, write_kitti
from efficientdet.inference import Detector
from efficientdet.input.images import find_images, image_batches
from efficientdet.input.pipeline import InputPipeline
from efficientdet.input.record_set import RecordSet
from efficientdet.run_directory import RunDirectory
from efficientdet.training import preflight as before_start
from efficientdet.training.callbacks import MetricsFile, ProgressBar, TensorBoard
from efficientdet.training.checkpoints import Checkpoints
from efficientdet.training.learner import Learner
from efficientdet.training.metrics_log import MetricsLog
from efficientdet.training.trainer import Plan, Trainer
from efficientdet.training.validation import Evaluated, Validator
from efficientdet.visualize.detections import draw_detections
from efficientdet.visualize.drawing import save_image

FROZEN_BN_BELOW = 8  # images in a micro-batch
DRAWN_SCORE = 0.3  # where no evaluation has found a better threshold


@dataclass(frozen=True)
class Start:
    """Which weights a fresh run begins with; see the flags of main.py."""

    ckpt: str | None = None
    backbone_ckpt: str | None = None
    classes: str = "auto"
    init_classes: bool = False
    allow_partial: bool = False

    def __post_init__(self) -> None:
        if self.ckpt and self.backbone_ckpt:
            raise UsageError("--ckpt and --backbone_ckpt exclude each other: the first has both")

    @property
    def path(self) -> str | None:
        """The checkpoint to read, if any."""
        return self.ckpt or self.backbone_ckpt


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
    """
    console = Console()
    say = _printer(console)
    run = RunDirectory(model_dir, say)
    records = RecordSet.open(train_pattern, label_map_path, say)
    validation = RecordSet.open(val_pattern, label_map_path, say) if val_pattern else None
    label_map = run.label_map(records.label_map)
    if validation and validation.label_map != label_map:
        raise UserError(f"{val_pattern}: made with another label map than {train_pattern}")
    config = run.config(model_name, _with_classes(overrides, label_map))
    if not run.exists:
        config = _decide_batch_norm(config, batch_size, loaded=start.path is not None, say=say)
    _explain_precision(config, say)
    if preflight:
        before_start.check_records(records, validation, config=config, say=say)

    learner = Learner(config, say=say, changed=lambda changed: run.write(changed, label_map))
    batch_size = batch_size or learner.largest_batch(records.max_objects)
    if batch_size % config.grad_accum_steps:
        raise UsageError(
            f"grad_accum_steps={config.grad_accum_steps} does not divide the batch of {batch_size}"
        )
    examples = _obeyed("num_examples_per_epoch", num_examples, records.num_examples, say)
    plan = Plan(
        batch_size,
        steps_per_epoch=max(1, examples // batch_size),
        num_epochs=config.num_epochs,
        save_steps=save_steps,
        best_metric=best_metric,
    )
    batches = _training_batches(records, config, batch_size)
    if preflight:
        before_start.check_disk(learner.model, run.path, keep=keep)
        first = next(batches(0, 0))
        before_start.draw_batch(first, run.path / "preflight.png", config=config)
    log = MetricsLog(run.path / "metrics.jsonl")
    run.write(config, label_map)
    trainer = Trainer(
        learner,
        plan,
        Checkpoints(run.path, keep=keep, warn=say),
        log,
        batches=batches,
        evaluate=validation
        and _epoch_evaluation(validation, config, eval_batch_size, eval_samples, run.path, console),
        callbacks=[ProgressBar(console), MetricsFile(log), TensorBoard(run.path)],
        say=say,
    )
    if trainer.resume():
        if start.path:
            say(f"{start.path} is not read again: the run is past its start")
        say(f"going on at step {trainer.progress.step}, epoch {trainer.progress.epoch + 1}")
    elif start.path:
        report = restore(
            learner.model,
            start.path,
            config,
            label_map=label_map,
            backbone_only=start.backbone_ckpt is not None,
            classes=start.classes,
            init_classes=start.init_classes,
            allow_partial=start.allow_partial,
        )
        console.print(report.table())
        report.write(run.path)
        learner.state.reset_shadows()
    console.print(_headline(learner, plan, records))
    console.print(learner.freeze_report.table())
    trainer.fit()
    say(f"done: {trainer.progress.step} steps, checkpoints and metrics in {run.path}")


def evaluate(
    model_dir: str,
    *,
    model_name: str | None,
    overrides: Mapping[str, Any],
    val_pattern: str,
    label_map_path: str | None,
    start: Start,
    batch_size: int,
    eval_samples: int | None,
    zero_shot: bool,
    watch_seconds: int | None,
) -> None:
    """Scores the newest checkpoint of `model_dir`, or the one that `start` names.

    Args:
        watch_seconds: look for a newer checkpoint so often, until interrupted; None: once.
    """
    console = Console()
    say = _printer(console)
    run = RunDirectory(model_dir, say)
    records = RecordSet.open(val_pattern, label_map_path, say)
    label_map = run.label_map(records.label_map)
    config = run.config(model_name, _with_classes(overrides, label_map))
    _explain_precision(config, say)
    learner = Learner(config, say=say)
    evaluation = _epoch_evaluation(records, config, batch_size, eval_samples, run.path, console)
    done: Path | None = None
    while True:
        path = Path(start.ckpt) if start.ckpt else _newest(run.path)
        if path != done:
            report = restore(
                learner.model, str(path), config, label_map=label_map, classes=start.classes
            )
            say(report.line())
            learner.state.reset_shadows()
            evaluation(learner)
            done = path
        if watch_seconds is None:
            return
        time.sleep(watch_seconds)


def predict(
    model_dir: str,
    *,
    model_name: str | None,
    overrides: Mapping[str, Any],
    ckpt: str | None,
    images: str,
    image_list: str | None,
    output_dir: str,
    min_score: float | None,
    max_images: int | None,
    batch_size: int,
) -> None:
    """Detects in image files; writes pictures, KITTI result files and COCO json to `output_dir`."""
    console = Console()
    say = _printer(console)
    run = RunDirectory(model_dir, say)
    paths = find_images(images, image_list)[:max_images]
    label_map = run.label_map(None)
    config = run.config(model_name, _with_classes(overrides, label_map))
    learner = Learner(config, say=say)
    report = restore(learner.model, str(ckpt or _newest(run.path)), config, label_map=label_map)
    say(report.line())
    detector = Detector(learner.model, config)
    thresholds = _thresholds(run, label_map, min_score)
    folder = Path(output_dir)
    found: list[FrameDetections] = []
    batches = image_batches(paths, config, batch_size)
    steps = track(
        batches, "detecting", math.ceil(len(paths) / batch_size), console=console, transient=True
    )
    for batch, originals in steps:
        for frame, image in zip(detector.detect(batch), originals, strict=True):
            found.append(frame)
            picture = draw_detections(image, frame, label_map, thresholds)
            save_image(picture, folder / f"{frame.source_id}.png")
    write_kitti(folder / "results", found, label_map)
    write_coco(folder / "detections.json", found)
    say(f"{len(found)} pictures in {folder}, KITTI files in {folder}/results, detections.json")


def limit_gpu_memory(megabytes: int) -> None:
    """Caps what the first GPU may give, before anything uses it.

    Raises:
        UsageError: there is no GPU.
    """
    backend.limit_memory(megabytes)


def make_deterministic() -> None:
    """Lets every operation give the same bits each time."""
    backend.make_deterministic()


def _printer(console: Console) -> Callable[[str], None]:
    return lambda line: console.print(line, soft_wrap=True, markup=False, highlight=False)


def _with_classes(overrides: Mapping[str, Any], label_map: LabelMap) -> dict[str, Any]:
    """`overrides` with the records' number of classes.

    Raises:
        UsageError: the command line says another number.
    """
    said = overrides.get("num_classes", label_map.num_classes)
    if said != label_map.num_classes:
        raise UsageError(
            f"num_classes={said}, but the records have {label_map.num_classes} classes "
            f"({', '.join(label_map.names.values())}); leave it out, it is read from the records"
        )
    return dict(overrides) | {"num_classes": label_map.num_classes}


def _decide_batch_norm(
    config: Config, batch_size: int | None, *, loaded: bool, say: Callable[[str], None]
) -> Config:
    """At the start of a run: freezes BatchNorm statistics where nobody said what to do.

    Statistics of a few images are noise. Those of a loaded checkpoint are better as long as the
    micro-batch is small; a random network has none worth keeping. (None stays None otherwise: then
    the parts that are frozen as a whole keep theirs.)
    """
    micro = (batch_size or FROZEN_BN_BELOW) // config.grad_accum_steps
    if config.is_training_bn is not None or not loaded or micro >= FROZEN_BN_BELOW:
        return config
    say(f"BatchNorm statistics stay as loaded: {micro} images in a micro-batch are too few")
    return dataclasses.replace(config, is_training_bn=False)


def _explain_precision(config: Config, say: Callable[[str], None]) -> None:
    if config.mixed_precision and not backend.has_gpu():
        say("mixed_precision=True: no GPU here, computing in float32")


def _obeyed(name: str, said: int | None, found: int, say: Callable[[str], None]) -> int:
    """What the flag says, with one warning where the records say something else."""
    if said is not None and said != found:
        say(f"warning: --{name}={said}, the records hold {found}; going by the flag")
    return said or found


def _training_batches(
    records: RecordSet, config: Config, batch_size: int
) -> Callable[[int, int], Iterator[Mapping[str, np.ndarray]]]:
    pipeline = InputPipeline(
        records.files,
        config,
        batch_size=batch_size,
        training=True,
        num_classes=config.num_classes,
        max_instances=_instances(records, config),
        seed=config.seed,
    )
    return lambda epoch, skip: pipeline.batches(epoch=epoch, skip_batches=skip)


def _instances(records: RecordSet, config: Config) -> int:
    """Rows for boxes in a batch: what the fullest image needs after mosaic and copy-paste."""
    return max(
        1, records.max_objects * (4 if config.mosaic_prob else 1) + (config.copy_paste_prob > 0)
    )


def _epoch_evaluation(
    records: RecordSet,
    config: Config,
    batch_size: int,
    eval_samples: int | None,
    model_dir: Path,
    console: Console,
) -> Callable[[Learner], Evaluated]:
    """The evaluation as a function of the learner; its detector is compiled once a model."""
    said = _obeyed("eval_samples", eval_samples, records.num_examples, _printer(console))
    validator = Validator(
        records, config, batch_size, num_images=min(said, records.num_examples), console=console
    )
    detectors: dict[int, Detector] = {}

    def run(learner: Learner) -> Evaluated:
        key = id(learner.model)
        if key not in detectors:
            detectors.clear()
            detectors[key] = Detector(learner.model, learner.config)
        detectors[key].values = learner.state.evaluation_values()
        evaluated = validator(detectors[key])
        validator.show(evaluated)
        validator.write(evaluated, model_dir / "eval", f"{config.name}, {model_dir}")
        return evaluated

    return run


def _thresholds(
    run: RunDirectory, label_map: LabelMap, min_score: float | None
) -> dict[int, float]:
    """Class id -> score from which boxes are drawn."""
    path = run.path / "eval" / "thresholds.json"
    best = json.loads(path.read_text()) if path.exists() and min_score is None else {}
    default = DRAWN_SCORE if min_score is None else min_score
    return {i: best.get(name, default) for i, name in label_map.names.items()}


def _newest(model_dir: Path) -> Path:
    checkpoints = Checkpoints(model_dir)
    steps = checkpoints.steps()
    if not steps:
        raise UserError(
            f"{model_dir}: no checkpoint to evaluate (model.ckpt-N.index); train first, or name "
            "one with --ckpt"
        )
    return checkpoints.prefix(steps[-1])


def _headline(learner: Learner, plan: Plan, records: RecordSet) -> str:
    config = learner.config
    height, width = config.image_hw
    micro = f" in {config.grad_accum_steps} micro-batches" if config.grad_accum_steps > 1 else ""
    parameters = sum(math.prod(v.shape) for v in learner.model.trainable_variables)
    return (
        f"[bold]{config.name}[/bold], input {width}x{height}, {config.num_classes} classes, "
        f"{parameters / 1e6:.2f} M parameters, {keras.config.dtype_policy().name} on "
        f"{backend.device()} ({keras.backend.backend()})\n"
        f"{records.num_examples} training images, batch {plan.batch_size}{micro}, "
        f"{plan.steps_per_epoch} steps an epoch, {plan.num_epochs} epochs"
    )
