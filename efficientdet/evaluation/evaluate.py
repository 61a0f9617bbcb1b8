"""Both metrics of one set of detections, as named numbers and as a table."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from rich.console import Console
from rich.table import Table

from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UserError
from efficientdet.evaluation import coco, kitti
from efficientdet.evaluation.frames import FrameDetections, FrameTruth, align
from efficientdet.evaluation.kitti_table import empty_table, kitti_metrics, kitti_table, percent
from efficientdet.evaluation.mistakes import (
    MIN_IOU,
    FrameMistakes,
    Misses,
    Mistakes,
    OperatingPoint,
)
from efficientdet.wording import counted

LEAST_F1 = 0.1  # of a class whose boxes are drawn from its own threshold on


@dataclass(frozen=True)
class Result:
    """What an evaluation found out.

    Attributes:
        truths: the frames that were evaluated.
        detections: one entry for each of them, in their order, also where nothing was found.
        coco: COCO's metrics.
        kitti: one curve for each class and difficulty of the KITTI benchmark.
        mistakes: the verdict on each object and each detection at IoU 0.5.
    """

    label_map: LabelMap
    truths: Sequence[FrameTruth]
    detections: Sequence[FrameDetections]
    coco: coco.CocoResult
    kitti: list[kitti.Curve]
    mistakes: Mistakes

    @cached_property
    def operating_points(self) -> dict[int, OperatingPoint]:
        """Class id -> where its F1 is best; a class that was never detected rightly is absent."""
        return self.mistakes.best_f1()

    @property
    def score_thresholds(self) -> dict[int, float]:
        """Class id -> the score threshold of best F1, at which mistakes are counted."""
        return {i: point.threshold for i, point in self.operating_points.items()}

    @property
    def drawn_thresholds(self) -> dict[int, float]:
        """Of those, the ones to draw by: where F1 is small, one box of dozens would be right."""
        return {i: p.threshold for i, p in self.operating_points.items() if p.f1 >= LEAST_F1}

    @property
    def misses(self) -> list[Misses]:
        """Missed objects by class, size, occlusion and distance, at `score_thresholds`."""
        return self.mistakes.misses(self.score_thresholds)

    @cached_property
    def worst_frames(self) -> list[FrameMistakes]:
        """The 20 frames with most missed objects and false detections, at `score_thresholds`."""
        return self.mistakes.worst_frames(self.score_thresholds, count=20)

    @property
    def metrics(self) -> dict[str, float]:
        """Every number by its TensorBoard tag, in [0, 1]; one without ground truth is left out.

        `AP`, `AP50`, `AP75`, `APs`, `APm`, `APl`, `ARmax1`, `ARmax10`, `ARmax100`, `ARs`, `ARm`,
        `ARl`, `AP_/<class>`, `AP50_/<class>` (COCO), `kitti/<class>_<difficulty>_R40`, `_R11`, and
        `kitti/moderate_R40`.
        """
        values = self.coco.summary | coco_class_metrics(self.coco.precision, self.label_map)
        present = {name: value for name, value in values.items() if not math.isnan(value)}
        return present | kitti_metrics(self.kitti)

    def tables(self) -> list[Table]:
        """COCO AP by class and size, KITTI AP by class and difficulty, and the best F1 by class.

        Only what has ground truth has a row; a table without rows is left out.
        """
        tables = (coco_table(self), kitti_table(self.kitti), operating_table(self))
        return [table for table in tables if table.row_count]

    def print_table(self, console: Console | None = None) -> None:
        """Prints `tables`; closer together where the names of classes had no room otherwise."""
        console = console or Console()
        tables, unbound = self.tables(), console.options.update(max_width=200)
        for table in tables:
            if console.measure(table, options=unbound).maximum > console.width:
                table.padding = 0
        console.print(*tables, sep="\n")


def evaluate(
    truths: Sequence[FrameTruth], detections: Iterable[FrameDetections], label_map: LabelMap
) -> Result:
    """Judges `detections` by COCO's and by KITTI's metric.

    Args:
        truths: every frame that counts.
        detections: classes are ids of `label_map`; a frame without any may be absent. A merged id
            counts as that id for COCO, and as the type that names it for KITTI.

    Raises:
        UserError: detections of an unknown frame or class, or a frame twice.
    """
    detections = align(truths, detections)
    for frame in detections:
        if unknown := set(frame.classes.tolist()).difference(label_map.names):
            raise UserError(
                f"frame {frame.source_id}: detections of class id {min(unknown)}, and the label "
                f"map has 1..{label_map.num_classes}; was the detector trained on other classes?"
            )
    matching = coco.match(truths, detections, label_map)
    return Result(
        label_map,
        truths,
        detections,
        coco=matching.result(),
        kitti=kitti.evaluate(truths, detections, label_map.names),
        mistakes=Mistakes(truths, matching, label_map),
    )


def coco_class_metrics(precision: np.ndarray, label_map: LabelMap) -> dict[str, float]:
    """`AP_/<class>` and `AP50_/<class>` of precision [10, 101, K, 4]; NaN without ground truth."""
    values = {}
    for class_id, class_name in label_map.names.items():
        averages = coco.average_precisions(precision[:, :, [class_id - 1]])
        values |= {f"{name}_/{class_name}": averages[name] for name in ("AP", "AP50")}
    return values


def coco_table(result: Result) -> Table:
    """COCO AP, one row a class, by size."""
    summary = result.coco.summary
    table = empty_table(
        f"COCO metrics, % ({counted(len(result.truths), 'frame')})",
        ("class", "objects", "AP", "AP50", "AP75", "APs", "APm", "APl"),
    )
    absent = []
    for class_id, name in result.label_map.names.items():
        if count := result.coco.num_objects[class_id]:
            row = map(percent, result.coco.by_class(class_id).values())
            table.add_row(name, str(count), *row)
        else:
            absent.append(name)
    if not table.row_count:
        return table
    table.add_section()
    numbers = [percent(summary[name]) for name in coco.SUMMARY[:6]]
    table.add_row("mean", str(sum(result.coco.num_objects.values())), *numbers, style="bold")
    recalls = [percent(summary[name]) for name in coco.SUMMARY[6:]]
    table.caption = (
        f"AR of 1 / 10 / 100 detections: {' / '.join(recalls[:3])}\n"
        f"AR of small / medium / large: {' / '.join(recalls[3:])}"
    )
    if absent:
        table.caption += f"\nwithout objects here: {', '.join(absent)}"
    return table


def operating_table(result: Result) -> Table:
    """Precision and recall of each class at the score threshold of its best F1."""
    table = empty_table(
        f"At the score of best F1 (IoU {MIN_IOU})",
        ("class", "score", "F1", "prec.", "recall", "objects", "missed", "false"),
    )
    for class_id, name in result.label_map.names.items():
        if point := result.operating_points.get(class_id):
            shares = [percent(v) for v in (point.f1, point.precision, point.recall)]
            counts = [str(n) for n in (point.num_objects, point.num_missed, point.num_false)]
            table.add_row(name, f"{point.threshold:.3f}", *shares, *counts)
        elif count := str(result.coco.num_objects[class_id] or ""):  # none was found
            table.add_row(name, "-", percent(0), "-", percent(0), count, count, "-")
    return table
