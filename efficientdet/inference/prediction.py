"""Detects in image files with a trained run, and writes what it found."""

import logging
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from efficientdet.atomic import remove_stale
from efficientdet.checkpoint.class_rows import ClassMode
from efficientdet.checkpoint.stored import require
from efficientdet.config import Config
from efficientdet.dataset.file_names import MAX_BYTES
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UsageError, UserError
from efficientdet.evaluation.frames import FrameDetections
from efficientdet.evaluation.results import write_coco, write_frame
from efficientdet.inference.detector import Detector, load_detector
from efficientdet.inference.exported import ExportedDetector, open_export
from efficientdet.input.images import RecordImage, find_images, image_batches
from efficientdet.progress import track
from efficientdet.run.checkpoints import checkpoint_of
from efficientdet.run.directory import RunDirectory
from efficientdet.run.lock import require_writable
from efficientdet.run.thresholds import DEFAULT, thresholds_of
from efficientdet.visualize.detections import draw_detections, is_shown
from efficientdet.visualize.drawing import save_image

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictOptions:
    """The flags of predict.py, under their names.

    Attributes:
        hparams: hyper-parameters of the command line, by dotted key.
        ckpt: instead of a checkpoint of `model_dir`.
        which: of `model_dir`: `best` is in `archive/`; None takes it where there is one, else the
            newest.
        images: see `find_images`.
        min_score: boxes from this score on are drawn; None: by class, the best F1 of this
            checkpoint's evaluation.
        export: a file of export.py instead of a checkpoint.
    """

    model_dir: str | None
    images: str
    model_name: str | None = None
    hparams: Mapping[str, Any] = field(default_factory=dict)
    ckpt: str | None = None
    which: Literal["best", "newest"] | None = None
    ckpt_classes: ClassMode = "auto"
    image_list: str | None = None
    output_dir: str = "predictions"
    min_score: float | None = None
    max_images: int | None = None
    batch_size: int = 4
    export: str | None = None


def predict(options: PredictOptions) -> None:
    """Writes pictures with boxes, KITTI result files and COCO json to `output_dir`.

    Picture and result file of each image are written at once: whatever stops the command, those
    that were done are kept.

    Raises:
        UserError: before the first image; or at the end, where some could not be read.
    """
    chosen = _of_export(options) if options.export else _of_checkpoint(options)
    images = find_images(options.images, options.image_list)[: options.max_images]
    folder = Path(options.output_dir)
    _require_names(images, folder)
    label_map, config = chosen.label_map, chosen.config()
    require_writable(folder)
    for place in (folder, folder / "results"):
        remove_stale(place)
    detector = chosen.load(config)
    thresholds = chosen.thresholds()
    found: list[FrameDetections] = []
    drawn = Counter()
    unreadable: list[str] = []

    def leave_out(what: str) -> None:
        logger.warning(what)
        unreadable.append(what)

    batches = image_batches(images, config, options.batch_size, leave_out)
    num_batches = math.ceil(len(images) / options.batch_size)
    for batch, originals in track(batches, "detecting", num_batches):
        for frame, image in zip(detector.detect(batch), originals, strict=True):
            found.append(frame)
            write_frame(folder / "results" / f"{frame.source_id}.txt", frame, label_map)
            drawn.update(frame.classes[is_shown(frame, thresholds)].tolist())
            picture = draw_detections(image, frame, label_map, thresholds)
            save_image(picture, folder / f"{frame.source_id}.png")
    write_coco(folder / "detections.json", found)
    logger.info(
        f"{len(found)} pictures in {folder}; KITTI files in {folder}/results; detections.json"
    )
    logger.info(_drawn(drawn, thresholds, label_map))
    if unreadable:
        raise UserError(
            f"{len(unreadable)} of {len(images)} images could not be read and have no results, "
            f"first {unreadable[0]}"
        )


class _Chosen(NamedTuple):
    """What detects: a run's checkpoint, or an exported file."""

    label_map: LabelMap
    config: Callable[[], Config]
    load: Callable[[Config], Detector | ExportedDetector]
    thresholds: Callable[[], dict[int, float]]


def _of_checkpoint(options: PredictOptions) -> _Chosen:
    run = RunDirectory(options.model_dir)
    path = options.ckpt or _of_run(run.path, options.which)
    require(str(path))  # before anything slow
    label_map = run.label_map(None)
    return _Chosen(
        label_map,
        lambda: run.config(options.model_name, options.hparams, label_map, options.ckpt),
        lambda config: load_detector(config, path, label_map, options.ckpt_classes),
        lambda: _thresholds(path, run, label_map, options.min_score),
    )


def _of_export(options: PredictOptions) -> _Chosen:
    """A file has its own size, NMS and thresholds.

    Raises:
        UserError: it cannot be read, or `hparams` would change it.
    """
    if options.hparams:
        raise UsageError(f"{options.export} is as it was exported: leave out --hparams")
    detector = open_export(options.export)
    names, info = detector.info.label_map.names, detector.info
    logger.info(f"{options.export}: {info.config.name}, made of {info.checkpoint}")
    scores = {i: info.thresholds.get(name, DEFAULT) for i, name in names.items()}
    if options.min_score is not None:
        scores = dict.fromkeys(names, options.min_score)
    return _Chosen(info.label_map, lambda: info.config, lambda _: detector, lambda: scores)


def _of_run(model_dir: Path, which: Literal["best", "newest"] | None) -> Path:
    """The checkpoint of a run to take, said in a line; see `checkpoint_of`."""
    path = checkpoint_of(model_dir, which, to="predict with")
    is_best = path.parent != model_dir
    why = "the best of its run; --newest takes the newest" if is_best else "the newest of its run"
    logger.info(f"checkpoint: {path}, {why}")
    return path


def _drawn(drawn: Counter[int], thresholds: Mapping[int, float], label_map: LabelMap) -> str:
    """How many boxes stand in the pictures, by class, and from which score on."""
    counts = [
        f"{name} {drawn[i]:,} (score >= {thresholds[i]:.2f})" for i, name in label_map.names.items()
    ]
    noun = "box" if drawn.total() == 1 else "boxes"
    return f"{drawn.total():,} {noun} drawn: {', '.join(counts)}"


def _require_names(paths: Sequence[Path | RecordImage], folder: Path) -> None:
    """Raises UserError where a picture would replace another, or an image that it was made of."""
    first: dict[str, Path | RecordImage] = {}
    for path in paths:
        if len(os.fsencode(path.stem)) > MAX_BYTES:
            raise UserError(f"{path}: a name longer than {MAX_BYTES} bytes; rename it")
        picture = folder / f"{path.stem}.png"
        if isinstance(path, Path) and picture.exists() and picture.samefile(path):
            raise UserError(f"{path}: its picture would replace it; take another --output_dir")
        if (other := first.setdefault(path.stem, path)) is not path:
            raise UserError(
                f"{other} and {path} have one name, and so would what is written about them; take "
                "two commands, each with its own --output_dir"
            )


def _thresholds(
    checkpoint: str | Path,
    run: RunDirectory,
    label_map: LabelMap,
    min_score: float | None,
) -> dict[int, float]:
    """Class id -> score from which boxes are drawn."""
    if min_score is not None:
        return dict.fromkeys(label_map.names, min_score)
    best, line = thresholds_of(checkpoint, run.path)
    logger.info(line)
    return {i: best.get(name, DEFAULT) for i, name in label_map.names.items()}
