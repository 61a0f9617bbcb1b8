"""Both metrics of one set of detections, as named numbers and as a table."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console, Group
from rich.table import Table

from efficientdet.dataset.label_map import LabelMap
from efficientdet.evaluation import coco, kitti
from efficientdet.evaluation.frames import FrameDetections, FrameTruth, align

NO_TRUTH = "no ground truth"


@dataclass(frozen=True)
class Result:
    """What an evaluation found out.

    Attributes:
        num_frames: frames evaluated, those without detections included.
        num_detections: detections that were judged.
        coco: COCO metrics.
        kitti: one curve for each class and difficulty of the KITTI benchmark.
    """

    label_map: LabelMap
    num_frames: int
    num_detections: int
    coco: coco.CocoResult
    kitti: list[kitti.Curve]

    @property
    def metrics(self) -> dict[str, float]:
        """Every number by its TensorBoard tag, in [0, 1]; one without ground truth is left out.

        `AP`, `AP50`, `AP75`, `APs`, `APm`, `APl`, `ARmax1`, `ARmax10`, `ARmax100`, `ARs`, `ARm`,
        `ARl`, `AP_/<class>`, `AP50_/<class>` (COCO), and `kitti/<class>_<difficulty>_R40`, `_R11`.
        """
        names = self.label_map.names
        values = dict(self.coco.summary)
        for name in ("AP", "AP50"):
            values |= {f"{name}_/{names[i]}": self.coco.by_class(i)[name] for i in names}
        for curve in self.kitti:
            tag = f"kitti/{curve.class_name}_{curve.difficulty.name}"
            values |= {f"{tag}_R40": curve.r40, f"{tag}_R11": curve.r11}
        return {name: value for name, value in values.items() if not math.isnan(value)}

    def table(self) -> Group:
        """The tables that `print_table` prints."""
        return Group(_coco_table(self), kitti_table(self.kitti))

    def print_table(self, console: Console | None = None) -> None:
        """Prints COCO AP by class and size, and KITTI AP by class and difficulty."""
        (console or Console()).print(self.table())


def evaluate(
    truths: Sequence[FrameTruth], detections: Iterable[FrameDetections], label_map: LabelMap
) -> Result:
    """Judges `detections` by COCO's and by KITTI's metric.

    Args:
        truths: every frame that counts.
        detections: classes are ids of `label_map`; a frame without any may be absent. A merged id
            counts as that id for COCO, and as the first of its KITTI types for KITTI.

    Raises:
        UserError: detections of an unknown frame, or a frame twice.
    """
    detections = align(truths, detections)
    return Result(
        label_map,
        num_frames=len(truths),
        num_detections=sum(len(frame.scores) for frame in detections),
        coco=coco.evaluate(truths, detections, label_map),
        kitti=kitti.evaluate(truths, detections, label_map.names),
    )


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.2f}"


def _coco_table(result: Result) -> Table:
    summary = result.coco.summary
    table = Table(title=f"COCO metrics, % ({result.num_frames} frames)")
    for column in ("class", "objects", "AP", "AP50", "AP75", "APs", "APm", "APl"):
        table.add_column(column, justify="left" if column == "class" else "right")
    for class_id, name in result.label_map.names.items():
        if not (count := result.coco.num_objects[class_id]):
            table.add_row(name, NO_TRUTH, style="dim")
            continue
        table.add_row(name, str(count), *map(_percent, result.coco.by_class(class_id).values()))
    table.add_section()
    numbers = [_percent(summary[name]) for name in coco.SUMMARY[:6]]
    table.add_row("mean", str(sum(result.coco.num_objects.values())), *numbers, style="bold")
    table.caption = "  ".join(f"{name} {_percent(summary[name])}" for name in coco.SUMMARY[6:])
    return table


def kitti_table(curves: Sequence[kitti.Curve]) -> Table:
    """KITTI AP, one row for each class and difficulty."""
    table = Table(title="KITTI 2D AP, %")
    for column in ("class", "difficulty", "objects", "R40", "R11"):
        table.add_column(column, justify="left" if column in ("class", "difficulty") else "right")
    for curve in curves:
        r40, r11 = _percent(curve.r40) + "*" * curve.is_small, _percent(curve.r11)
        numbers = (str(curve.num_objects), r40, r11) if curve.num_objects else (NO_TRUTH,)
        table.add_row(
            curve.class_name,
            curve.difficulty.name,
            *numbers,
            style=None if curve.num_objects else "dim",
            end_section=curve.difficulty == kitti.DIFFICULTIES[-1],
        )
    if any(curve.is_small for curve in curves):
        table.caption = "* n <= 40 objects: a perfect detector reaches (n - 1) / 40 at R40, no more"
    return table
