"""KITTI's folders and label text (object devkit, readme.txt).

A line: `type truncated occluded alpha left top right bottom height width length x y z rotation_y`,
15 columns; lines of results have a 16th, `score`. Other tools leave out what they do not know: they
write 8 columns, to the box, or 5, class and box. The type is any name, blanks in it too.
"""

import errno
import math
import os
import stat
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from efficientdet.dataset.text_file import read_bytes
from efficientdet.errors import UserError, shown
from efficientdet.wording import meant

CLASSES = ("Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc")
BENCHMARK = ("Car", "Pedestrian", "Cyclist")  # what KITTI ranks detectors by
DONT_CARE = "DontCare"
_NOT_TRUTH = "16 columns: a score, as in a detector's results; expected ground truth, which has 15"
_CANONICAL = {name.lower(): name for name in (*CLASSES, DONT_CARE)}

# Object devkit, evaluate_object.cpp: least box height in px, most occlusion, most truncation.
DIFFICULTIES = {"easy": (40, 0, 0.15), "moderate": (25, 1, 0.30), "hard": (25, 2, 0.50)}
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
MAX_NUMBER = 1e9  # pixels, metres, a score: beyond it areas overflow
_MAX_NAME = 200  # letters of a class
# What KITTI writes where it does not know: truncated, occluded, alpha; and all that is in metres.
_BEFORE, _AFTER = ("-1", "-1", "-10"), (*["-1"] * 3, *["-1000"] * 3, "-10")
# Columns -> what a line of so many is taken for; a name with blanks counts as one column.
FORMS = {
    5: "class and box `left top right bottom` in pixels; all else as not known",
    8: "KITTI's line up to the box; the 3D columns as not known",
    15: "KITTI's line",
    16: "KITTI's line and a score, which is dropped",
}


class LabelError(UserError):
    """A label line that cannot be read; the text is `file:line: what`."""


@dataclass(frozen=True, slots=True)
class KittiObject:
    """One line of a label or result file.

    Box edges are 0-based pixels; dimensions and location are metres in camera coordinates; angles
    are radians. `type` is as in `class_name`. `line` is the raw text without its `\n`
    (a `\r` before it stays), and `columns` how many it had, of `FORMS`.
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
    columns: int = 15

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        return self.left, self.top, self.right, self.bottom

    @property
    def distance(self) -> float | None:
        """Metres ahead of the camera; None where the line has a filler, KITTI's or zeros."""
        known = min(self.height, self.width, self.length) > 0 and self.z > -1000
        return self.z if known else None

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


@lru_cache(1024)
def class_name(text: str) -> str:
    """A class's name as it is compared and stored: of one Unicode form, without quotes around it.

    KITTI's own are spelt as KITTI spells them, whatever their letter case.
    """
    name = unicodedata.normalize("NFC", text.strip("'\""))
    return _CANONICAL.get(name.lower(), name)


def parse_line(line: str, where: str = "<line>") -> KittiObject:
    """One object of one line; columns are separated by any white space.

    Args:
        line: a class name and 4, 7, 14 or 15 numbers, see `FORMS`.
        where: `file:line`, for the error text.

    Raises:
        LabelError: wrong column count, no name, no finite number of a sane size, left > right, or
            a line of YOLO's.
    """
    words, texts = _name_and_numbers(line.split())
    count = len(texts) + 1
    if count not in FORMS:
        raise LabelError(f"{where}: {count} columns, expected 15, or 5, 8 or 16")
    name = class_name(" ".join(words))
    if not name.isprintable() or not 0 < len(name) <= _MAX_NAME:
        raise LabelError(f"{where}: {shown(name)} is no name of a class")
    if count == 5:
        texts = [*_BEFORE, *texts]
    texts = [*texts, *_AFTER] if count < 15 else texts
    numbers = _numbers(texts, where)
    if not numbers[1].is_integer():
        raise LabelError(f"{where}: occluded is {shown(texts[1])}, expected 0, 1, 2 or 3")
    if count == 5 and all(0 <= number <= 1 for number in numbers[3:7]):
        raise LabelError(
            f"{where}: this looks like YOLO's `class x y width height` in shares of the image; "
            "datumaro turns such labels into KITTI's (docs/own_data.md)"
        )
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
        columns=count,
    )


def _name_and_numbers(columns: list[str]) -> tuple[list[str], list[str]]:
    """The words of the class name, and the rest: a name has blanks where so the rest is a form."""
    first = next((i for i in range(1, len(columns)) if _is_number(columns[i])), len(columns))
    first = first if len(columns) - first + 1 in FORMS else 1
    return columns[:first], columns[first:]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def parse_labels(
    data: bytes, path: str | Path, *, scored: bool | None = False
) -> tuple[dict[int, KittiObject], list[str]]:
    """Reads a whole label or result file and goes on after a bad line.

    Windows line ends, tabs and a byte order mark are accepted; empty lines are skipped.

    Args:
        scored: a file of results, with a score in every line. False: ground truth, and a score is
            an error: what a detector found would be taken for what is there. None: either.

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
                if scored is not None and (item.score is not None) != scored:
                    raise LabelError(f"{path}:{number}: {what}")
                objects[number] = item
        except LabelError as error:
            errors.append(str(error))
    return objects, errors


def read_labels(
    path: str | Path, *, scored: bool | None = False, names: Collection[str] | None = None
) -> list[KittiObject]:
    """All objects of one label file, or of one `scored` result file, in file order.

    Args:
        scored: see `parse_labels`.
        names: the classes that may stand there; None: any.

    Raises:
        UserError: unreadable, or the first bad line.
    """
    objects, errors = parse_labels(read_bytes(path, "lines of KITTI labels"), path, scored=scored)
    errors += [
        f"{path}:{line}: unknown class {shown(item.type)}, expected one of KITTI's"
        f"{meant(item.type, names)}"
        for line, item in objects.items()
        if names is not None and item.type not in names
    ]
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


def find_frames(
    root: str | Path | None,
    subset: str,
    image_dir: str | Path | None = None,
    label_dir: str | Path | None = None,
) -> list[Frame]:
    """All frames of `training` or `testing`, by id: those that have an image, a label, or both.

    Args:
        root: the folder that holds `training/` and `testing/`, one above it (`object/`), or the
            folder `training/` itself.
        subset: `training` or `testing`; the latter has no labels.
        image_dir, label_dir: folders of other names, relative to `root`; by default `image_2` and
            `label_2` of the subset. Folders inside them are part of an id: `cam1/000123`.

    Raises:
        UserError: no such folder, which says where it was looked for; two files of one id; or
            images and labels that have not one id in common.
    """
    root = Path(root or "")
    folder = None if image_dir and (label_dir or subset == "testing") else _find(root, subset)
    image_folder = root / image_dir if image_dir else folder / "image_2"
    images = _files(image_folder, IMAGE_SUFFIXES)
    if subset == "testing":
        return [Frame(name, images[name], None) for name in sorted(images)]
    label_folder = root / label_dir if label_dir else folder / "label_2"
    labels = _files(label_folder, (".txt",))
    if labels and not images:
        known = ", ".join(IMAGE_SUFFIXES)
        raise UserError(
            f"{image_folder}: no image ({known}) for any of the {len(labels)} labels in "
            f"{label_folder}, first {min(labels)}; name their folder by --image_dir"
        )
    if images and not images.keys() & labels.keys():
        many = (
            f"{len(labels)} label files (.txt), first {min(labels)}" if labels else "no .txt file"
        )
        raise UserError(
            f"{label_folder}: {many}, and none is for any of the {len(images)} images in "
            f"{image_folder}, first {min(images)}; name their folder by --label_dir"
        )
    return [Frame(name, images.get(name), labels.get(name)) for name in sorted(images | labels)]


def _find(root: Path, subset: str) -> Path:
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
        + ", or folders named by --image_dir and --label_dir"
    )


def _files(folder: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """Id -> file, in the order of their names; two files of one id are an error."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    files: dict[str, Path] = {}
    for path in _walk(folder, suffixes, {os.path.realpath(folder)}):
        if path.suffix.lower() not in suffixes:
            continue
        if not path.name.isprintable():
            raise UserError(f"{folder}: rename {path.name!a}, which is no readable name")
        name = unicodedata.normalize("NFC", path.relative_to(folder).with_suffix("").as_posix())
        if other := files.get(name):
            raise UserError(f"{path} and {other.name} are of one frame; keep one of them")
        files[name] = path
    return files


def _walk(folder: Path, suffixes: Sequence[str], seen: set[str]) -> Iterator[Path]:
    """The files below a folder, without hidden ones, such as `._x.png` of a Mac."""
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        if entry.name.startswith((".", "__MACOSX")):
            continue
        if not entry.is_dir() or Path(entry.name).suffix.lower() in suffixes:
            yield folder / entry.name  # a folder called 000007.png is said to be no file
        elif (real := os.path.realpath(entry.path)) not in seen:  # links may lead in a circle
            yield from _walk(folder / entry.name, suffixes, seen | {real})


def _numbers(texts: list[str], where: str) -> list[float]:
    """All columns at once where all are in order, as nearly always."""
    line = "".join(texts)
    if line.isascii() and "_" not in line:
        with suppress(ValueError):
            numbers = list(map(float, texts))
            if all(-MAX_NUMBER <= number <= MAX_NUMBER for number in numbers):  # no NaN, either
                return numbers
    return [_number(text, where) for text in texts]


def _number(text: str, where: str) -> float:
    try:
        # Python also reads 1_000 and the digits of every script; nobody means them.
        number = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise LabelError(f"{where}: {shown(text)} is not a finite number")
    if abs(number) > MAX_NUMBER:
        raise LabelError(f"{where}: {shown(text)} is beyond {MAX_NUMBER:g}")
    return number
