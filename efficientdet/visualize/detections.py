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
from efficientdet.evaluation.verdict import FrameVerdict
from efficientdet.visualize.drawing import (
    FALSE,
    FOUND,
    IGNORED,
    MISSED,
    WHITE,
    class_colour,
    draw_boxes,
)
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


def shown_detections(frame: FrameDetections, thresholds: Mapping[int, float]) -> FrameDetections:
    """The detections that reach the threshold of their class."""
    shown = is_shown(frame, thresholds)
    return FrameDetections(
        frame.source_id, frame.boxes[shown], frame.scores[shown], frame.classes[shown]
    )


def draw_verdict(image: np.ndarray, verdict: FrameVerdict, label_map: LabelMap) -> np.ndarray:
    """A copy of `image` uint8 [H, W, 3] with what `verdict_keys` names on it.

    What was missed or invented is named, and so is what was found; the labels of what was found
    are thin. Labels are dashed, detections are not.
    """
    width = max(1, round(max(image.shape[:2]) / 640))
    labelled, found = box_array(verdict.truth.objects), verdict.detections
    types = np.array([o.type for o in verdict.truth.objects], object)
    scored = zip(found.class_id, found.score, strict=True)
    texts = np.array([f"{label_map.names[int(i)]} {score:.2f}" for i, score in scored], object)
    excused = ~verdict.right & ~verdict.false
    kinds = (  # what matters most comes last, on top
        (verdict.ignored, labelled, types, IGNORED, True),
        (verdict.found, labelled, types, FOUND, True),
        (excused, found.ltrb, texts, IGNORED, False),
        (verdict.right, found.ltrb, texts, FOUND, False),
        (verdict.false, found.ltrb, texts, FALSE, False),
        (verdict.missed, labelled, types, MISSED, True),
    )
    rows = [
        (box, "" if thin else text, colour, dashed, 1 if thin else width)
        for which, boxes, names, colour, dashed in kinds
        for thin in [dashed and colour is not MISSED]
        for box, text in zip(boxes[which], names[which], strict=True)
    ]
    boxes, tags, colours, dashes, widths = zip(*rows, strict=True) if rows else 5 * ((),)
    return draw_boxes(image, boxes, tags, colours, dashed=dashes, line_width=widths)


def verdict_keys() -> list[Key]:
    """What the boxes of `draw_verdict` mean."""
    return [
        Key("found", FOUND),
        Key("its label", FOUND, dashed=True, line_width=1),
        Key("missed", MISSED, dashed=True),
        Key("false alarm", FALSE),
        Key("ignored region", IGNORED, dashed=True, line_width=1),
        Key("found in it: not judged", IGNORED),
    ]


def _objects(truth: FrameTruth) -> list[LabelledObject]:
    return [o for o in truth.objects if not o.is_dont_care]


def _scaled(boxes: np.ndarray, scale: Sequence[float]) -> np.ndarray:
    """Boxes [N, 4] `left top right bottom` of the original on the picture."""
    y, x = scale
    return boxes / [x, y, x, y]
