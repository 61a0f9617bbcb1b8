"""Detections in images: a picture, a result file and a line of JSON each; COCO json at the end."""

import logging
import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from efficientdet.config import Config
from efficientdet.dataset.label_map import LabelMap
from efficientdet.evaluation.frames import FrameDetections
from efficientdet.evaluation.results import write_coco, write_frame
from efficientdet.evaluation.verdict import FrameVerdict
from efficientdet.inference.background import Background
from efficientdet.inference.compared_labels import ComparedLabels
from efficientdet.inference.detector import Detector
from efficientdet.inference.exported import ExportedDetector
from efficientdet.inference.json_lines import JsonLines, detections_as_json
from efficientdet.input.images import DETECTIONS, InputImage, image_batches
from efficientdet.progress import track
from efficientdet.visualize.detections import (
    draw_detections,
    draw_verdict,
    shown_detections,
    verdict_keys,
)
from efficientdet.visualize.drawing import save_image
from efficientdet.visualize.legend import add_legend
from efficientdet.wording import counted

logger = logging.getLogger(__name__)


@dataclass
class Prediction:
    """What finds, what is shown of it, where it goes, and what has come of it so far.

    Attributes:
        thresholds: class id -> score from which boxes are drawn.
        draw: make pictures and videos, and no result files alone.
        labels: of images, to compare with.
        drawn: boxes by class id.
        unreadable: a line for each image or video that could not be read, or not to its end.
    """

    detector: Detector | ExportedDetector
    config: Config
    label_map: LabelMap
    thresholds: dict[int, float]
    folder: Path
    batch_size: int
    draw: bool = True
    labels: ComparedLabels | None = None
    drawn: Counter[int] = field(default_factory=Counter)
    unreadable: list[str] = field(default_factory=list)

    def leave_out(self, what: str) -> None:
        """Says and notes what cannot be read."""
        logger.warning(what)
        self.unreadable.append(what)

    def show(self, frame: FrameDetections) -> FrameDetections:
        """What of it is drawn, which is counted."""
        shown = shown_detections(frame, self.thresholds)
        self.drawn.update(shown.classes.tolist())
        return shown


def predict_images(prediction: Prediction, images: Sequence[InputImage]) -> list[FrameDetections]:
    """Writes what is found in `images`, and returns it.

    Result file and line of an image are on the disk before the next batch runs, its picture soon
    after: whatever stops the command, those that were done are kept.
    """
    folder, size = prediction.folder, prediction.batch_size
    found: list[FrameDetections] = []
    turned: list[str] = []
    batches = image_batches(images, prediction.config, size, prediction.leave_out, turned.append)
    batches = track(batches, "detecting", math.ceil(len(images) / size))
    whole = folder / "detections.json"
    whole.unlink(missing_ok=True)  # of another time: it comes last
    with (
        JsonLines(folder / DETECTIONS) as lines,
        Background(threads=min(4, os.cpu_count() or 1), most=2 * size) as background,
    ):
        for batch, originals in batches:
            for frame, image in zip(prediction.detector.detect(batch), originals, strict=True):
                _write(prediction, frame, image, lines, background.call)
                found.append(frame)
    write_coco(whole, found)
    if turned:
        logger.warning(
            f"EXIF asks to turn {counted(len(turned), 'image')}, first {turned[0]}: pixels are "
            "taken, drawn and measured as they are stored; if they lie on their side, turn them "
            "and save them anew"
        )
    return found


def _write(
    prediction: Prediction,
    frame: FrameDetections,
    image: np.ndarray,
    lines: JsonLines,
    later: Callable[..., None],
) -> None:
    name, label_map = frame.source_id, prediction.label_map
    height, width = image.shape[:2]
    write_frame(prediction.folder / "results" / f"{name}.txt", frame, label_map)
    lines.add(
        {
            "image": name,
            "width": width,
            "height": height,
            "detections": detections_as_json(frame, label_map),
        }
    )
    shown = prediction.show(frame)
    verdict = prediction.labels and prediction.labels.judge(shown)
    if prediction.draw:
        later(_draw, image, shown, verdict, label_map, prediction.folder / f"{name}.png")


def _draw(
    image: np.ndarray,
    shown: FrameDetections,
    verdict: FrameVerdict | None,
    label_map: LabelMap,
    path: Path,
) -> None:
    if verdict is None:
        picture = draw_detections(image, shown, label_map, {})
    else:
        picture = add_legend(draw_verdict(image, verdict, label_map), verdict_keys())
    save_image(picture, path)
