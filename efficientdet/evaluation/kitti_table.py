"""KITTI's metric as named numbers and as a table."""

import math
from collections.abc import Sequence
from itertools import groupby

from rich import box
from rich.table import Table

from efficientdet.evaluation.kitti import Curve

MODERATE_MEAN = "kitti/moderate_R40"  # over the benchmark's classes


def kitti_metrics(curves: Sequence[Curve]) -> dict[str, float]:
    """`kitti/<class>_<difficulty>_R40` and `_R11` of the cells that have ground truth.

    `kitti/moderate_R40` is the mean of Car, Pedestrian and Cyclist at moderate difficulty, or of
    those among them that have ground truth there.
    """
    values = {
        f"kitti/{curve.class_name}_{curve.difficulty.name}_{points}": value
        for curve in curves
        if curve.num_objects
        for points, value in (("R40", curve.r40), ("R11", curve.r11))
    }
    moderate = [value for name, value in values.items() if name.endswith("_moderate_R40")]
    return values | ({MODERATE_MEAN: sum(moderate) / len(moderate)} if moderate else {})


def kitti_table(curves: Sequence[Curve]) -> Table:
    """KITTI AP, one row for each class and difficulty."""
    table = empty_table("KITTI 2D AP, %", ("class", "difficulty", "objects", "R40", "R11"))
    for name, of_class in groupby(curves, key=lambda curve: curve.class_name):
        for curve in of_class:
            if curve.num_objects:
                r40, r11 = percent(curve.r40) + "*" * curve.is_small, percent(curve.r11)
                table.add_row(name, curve.difficulty.name, str(curve.num_objects), r40, r11)
        table.add_section()
    if (mean := kitti_metrics(curves).get(MODERATE_MEAN)) is not None:
        table.add_row("mean", "moderate", "", percent(mean), "", style="bold")
    if any(curve.is_small for curve in curves):
        table.caption = "* n <= 40 objects:\nR40 is at most (n - 1) / 40"
    return table


def percent(value: float) -> str:
    """Two digits; a dash where nothing is known."""
    return "-" if math.isnan(value) else f"{100 * value:.2f}"


def empty_table(title: str, columns: Sequence[str]) -> Table:
    """An empty table, at most 80 characters wide; only the class gives way on a narrower one."""
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in columns:
        justify = "left" if column in ("class", "difficulty") else "right"
        is_class = column == "class"
        table.add_column(column, justify=justify, no_wrap=not is_class, min_width=4 * is_class)
    return table
