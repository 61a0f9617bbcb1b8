"""KITTI's folders and label text (object devkit, readme.txt).

A line: `type truncated occluded alpha left top right bottom height width length x y z rotation_y`,
15 columns; lines of results have a 16th, `score`.
"""

import errno
import math
import stat
from dataclasses import dataclass
from pathlib import Path

from efficientdet.dataset.text_file import read_bytes, shown
from efficientdet.errors import UserError

CLASSES = ("Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc")
BENCHMARK = ("Car", "Pedestrian", "Cyclist")  # what KITTI ranks detectors by
DONT_CARE = "DontCare"
_NOT_TRUTH = "16 columns: a score, as in a detector's results; expected ground truth, which has 15"
_CANONICAL = {name.lower(): name for name in (*CLASSES, DONT_CARE)}

# Object devkit, evaluate_object.cpp: least box height in px, most occlusion, most truncation.
DIFFICULTIES = {"easy": (40, 0, 0.15), "moderate": (25, 1, 0.30), "hard": (25, 2, 0.50)}
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")  # in order of preference
_MAX_NUMBER = 1e9  # pixels, metres, a score: beyond it areas overflow


class LabelError(UserError):
    """A label line that cannot be read; the text is `file:line: what`."""


@dataclass(frozen=True, slots=True)
class KittiObject:
    """One line of a label or result file.

    Box edges are 0-based pixels; dimensions and location are metres in camera coordinates; angles
    are radians. `type` is the canonical spelling. `line` is the raw text without its `\n`
    (a `\r` before it stays).
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
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        return self.left, self.top, self.right, self.bottom

    @property
    def distance(self) -> float | None:
        """Metres ahead of the camera; None where the line has KITTI's filler."""
        return self.z if self.z > -1000 else None

    @property
    def is_dont_care(self) -> bool:
        """A region whose objects were not labelled."""
        return self.type == DONT_CARE

    @property
    def difficulty(self) -> str | None:
        """The easiest level that counts this object, or None beyond `hard`."""
        return difficulty(self.bottom - self.top, self.occluded, self.truncated)


@dataclass(frozen=True, slots=True)
class Frame:
    """One image with its label file; None stands for a file that is missing."""

    source_id: str
    image: Path | None
    label: Path | None


def difficulty(height: float, occluded: int, truncated: float) -> str | None:
    """`easy`, `moderate` or `hard`, whichever counts the object first; None beyond `hard`.

    Args:
        height: of the box, in pixels.
        occluded: 0 to 3.
        truncated: 0 to 1.
    """
    for name, (min_height, max_occlusion, max_truncation) in DIFFICULTIES.items():
        if height >= min_height and occluded <= max_occlusion and truncated <= max_truncation:
            return name
    return None


def parse_line(line: str, where: str = "<line>") -> KittiObject:
    """One object of one line; columns are separated by any white space.

    Args:
        line: 15 columns, or 16 with a score; a class name in any letter case.
        where: `file:line`, for the error text.

    Raises:
        LabelError: wrong column count, unknown class, no finite number of a sane size, or left >
            right.
    """
    columns = line.split()
    if len(columns) not in (15, 16):
        raise LabelError(f"{where}: {len(columns)} columns, expected 15 (16 with a score)")
    name = _CANONICAL.get(columns[0].lower())
    if name is None:
        raise LabelError(f"{where}: unknown class {shown(columns[0])}, expected one of KITTI's")
    numbers = [_number(text, where) for text in columns[1:]]
    if not numbers[1].is_integer():
        raise LabelError(f"{where}: occluded is {shown(columns[2])}, expected 0, 1, 2 or 3")
    left, top, right, bottom = numbers[3:7]
    if left > right or top > bottom:
        box = f"{left:g} {top:g} {right:g} {bottom:g}"
        raise LabelError(f"{where}: box {box} has left > right or top > bottom")
    return KittiObject(
        name,
        numbers[0],
        int(numbers[1]),
        *numbers[2:14],
        score=numbers[14] if len(numbers) == 15 else None,
        line=line.rstrip("\n"),
    )


def parse_labels(
    data: bytes, path: str | Path, *, scored: bool = False
) -> tuple[dict[int, KittiObject], list[str]]:
    """Reads a whole label or result file and goes on after a bad line.

    Windows line ends, tabs and a byte order mark are accepted; empty lines are skipped.

    Args:
        scored: a file of results, with a score in every line. Else it is ground truth, and a score
            is an error: what a detector found would be taken for what is there.

    Returns:
        The objects by line number (from 1), and one `file:line: what` for each bad line.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return {}, [f"{path}:{line}: not UTF-8 text (byte {error.start} of the file)"]
    objects, errors = {}, []
    what = "15 columns, expected a 16th, the score" if scored else _NOT_TRUTH
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            if line.strip():
                item = parse_line(line, f"{path}:{number}")
                if (item.score is not None) != scored:
                    raise LabelError(f"{path}:{number}: {what}")
                objects[number] = item
        except LabelError as error:
            errors.append(str(error))
    return objects, errors


def read_labels(path: str | Path, *, scored: bool = False) -> list[KittiObject]:
    """All objects of one label file, or of one `scored` result file, in file order.

    Raises:
        UserError: unreadable, or the first bad line.
    """
    objects, errors = parse_labels(read_bytes(path, "lines of KITTI labels"), path, scored=scored)
    if errors:
        raise LabelError(errors[0])
    return list(objects.values())


def read_file(path: Path) -> bytes:
    """The bytes of a regular file.

    Raises:
        OSError: also where it is a pipe, which would never end, a device, a socket or a folder.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return path.read_bytes()


def find_frames(root: str | Path, subset: str) -> list[Frame]:
    """All frames of `training` or `testing`, by id: those that have an image, a label, or both.

    Args:
        root: the folder that holds `training/` and `testing/`, one above it (`object/`), or the
            folder `training/` itself.
        subset: `training` or `testing`; the latter has no labels.

    Raises:
        UserError: no such folder; says where it was looked for.
    """
    folder = _find_folder(Path(root), subset)
    images: dict[str, Path] = {}
    for suffix in reversed(IMAGE_SUFFIXES):
        images |= _files(folder / "image_2", suffix)
    if subset == "testing":
        return [Frame(name, images[name], None) for name in sorted(images)]
    labels = _files(folder / "label_2", ".txt")
    return [Frame(name, images.get(name), labels.get(name)) for name in sorted(images | labels)]


def _find_folder(root: Path, subset: str) -> Path:
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; --kitti_root is the one that holds training/")
    beside = root if subset == "training" else root.resolve().parent / subset
    candidates = (root / subset, root / "object" / subset, beside)
    for folder in candidates:
        if (folder / "image_2").is_dir():
            return folder
    raise UserError(
        f"{root}: no {subset}/image_2 in it; expected --kitti_root to hold {subset}/image_2"
        + ("" if subset == "testing" else f" and {subset}/label_2")
    )


def _files(folder: Path, suffix: str) -> dict[str, Path]:
    """Id -> file, in the order of their names."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() != suffix or path.name.startswith("."):  # ._x.png of a Mac
            continue
        if not path.name.isprintable():
            raise UserError(f"{folder}: rename {path.name!a}, which is no readable name")
        if other := files.get(path.stem):
            raise UserError(f"{path} and {other.name} are of one frame; keep one of them")
        files[path.stem] = path
    return files


def _number(text: str, where: str) -> float:
    try:
        # Python also reads 1_000 and the digits of every script; nobody means them.
        number = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise LabelError(f"{where}: {shown(text)} is not a finite number")
    if abs(number) > _MAX_NUMBER:
        raise LabelError(f"{where}: {shown(text)} is beyond {_MAX_NUMBER:g}")
    return number
