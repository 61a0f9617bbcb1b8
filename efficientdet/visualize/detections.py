"""One frame with what a detector found in it, and with what is there."""

from collections.abc import Mapping, Sequence

import numpy as np

from efficientdet.dataset.label_map import LabelMap
from efficientdet.evaluation.frames import (
    FrameDetections,
    FrameTruth,
    LabelledObject,
    box_array,
)
from efficientdet.visualize.drawing import IGNORED, WHITE, class_colour, draw_boxes
from efficientdet.visualize.legend import Key


def draw_detections(
    image: np.ndarray,
    frame: FrameDetections,
    label_map: LabelMap,
    thresholds: Mapping[int, float],
    *,
    scale: Sequence[float] = (1.0, 1.0),
    beside: FrameTruth | None = None,
) -> np.ndarray:
    """A copy of `image` with the detections as solid boxes, named and scored.

    Args:
        image: uint8 [H, W, 3].
        thresholds: class id -> score from which it is drawn.
        scale: (y, x), pixels of the original image for one of `image`.
        beside: objects that labels should not hide.
    """
    shown = is_shown(frame, thresholds)
    classes, scores = frame.classes[shown], frame.scores[shown]
    labels = [f"{label_map.names[int(c)]} {s:.2f}" for c, s in zip(classes, scores, strict=True)]
    colours = [class_colour(int(c)) for c in classes]
    others = _scaled(box_array(_objects(beside)), scale) if beside else None
    return draw_boxes(image, _scaled(frame.boxes[shown], scale), labels, colours, avoid=others)


def is_shown(frame: FrameDetections, thresholds: Mapping[int, float]) -> np.ndarray:
    """bool [N]: which detections reach the threshold of their class; without one, all do."""
    return frame.scores >= np.array([thresholds.get(int(c), 0.0) for c in frame.classes])


def draw_truth(
    image: np.ndarray,
    truth: FrameTruth,
    label_map: LabelMap,
    *,
    scale: Sequence[float] = (1.0, 1.0),
) -> np.ndarray:
    """A copy of `image` with the labelled objects as dashed boxes; grey: not in the label map."""
    objects = _objects(truth)
    colours = [class_colour(label_map.id_of(o.type) or 0) for o in objects]
    return draw_boxes(image, _scaled(box_array(objects), scale), colours=colours, dashed=True)


def comparison_keys(frames: Sequence[FrameTruth], label_map: LabelMap, score: float) -> list[Key]:
    """What boxes of `draw_truth` and `draw_detections` on these frames mean."""
    types = {o.type for truth in frames for o in _objects(truth)}
    ids = {label_map.id_of(kind) or 0 for kind in types}
    keys = [
        Key(f"predicted, score from {score:g} on", WHITE),
        Key("labelled", WHITE, dashed=True),
        *(Key(name, class_colour(i)) for i, name in label_map.names.items() if i in ids),
    ]
    return [*keys, Key("labelled, not a class here", IGNORED, dashed=True)] if 0 in ids else keys


def _objects(truth: FrameTruth) -> list[LabelledObject]:
    return [o for o in truth.objects if not o.is_dont_care]


def _scaled(boxes: np.ndarray, scale: Sequence[float]) -> np.ndarray:
    """Boxes [N, 4] `left top right bottom` of the original on the picture."""
    y, x = scale
    return boxes / [x, y, x, y]
