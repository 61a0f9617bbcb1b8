"""KITTI label text <-> objects (object devkit, readme.txt: 15 columns, a 16th `score` in results).

A line: `type truncated occluded alpha left top right bottom height width length x y z rotation_y`.
"""

import math
from dataclasses import dataclass
from pathlib import Path

from efficientdet.errors import UserError

CLASSES = ("Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc")
DONT_CARE = "DontCare"
_CANONICAL = {name.lower(): name for name in (*CLASSES, DONT_CARE)}


class LabelError(UserError):
    """A label line that cannot be read; the text is `file:line: what`."""


@dataclass(frozen=True, slots=True)
class KittiObject:
    """One line of a label or result file.

    Box edges are 0-based pixels; dimensions and location are metres in camera coordinates; angles
    are radians. `type` is the canonical spelling. `line` is the raw text without its line end.
    """

    type: str
    truncated: float
    occluded: int
    alpha: float
    left: float
    top: float
    right: float
    bottom: float
    height: float
    width: float
    length: float
    x: float
    y: float
    z: float
    rotation_y: float
    score: float | None = None
    line: str = ""

    @property
    def is_dont_care(self) -> bool:
        """A region whose objects were not labelled."""
        return self.type == DONT_CARE


def parse_line(line: str, where: str = "<line>") -> KittiObject:
    """One object of one line; columns are separated by any white space.

    Args:
        line: 15 columns, or 16 with a score; a class name in any letter case.
        where: `file:line`, for the error text.

    Raises:
        LabelError: wrong column count, unknown class, not a finite number, or left > right.
    """
    columns = line.split()
    if len(columns) not in (15, 16):
        raise LabelError(f"{where}: {len(columns)} columns, expected 15 (16 with a score)")
    name = _CANONICAL.get(columns[0].lower())
    if name is None:
        raise LabelError(f"{where}: unknown class {columns[0]!r}, expected one of KITTI's")
    numbers = [_number(text, where) for text in columns[1:]]
    if not numbers[1].is_integer():
        raise LabelError(f"{where}: occluded is {columns[2]!r}, expected 0, 1, 2 or 3")
    left, top, right, bottom = numbers[3:7]
    if left > right or top > bottom:
        raise LabelError(f"{where}: box {left:g} {top:g} {right:g} {bottom:g} has left > right or top > bottom")
    return KittiObject(
        name, numbers[0], int(numbers[1]), *numbers[2:14],
        score=numbers[14] if len(numbers) == 15 else None, line=line.rstrip("\r\n"),
    )


def read_labels(path: str | Path) -> list[KittiObject]:
    """All objects of one label or result file, in file order; empty lines are skipped."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise LabelError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise LabelError(f"{path}: {error.strerror}") from None
    return [
        parse_line(line, f"{path}:{number}")
        for number, line in enumerate(text.splitlines(), start=1)
        if line.strip()
    ]


def _number(text: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise LabelError(f"{where}: {text!r} is not a finite number")
    return number
