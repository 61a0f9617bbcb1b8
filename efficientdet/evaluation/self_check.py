"""The check of an evaluation by itself: its ground truth, fed back as detections, is perfect.

COCO AP must then be 1. (APm and APl may fall short by 1e-4: COCO lets a detection rather take a
neighbour of the right size than its own object of another size.) KITTI's R40 must be 1 in cells of
more than 40 objects and (n - 1) / 40 in smaller ones, whose curve has only n points. No detections
at all must score 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from efficientdet.dataset.label_map import LabelMap
from efficientdet.evaluation import coco, kitti
from efficientdet.evaluation.frames import FrameDetections, FrameTruth, box_array

TOLERANCE = 1e-9


@dataclass(frozen=True)
class Check:
    """One metric of the ground truth against itself, and against no detections.

    Attributes:
        num_objects: what there is to find.
        perfect: the metric of the ground truth as detections; `expected` is what it must be.
        nothing: the metric without detections, which must be 0.
    """

    name: str
    num_objects: int
    perfect: float
    expected: float
    nothing: float

    @property
    def passed(self) -> bool:
        """Whether both numbers are right."""
        return abs(self.perfect - self.expected) <= TOLERANCE and self.nothing == 0


def self_check(truths: Sequence[FrameTruth], label_map: LabelMap) -> list[Check]:
    """COCO AP, and KITTI's R40 of every cell that has ground truth."""
    perfect = perfect_detections(truths, label_map)
    best, none = (coco.evaluate(truths, frames, label_map) for frames in (perfect, []))
    checks = [Check("COCO AP", sum(best.num_objects.values()), best.ap, 1.0, none.ap)]
    best, none = (kitti.evaluate(truths, frames, label_map.names) for frames in (perfect, []))
    checks += [
        Check(f"R40 {a.class_name} {a.difficulty.name}", a.num_objects, a.r40, a.max_r40, b.r40)
        for a, b in zip(best, none, strict=True)
    ]
    return [check for check in checks if check.num_objects]


def perfect_detections(truths: Sequence[FrameTruth], label_map: LabelMap) -> list[FrameDetections]:
    """Every object that `label_map` names, as a detection of score 1."""
    frames = []
    for truth in truths:
        named = [o for o in truth.objects if label_map.id_of(o.type)]
        ids = np.array([label_map.id_of(o.type) for o in named], int)
        frames.append(FrameDetections(truth.source_id, box_array(named), np.ones(len(named)), ids))
    return frames


def check_table(checks: Sequence[Check]) -> Table:
    """One row a check, and what the star means."""
    table = Table(title="Self-check: ground truth as detections, and no detections")
    table.add_column("metric")
    for column in ("objects", "truth", "expected", "nothing", "verdict"):
        table.add_column(column, justify="right")
    for check in checks:
        star = "*" if check.expected < 1 else ""
        numbers = (f"{check.perfect:.6f}", f"{check.expected:.6f}{star}", f"{check.nothing:.6f}")
        verdict = "[green]ok[/]" if check.passed else "[bold red]WRONG[/]"
        table.add_row(check.name, str(check.num_objects), *numbers, verdict)
    if any(check.expected < 1 for check in checks):
        table.caption = "* with n <= 40 objects R40 reaches at most (n - 1) / 40"
    return table
