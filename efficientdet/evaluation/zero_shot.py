"""A COCO detector judged on KITTI: detections with COCO class ids -> detections with KITTI ids."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from efficientdet.dataset.boxes import coverage
from efficientdet.dataset.coco_classes import CocoClass
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UserError
from efficientdet.evaluation.frames import FrameDetections

RIDER_COVERAGE = 0.3  # of the bicycle's box, by the person's
RIDER_SCORE = 2.0  # a person scoring higher than so many times the bicycle is no rider


@dataclass(frozen=True)
class ZeroShot:
    """Detections of a COCO detector in KITTI's classes.

    Attributes:
        label_map: the given one without the classes that have no counterpart in COCO; evaluate
            with it, so that they are left out of the mean.
        left_out: their names.
        detections: with ids of `label_map`.
        num_found, num_kept: detections of each COCO id, and how many of them are in `detections`;
            of a bicycle and its rider the bicycle is kept.
    """

    entries: tuple[CocoClass, ...]
    label_map: LabelMap
    left_out: list[str]
    detections: list[FrameDetections]
    num_found: Mapping[int, int]
    num_kept: Mapping[int, int]

    def table(self) -> Table:
        """The class map, with what each entry kept."""
        table = Table(title="COCO detector on KITTI's classes")
        for column in ("COCO id", "COCO class", "KITTI class", "detections", "kept"):
            table.add_column(column, justify="left" if "class" in column else "right")
        for entry in self.entries:
            numbers = (str(self.num_found[entry.coco_id]), str(self.num_kept[entry.coco_id]))
            named = self.label_map.id_of(entry.kitti_type) is not None
            kitti_type = entry.kitti_type + (" (with rider)" if entry.rider else "")
            kitti_type = kitti_type if named else f"{kitti_type}: not in the label map"
            table.add_row(str(entry.coco_id), entry.coco_name, kitti_type, *numbers)
        known = {entry.coco_id for entry in self.entries}
        others = sum(count for coco_id, count in self.num_found.items() if coco_id not in known)
        table.add_row("", "any other", "none", str(others), "0", style="dim")
        if self.left_out:
            table.caption = (
                f"No counterpart in COCO, left out of the means: {', '.join(self.left_out)}"
            )
        return table


def to_kitti(
    detections: Iterable[FrameDetections], entries: tuple[CocoClass, ...], label_map: LabelMap
) -> ZeroShot:
    """Maps classes, joins bicycles and riders, and drops what has no KITTI class.

    Args:
        detections: with COCO ids.
        entries: what each COCO id stands for.
        label_map: of the ground truth.

    Raises:
        UserError: no class has a counterpart.
    """
    named = {label_map.id_of(entry.kitti_type) for entry in entries}
    if not any(named):
        raise UserError("no class of the label map has a counterpart in the class map of COCO")
    restricted = LabelMap(tuple(label_map.types[i - 1] for i in label_map.names if i in named))
    entries_used = [entry for entry in entries if restricted.id_of(entry.kitti_type)]
    found, kept, frames = Counter(), Counter(), []
    for frame in detections:
        found.update(frame.classes.tolist())
        frame = _join_riders(frame, entries_used)
        kept.update(frame.classes.tolist())
        frames.append(frame)
    ids = {entry.coco_id: restricted.id_of(entry.kitti_type) for entry in entries_used}
    return ZeroShot(
        entries,
        restricted,
        left_out=[name for i, name in label_map.names.items() if i not in named],
        detections=[_select(frame, ids) for frame in frames],
        num_found=found,
        num_kept=Counter({coco_id: kept[coco_id] for coco_id in ids}),
    )


def without_map(
    detections: Iterable[FrameDetections], label_map: LabelMap
) -> list[FrameDetections]:
    """The same detections with COCO's ids read as KITTI's: the mistake that makes AP about 0."""
    same = {class_id: class_id for class_id in label_map.names}
    return [_select(frame, same) for frame in detections]


def _select(frame: FrameDetections, new_ids: Mapping[int, int]) -> FrameDetections:
    """The detections whose class is a key of `new_ids`, with their new class."""
    classes = np.array([new_ids.get(int(i), 0) for i in frame.classes], int)
    kept = classes > 0
    return FrameDetections(frame.source_id, frame.boxes[kept], frame.scores[kept], classes[kept])


def _join_riders(frame: FrameDetections, entries: Iterable[CocoClass]) -> FrameDetections:
    """Bicycles with their riders in one box each; lone bicycles and consumed riders are gone."""
    boxes, scores, classes = frame.boxes.copy(), frame.scores.copy(), frame.classes
    gone = np.zeros(len(scores), bool)
    for entry in (entry for entry in entries if entry.rider is not None):
        bicycles = np.flatnonzero(classes == entry.coco_id)
        for bicycle in bicycles[np.argsort(-scores[bicycles], kind="stable")]:
            people = np.flatnonzero((classes == entry.rider) & ~gone)
            on_it = coverage(boxes[[bicycle]], boxes[people])[0] >= RIDER_COVERAGE
            people = people[on_it & (scores[people] <= RIDER_SCORE * scores[bicycle])]
            if not len(people):
                gone[bicycle] = True
                continue
            rider = people[np.argmax(scores[people])]
            boxes[bicycle, :2] = boxes[[bicycle, rider], :2].min(axis=0)
            boxes[bicycle, 2:] = boxes[[bicycle, rider], 2:].max(axis=0)
            scores[bicycle] = min(scores[bicycle], scores[rider])
            gone[rider] = True
    return FrameDetections(frame.source_id, boxes[~gone], scores[~gone], classes[~gone])
