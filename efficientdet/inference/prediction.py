"""Detects in images and videos with a trained run, and writes what it found."""

import logging
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
from efficientdet.console import console
from efficientdet.dataset.file_names import MAX_BYTES
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UsageError, UserError
from efficientdet.evaluation.frames import FrameDetections
from efficientdet.evaluation.submission import require_ids, write_submission
from efficientdet.inference.compared_labels import ComparedLabels
from efficientdet.inference.detector import Detector, load_detector
from efficientdet.inference.exported import ExportedDetector, open_export
from efficientdet.inference.image_prediction import Prediction, predict_images
from efficientdet.inference.video_prediction import predict_video
from efficientdet.input.images import (
    KINDS,
    VIDEO_SUFFIXES,
    InputImage,
    file_of,
    find_images,
    find_videos,
    other_images,
)
from efficientdet.input.videos import require_pyav
from efficientdet.run.checkpoints import checkpoint_of
from efficientdet.run.directory import RunDirectory
from efficientdet.run.lock import require_writable
from efficientdet.run.thresholds import DEFAULT, thresholds_of
from efficientdet.wording import counted, listed

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
        max_images: also of each video the first so many frames.
        draw: make pictures and videos.
        compare_labels: folder or records whose labels are drawn and counted beside.
        submission: a zip for KITTI's server.
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
    draw: bool = True
    compare_labels: str | None = None
    submission: str | None = None
    export: str | None = None


def predict(options: PredictOptions) -> None:
    """Writes pictures and videos with boxes and result files to `output_dir`.

    What an image or a frame comes to is written at once: whatever stops the command, those that
    were done are kept.

    Raises:
        UserError: before the first image; or at the end, where some could not be read.
    """
    chosen = _of_export(options) if options.export else _of_checkpoint(options)
    images = find_images(options.images, options.image_list)[: options.max_images]
    videos = find_videos(options.images, options.image_list)
    if others := other_images(options.images):
        names = listed([str(path) for path in others])
        logger.warning(f"left out, as an image has to be {KINDS}: {names}")
    folder = Path(options.output_dir)
    _require_names([*images, *videos], folder)
    require_pyav(videos)
    label_map = chosen.label_map
    if options.submission:
        _check_submission(options.submission, [*images, *videos])
    labels = _labels(options.compare_labels, images, videos, label_map)
    config = chosen.config()
    require_writable(folder)
    for place in (folder, folder / "results"):
        remove_stale(place)
    detector, thresholds = chosen.load(config), chosen.thresholds()
    prediction = Prediction(
        detector, config, label_map, thresholds, folder, options.batch_size, options.draw, labels
    )
    if images:
        found = predict_images(prediction, images)
        what = counted(len(found), "picture" if options.draw else "image")
        logger.info(f"{what} in {folder}; KITTI files in {folder}/results; detections.json")
        if options.submission:
            _submit(options.submission, found, label_map)
    for video in videos:
        predict_video(prediction, video, options.max_images)
    _sum_up(prediction, len(images), len(videos))


def _sum_up(prediction: Prediction, num_images: int, num_videos: int) -> None:
    """Says what was drawn and what the labels say; raises UserError where some were unreadable."""
    if prediction.draw:
        logger.info(_drawn(prediction.drawn, prediction.thresholds, prediction.label_map))
    if prediction.labels:
        logger.info(prediction.labels.line())
        console.print(prediction.labels.table())
    if unreadable := prediction.unreadable:
        inputs, what = "images", "could not be read and have no results"
        if num_videos:
            inputs = "images and videos" if num_images else "videos"
            what = "could not be read, or not to the end"
        count = f"{len(unreadable)} of {num_images + num_videos} {inputs}"
        raise UserError(f"{count} {what}, first {unreadable[0]}")


def _labels(
    where: str | None,
    images: Sequence[InputImage],
    videos: Sequence[Path],
    label_map: LabelMap,
) -> ComparedLabels | None:
    """The labels to compare with; images without one are named."""
    if where is None:
        return None
    if not images:
        raise UsageError("--compare_labels: videos have no labels; name images or records")
    labels = ComparedLabels(where, images, label_map)
    if missing := labels.missing:
        logger.warning(
            f"{counted(len(missing), 'image')} without a label in {where}, drawn without: "
            f"{listed(missing)}"
        )
    if videos:
        logger.info("videos have no labels and are drawn without")
    return labels


def _check_submission(path: str, inputs: Sequence[InputImage]) -> None:
    """Raises an error where no zip can be made: before the first image."""
    if Path(path).suffix.lower() != ".zip" or Path(path).is_dir():
        raise UsageError(f"--submission={path}: expected the name of a file that ends in .zip")
    require_ids([x.name if _is_video(x) else x.stem for x in inputs])
    require_writable(Path(path).parent)


def _submit(path: str, found: Sequence[FrameDetections], label_map: LabelMap) -> None:
    for line in write_submission(path, found, label_map):
        logger.warning(f"{path}: {line}")
    logger.info(f"{path}: {counted(len(found), 'file')} for KITTI's server")


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


def _require_names(paths: Sequence[InputImage], folder: Path) -> None:
    """Raises UserError where a picture would replace another, or an image that it was made of."""
    first: dict[str, InputImage] = {}
    for path in paths:
        if len(os.fsencode(path.stem)) > MAX_BYTES:
            raise UserError(f"{path}: a name longer than {MAX_BYTES} bytes; rename it")
        picture = f"{path.stem}.mp4" if _is_video(path) else f"{path.stem}.png"
        drawn = folder / picture
        if (file := file_of(path)) and drawn.exists() and drawn.samefile(file):
            raise UserError(f"{path}: its picture would replace it; take another --output_dir")
        if (other := first.setdefault(picture, path)) is not path:
            raise UserError(
                f"{other} and {path} have one name, and so would what is written about them; take "
                "two commands, each with its own --output_dir"
            )


def _is_video(path: InputImage) -> bool:
    return isinstance(path, Path) and path.suffix.lower() in VIDEO_SUFFIXES


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
