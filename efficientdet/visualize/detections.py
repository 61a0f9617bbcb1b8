"""One frame with what a detector found in it, and with what is there."""

from collections.abc import Mapping, Sequence

import numpy as np

from efficientdet.dataset.label_map import LabelMap
from efficientdet.evaluation.frames import FrameDetections, FrameTruth, box_array
from efficientdet.visualize.drawing import class_colour, draw_boxes


def draw_detections(
    image: np.ndarray,
    frame: FrameDetections,
    label_map: LabelMap,
    thresholds: Mapping[int, float],
    *,
    scale: Sequence[float] = (1.0, 1.0),
) -> np.ndarray:
    """A copy of `image` with the detections as solid boxes, named and scored.

    Args:
        image: uint8 [H, W, 3].
        thresholds: class id -> score from which it is drawn.
        scale: (y, x), pixels of the original image for one of `image`.
    """
    lowest = np.array([thresholds.get(int(c), 0.0) for c in frame.classes])
    shown = frame.scores >= lowest
    classes, scores = frame.classes[shown], frame.scores[shown]
    labels = [f"{label_map.names[int(c)]} {s:.2f}" for c, s in zip(classes, scores, strict=True)]
    colours = [class_colour(int(c)) for c in classes]
    return draw_boxes(image, _scaled(frame.boxes[shown], scale), labels, colours)


def draw_truth(
    image: np.ndarray,
    truth: FrameTruth,
    label_map: LabelMap,
    *,
    scale: Sequence[float] = (1.0, 1.0),
) -> np.ndarray:
    """A copy of `image` with the labelled objects as dashed boxes; grey: not in the label map."""
    objects = [o for o in truth.objects if not o.is_dont_care]
    colours = [class_colour(label_map.id_of(o.type) or 0) for o in objects]
    return draw_boxes(image, _scaled(box_array(objects), scale), colours=colours, dashed=True)


def _scaled(boxes: np.ndarray, scale: Sequence[float]) -> np.ndarray:
    """Boxes [N, 4] `left top right bottom` of the original on the picture."""
    y, x = scale
    return boxes / [x, y, x, y]
