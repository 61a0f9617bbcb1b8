"""What both metrics take in: the objects of a frame, and what a detector found in it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from efficientdet.dataset.image import read_header
from efficientdet.dataset.kitti import DONT_CARE, KittiObject, parse_line
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UserError


@dataclass(frozen=True)
class FrameTruth:
    """The labels of one frame, DontCare regions and objects without a class id included.

    `width` and `height` are the true image size in pixels.
    """

    source_id: str
    width: int
    height: int
    objects: list[KittiObject]


@dataclass(frozen=True)
class FrameDetections:
    """What a detector found in one frame.

    Attributes:
        source_id: as in the record, e.g. `000007`.
        boxes: float [N, 4], left, top, right, bottom in pixels of the original image.
        scores: float [N].
        classes: int [N], ids 1..K of the label map.
    """

    source_id: str
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    scores: np.ndarray = field(default_factory=lambda: np.zeros(0))
    classes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        """Stores float64 and int64, whatever came: overlaps in float32 would move metrics."""
        object.__setattr__(self, "boxes", np.asarray(self.boxes, np.float64).reshape(-1, 4))
        object.__setattr__(self, "scores", np.asarray(self.scores, np.float64))
        object.__setattr__(self, "classes", np.asarray(self.classes, np.int64))
        if not len(self.boxes) == len(self.scores) == len(self.classes):
            raise ValueError(
                f"{self.source_id}: {len(self.boxes)} boxes, {len(self.scores)} scores, "
                f"{len(self.classes)} classes"
            )


def align(
    truths: Sequence[FrameTruth], detections: Iterable[FrameDetections]
) -> list[FrameDetections]:
    """The detections of each truth, in the order of the truths; empty where there are none.

    Raises:
        UserError: a frame stands twice on one side, or detections belong to an unknown frame.
    """
    known = {truth.source_id for truth in truths}
    if len(known) < len(truths):
        raise UserError("two frames of the ground truth share a source_id; each needs its own")
    by_id: dict[str, FrameDetections] = {}
    for frame in detections:
        if frame.source_id not in known:
            raise UserError(f"detections for frame {frame.source_id!r}, which has no ground truth")
        if frame.source_id in by_id:
            raise UserError(f"detections for frame {frame.source_id!r} came twice")
        by_id[frame.source_id] = frame
    return [by_id.get(truth.source_id) or FrameDetections(truth.source_id) for truth in truths]


def read_truths(files: Sequence[Path], label_map: LabelMap) -> list[FrameTruth]:
    """The ground truth of records, in their order; no pixel is decoded.

    An object is what its raw KITTI line says: unclipped, and whatever a filter made of it. Where a
    record has no such lines, it is the box with its class name or else its class id.

    Raises:
        UserError: a class id that `label_map` does not have.
    """
    # Here, so that the evaluation of text files starts without TensorFlow.
    import tensorflow as tf

    from efficientdet.dataset.example import parse_example

    def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        example = parse_example(serialized)
        return example | {"image": tf.where(example["width"] > 0, "", example["image"])}

    records = tf.data.TFRecordDataset([str(path) for path in files]).map(parse)
    return [_frame_truth(example, label_map) for example in records.as_numpy_iterator()]


def _frame_truth(example: dict[str, np.ndarray], label_map: LabelMap) -> FrameTruth:
    source_id = example["source_id"].decode()
    height, width = int(example["height"]), int(example["width"])
    if not width:
        header = read_header(example["image"])
        height, width = header.height, header.width
    objects = []
    for index, line in enumerate(example["label_lines"]):
        if line:
            objects.append(parse_line(line.decode(), f"{source_id}, object {index + 1}"))
            continue
        top, left, bottom, right = example["boxes"][index].tolist()
        box = (left * width, top * height, right * width, bottom * height)
        objects.append(_without_line(_type_of(example, index, label_map), box))
    return FrameTruth(source_id, width, height, objects)


def _type_of(example: dict[str, np.ndarray], index: int, label_map: LabelMap) -> str:
    """The KITTI type of an object without a KITTI line."""
    class_id, text = int(example["classes"][index]), example["class_text"][index].decode()
    if example["is_crowd"][index]:
        return DONT_CARE
    if class_id not in label_map.names:
        raise UserError(
            f"{example['source_id'].decode()}, object {index + 1}: class id {class_id}, "
            f"and the label map has 1..{label_map.num_classes}"
        )
    merged = label_map.types[class_id - 1]
    return next((name for name in merged if name.lower() == text.lower()), merged[0])


def _without_line(kitti_type: str, box: tuple[float, float, float, float]) -> KittiObject:
    """An object of which only type and box are known; the rest are KITTI's fillers."""
    return KittiObject(kitti_type, 0.0, 0, -10, *box, -1, -1, -1, -1000, -1000, -1000, -10)


def box_array(objects: Sequence[KittiObject]) -> np.ndarray:
    """float [N, 4], left, top, right, bottom of each object."""
    return np.array([(o.left, o.top, o.right, o.bottom) for o in objects], float).reshape(-1, 4)


def concatenate(arrays: Sequence[np.ndarray], *columns: int) -> np.ndarray:
    """The arrays [N_i, *columns] of several frames as one, also where there is no frame at all."""
    return np.concatenate([np.zeros((0, *columns)), *arrays])
