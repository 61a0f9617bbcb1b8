"""Detects in image files with a trained run, and writes what it found."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from efficientdet.checkpoint.stored import require
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UserError
from efficientdet.evaluation.frames import FrameDetections
from efficientdet.evaluation.results import write_coco, write_kitti
from efficientdet.inference.detector import Detector
from efficientdet.inference.scoring import load_model, load_weights, newest_checkpoint
from efficientdet.input.images import RecordImage, find_images, image_batches
from efficientdet.run.directory import RunDirectory
from efficientdet.run.thresholds import DEFAULT, thresholds_of
from efficientdet.visualize.detections import draw_detections
from efficientdet.visualize.drawing import save_image

logger = logging.getLogger(__name__)


def predict(
    model_dir: str,
    *,
    model_name: str | None,
    overrides: Mapping[str, Any],
    ckpt: str | None,
    ckpt_classes: str,
    images: str,
    image_list: str | None,
    output_dir: str,
    min_score: float | None,
    max_images: int | None,
    batch_size: int,
) -> None:
    """Writes pictures with boxes, KITTI result files and COCO json to `output_dir`.

    Args:
        ckpt: instead of the newest checkpoint of `model_dir`.
        images: see `find_images`.
        min_score: boxes from this score on are drawn; None: by class, the best F1 of this
            checkpoint's evaluation.
    """
    console = Console()
    run = RunDirectory(model_dir)
    path = ckpt or newest_checkpoint(run.path, to="predict with")
    require(str(path))  # before anything slow
    paths = find_images(images, image_list)[:max_images]
    _require_distinct_names(paths)
    label_map = run.label_map(None)
    config = run.config(model_name, overrides, label_map, ckpt)
    model = load_model(config)
    load_weights(model, path, config, label_map=label_map, classes=ckpt_classes)
    detector = Detector(model, config)
    thresholds = _thresholds(path, run, label_map, min_score)
    folder = Path(output_dir)
    found: list[FrameDetections] = []
    steps = track(
        image_batches(paths, config, batch_size),
        "detecting",
        math.ceil(len(paths) / batch_size),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    for batch, originals in steps:
        for frame, image in zip(detector.detect(batch), originals, strict=True):
            found.append(frame)
            picture = draw_detections(image, frame, label_map, thresholds)
            save_image(picture, folder / f"{frame.source_id}.png")
    write_kitti(folder / "results", found, label_map)
    write_coco(folder / "detections.json", found)
    logger.info(
        f"{len(found)} pictures in {folder}; KITTI files in {folder}/results; detections.json"
    )


def _require_distinct_names(paths: Sequence[Path | RecordImage]) -> None:
    first: dict[str, Path | RecordImage] = {}
    for path in paths:
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
