"""What a record is held against, whoever wrote it."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from efficientdet.dataset.example import Record
from efficientdet.dataset.image import ImageError, decode, read_header
from efficientdet.dataset.kitti import LabelError, parse_line
from efficientdet.dataset.label_map import LabelMap

# Kinds of problems.
PIXELS = "pixel coordinates: box_loss would stay at 0"
SCHEMA = "schema"
OUTSIDE = "box outside [0, 1]"
ORDER = "empty or inverted box"
CLASS_ID = "class id"
LINE = "box or class contradicts its KITTI label line"
IMAGE = "image"
CROWDED = "more objects than max_instances_per_image"

_EPSILON = 1e-5  # float32 rounding of x / width
_LINE_TOLERANCE_PX = 1.1  # the converter clips boxes by up to one pixel


@dataclass(frozen=True)
class Rules:
    """What a record is held against.

    Attributes:
        label_map: None checks ids without it.
        max_instances: objects that an image may hold, ignore regions aside.
        decode_images: decode pixels, and verify hashes.
    """

    label_map: LabelMap | None
    max_instances: int = 100
    decode_images: bool = True

    def check(self, record: Record) -> Iterator[tuple[str, str]]:
        """All problems of one record as (kind, what)."""
        for problem in record.problems:
            yield SCHEMA, problem
        yield from _check_image(record, self.decode_images)
        yield from _check_classes(record, self.label_map)
        box_problems = list(_check_boxes(record))
        yield from box_problems or _check_lines(record)
        count = record.is_crowd.count(0)
        if count > self.max_instances:
            yield (
                CROWDED,
                f"{count} objects, the limit is {self.max_instances}; set "
                f"--hparams=max_instances_per_image={count} or more",
            )


def _check_image(record: Record, decode_images: bool) -> Iterator[tuple[str, str]]:
    try:
        header = read_header(record.encoded)
        if decode_images:
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
    for kind, bad in ((OUTSIDE, outside), (OUTSIDE, ~finite), (ORDER, inverted)):
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


def _check_classes(record: Record, label_map: LabelMap | None) -> Iterator[tuple[str, str]]:
    """At most one problem a record."""
    for index, (label, text) in enumerate(zip(record.labels, record.texts, strict=True)):
        named = f"object {index} ({text or 'without class text'}) has id {label}"
        if label == 0 and not record.is_crowd[index]:
            yield CLASS_ID, f"{named} without is_crowd=1; 0 is the background, ids start at 1"
            return
        if label < 0:
            yield CLASS_ID, f"{named}; ids start at 1"
            return
        if label_map and label > label_map.num_classes:
            yield CLASS_ID, f"{named}; the label map ends at {label_map.num_classes}"
            return
        expected = label_map.id_of(text) if label_map and label else None
        if expected and expected != label:
            yield CLASS_ID, f"{named}; the label map says {expected}"
            return


def _check_lines(record: Record) -> Iterator[tuple[str, str]]:
    """Holds boxes and classes against the raw label lines; at most one problem a record."""
    if not (record.width and record.height):
        return
    pixels = record.boxes * [record.width, record.height, record.width, record.height]
    for index, line in enumerate(record.lines):
        if not line:
            continue
        try:
            item = parse_line(line, f"object {index}")
        except LabelError as error:
            yield LINE, str(error)
            return
        box = np.array([item.left, item.top, item.right, item.bottom])
        if np.abs(pixels[index] - box).max() > _LINE_TOLERANCE_PX:
            found = " ".join(f"{v:.2f}" for v in pixels[index])
            yield LINE, f"object {index}: the box is {found} px, its line says {line!r}"
            return
        if record.texts[index].lower() != item.type.lower():
            yield LINE, f"object {index}: the class is {record.texts[index]!r}, its line {line!r}"
            return
