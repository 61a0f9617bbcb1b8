"""What a record is held against, whoever wrote it and whoever reads it."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from efficientdet.dataset.example import Record
from efficientdet.dataset.file_names import file_name, shown
from efficientdet.dataset.image import ImageError, ImageHeader, decode
from efficientdet.dataset.kitti import KittiObject, LabelError, parse_line
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.tfrecord import Place
from efficientdet.errors import UserError

# Kinds of problems.
PIXELS = "pixel coordinates: box_loss would stay at 0"
SCHEMA = "schema"
NAME = "source_id"
OUTSIDE = "box outside [0, 1]"
ORDER = "empty or inverted box"
CLASS_ID = "class id"
LINE = "box or class contradicts its KITTI label line"
IMAGE = "image"
CROWDED = "more objects than max_instances_per_image"

_EPSILON = 1e-5  # float32 rounding of x / width
_MAX_ID = 2**31 - 1
MAX_TEXT = 200  # letters of a class name
_LINE_TOLERANCE_PX = 1.1  # the converter clips boxes by up to one pixel


@dataclass(frozen=True)
class Rules:
    """What a record is held against.

    Attributes:
        label_map: None checks ids without it.
        max_instances: objects that an image may hold, ignore regions aside.
        decode_images: decode pixels, and verify hashes.
        strict: False: only what no reader can do without.
    """

    label_map: LabelMap | None
    max_instances: int = 100
    decode_images: bool = True
    strict: bool = True

    def check(self, record: Record) -> Iterator[tuple[str, str]]:
        """All problems of one record as (kind, what); `what` is one line."""
        for kind, what in self._problems(record):
            yield kind, shown(what)

    def _problems(self, record: Record) -> Iterator[tuple[str, str]]:
        yield from _check_schema(record)
        yield from _check_ids(record, self.label_map)
        if not_finite := np.flatnonzero(~np.isfinite(record.boxes).all(axis=1)).tolist():
            yield OUTSIDE, f"object {not_finite[0]}: {_box_text(record.boxes[not_finite[0]])}"
        try:
            items = _parse_lines(record)
        except LabelError as error:
            items = []
            yield LINE, str(error)
        try:
            header = record.image_header()
        except ImageError as error:
            yield IMAGE, str(error)
            return
        if self.strict:
            yield from self._doubts(record, header, items)

    def _doubts(
        self, record: Record, header: ImageHeader, items: list[KittiObject | None]
    ) -> Iterator[tuple[str, str]]:
        """What could be read all the same, and hardly is what was meant."""
        yield from _check_image(record, header, self.decode_images)
        yield from _check_names(record, self.label_map)
        box_problems = list(_check_boxes(record))
        yield from box_problems or _check_lines(record, header, items)
        count = record.is_crowd.count(0)
        if count > self.max_instances:
            yield (
                CROWDED,
                f"{count} objects, the limit is {self.max_instances}; set "
                f"--hparams=max_instances_per_image={count} or more",
            )


def place_name(place: Place, record: Record) -> str:
    """`train.record, record 7 (000042)`."""
    return f"{place} ({shown(record.source_id, 100)})"


def _check_schema(record: Record) -> Iterator[tuple[str, str]]:
    for problem in record.problems:
        yield SCHEMA, problem
    if odd := set(record.is_crowd) - {0, 1}:
        yield SCHEMA, f"image/object/is_crowd is {min(odd)}, expected 0 or 1"
    if (longest := max(map(len, record.texts), default=0)) > MAX_TEXT:
        yield SCHEMA, f"image/object/class/text has {longest:,} letters, expected a name"
    if not record.problems:
        try:
            file_name(record.source_id)
        except UserError as error:
            yield NAME, str(error)


def _check_ids(record: Record, label_map: LabelMap | None) -> Iterator[tuple[str, str]]:
    """At most one problem a record."""
    for index, label in enumerate(record.labels):
        if label == 0 and not record.is_crowd[index]:
            what = "without is_crowd=1; 0 is the background, ids start at 1"
            yield CLASS_ID, f"{_named(record, index)} {what}"
        elif label < 0:
            yield CLASS_ID, f"{_named(record, index)}; ids start at 1"
        elif label > (last := label_map.num_classes if label_map else _MAX_ID):
            whose = "the label map ends" if label_map else "ids end"
            yield CLASS_ID, f"{_named(record, index)}; {whose} at {last}"
        else:
            continue
        return


def _named(record: Record, index: int) -> str:
    text = shown(record.texts[index], 40) or "without class text"
    return f"object {index} ({text}) has id {record.labels[index]}"


def _parse_lines(record: Record) -> list[KittiObject | None]:
    """For each object its label line, None where it has none; LabelError names the object."""
    return [
        parse_line(line, f"object {index}") if line else None
        for index, line in enumerate(record.lines)
    ]


def _check_image(
    record: Record, header: ImageHeader, decode_images: bool
) -> Iterator[tuple[str, str]]:
    if decode_images:
        try:
            decode(record.encoded)
        except ImageError as error:
            yield IMAGE, str(error)
            return
    stated = (record.height or header.height, record.width or header.width)
    if stated != (header.height, header.width):
        yield (
            IMAGE,
            f"image/width x image/height is {stated[1]}x{stated[0]}, the image has "
            f"{header.width}x{header.height}",
        )
    if record.format.lower().replace("jpg", "jpeg") not in ("", header.format):
        yield IMAGE, f"image/format is {record.format!r}, the bytes are {header.format}"
    hashed = record.sha256 if decode_images else ""
    if hashed and hashed != hashlib.sha256(record.encoded).hexdigest():
        yield IMAGE, "image/key/sha256 is not the hash of image/encoded"


def _check_boxes(record: Record) -> Iterator[tuple[str, str]]:
    """At most one problem of each kind a record: one mistake of a script is in every box."""
    boxes = record.boxes
    finite = np.isfinite(boxes).all(axis=1)
    if (pixels := np.flatnonzero(finite & (np.abs(boxes) > 2).any(axis=1))).size:
        yield PIXELS, _pixel_text(record, int(pixels[0]))
        return
    outside = finite & ((boxes < -_EPSILON) | (boxes > 1 + _EPSILON)).any(axis=1)
    inverted = finite & ((boxes[:, 0] >= boxes[:, 2]) | (boxes[:, 1] >= boxes[:, 3]))
    for kind, bad in ((OUTSIDE, outside), (ORDER, inverted)):
        if (rows := np.flatnonzero(bad)).size:
            yield kind, f"object {rows[0]}: {_box_text(boxes[rows[0]])}"


def _pixel_text(record: Record, index: int) -> str:
    box = record.boxes[index]
    size = np.array([record.width, record.height] * 2)
    if not size.all():
        return f"object {index}: {_box_text(box)}; expected these over the image's width and height"
    return (
        f"object {index}: {_box_text(box)}; over the image's {record.width}x{record.height} it "
        f"would be {_box_text(box / size)}"
    )


def _box_text(box: np.ndarray) -> str:
    sides = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    return " ".join(f"{side} {value:.5g}" for side, value in sides)


def _check_names(record: Record, label_map: LabelMap | None) -> Iterator[tuple[str, str]]:
    """At most one problem a record."""
    for index, (label, text) in enumerate(zip(record.labels, record.texts, strict=True)):
        expected = label_map.id_of(text) if label_map and label else None
        if expected and expected != label:
            yield CLASS_ID, f"{_named(record, index)}; the label map says {expected}"
            return


def _check_lines(
    record: Record, header: ImageHeader, items: list[KittiObject | None]
) -> Iterator[tuple[str, str]]:
    """Holds boxes and classes against the raw label lines; at most one problem a record."""
    pixels = record.boxes * ([header.width, header.height] * 2)
    for index, item in enumerate(items):
        if item is None:
            continue
        line = record.lines[index]
        if np.abs(pixels[index] - item.box).max() > _LINE_TOLERANCE_PX:
            found = " ".join(f"{v:.2f}" for v in pixels[index])
            yield LINE, f"object {index}: the box is {found} px, its line says {line!r}"
            return
        if record.texts[index].lower() != item.type.lower():
            yield LINE, f"object {index}: the class is {record.texts[index]!r}, its line {line!r}"
            return
