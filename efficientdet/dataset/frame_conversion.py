"""One frame's image and label file -> one example, or all that is wrong with them."""

from dataclasses import dataclass, field, replace

from efficientdet.dataset.example import Annotation, make_examples
from efficientdet.dataset.image import (
    ImageError,
    ImageHeader,
    as_png,
    decode,
    is_turned,
    read_header,
)
from efficientdet.dataset.kitti import Frame, KittiObject, parse_labels, read_file
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.options import Options
from efficientdet.dataset.tfrecord import framed

_CLIP_PX = 1.0  # a box may leave the image by this much: rounding in the labels


@dataclass(frozen=True)
class Converted:
    """One frame on its way into a record; with errors there is no example."""

    frame: Frame
    errors: list[str]
    example: tuple[bytes, ...] = ()  # in parts, of which the image is one
    around: bytes = b""  # the 16 bytes that stand around the example in a record
    without_pixels: bytes = b""  # the same example, for the index
    header: ImageHeader | None = None
    annotations: list[Annotation] = field(default_factory=list)
    objects: dict[int, KittiObject] = field(default_factory=dict)  # by line, also of a bad frame
    was: str = ""  # the format of an image that was made a PNG
    turned: bool = False  # by EXIF, in viewers


def convert_frame(frame: Frame, label_map: LabelMap, options: Options) -> Converted:
    """Reads one frame's two files and makes its example; collects what is wrong with them."""
    errors: list[str] = []
    encoded, header, was = _read_image(frame, options, errors)
    objects = _read_objects(frame, options, errors)
    if header is None or objects is None:
        return Converted(frame, errors, objects=objects or {})
    annotations = _annotate(frame, objects, header, label_map, options, errors)
    if errors:
        return Converted(frame, errors, header=header, objects=objects)
    name = frame.image.name
    example, rest = make_examples(encoded, header, frame.source_id, annotations, name)
    around, turned = b"".join(framed(*example)), is_turned(encoded)
    return Converted(frame, [], example, around, rest, header, annotations, objects, was, turned)


def with_labels(stored: Converted, label_map: LabelMap, options: Options) -> Converted:
    """A frame as it was converted but for its example, whose labels are read again.

    Args:
        stored: what its image told; no objects, no annotations.
    """
    objects, annotations = _read_objects(stored.frame, options, []) or {}, []
    if not stored.errors:
        frame, header = stored.frame, stored.header
        annotations = _annotate(frame, objects, header, label_map, options, [])
    return replace(stored, objects=objects, annotations=annotations)


def clip_box(item: KittiObject, header: ImageHeader) -> tuple[float, float, float, float]:
    """The object's box in pixels, clipped where it leaves the image by at most one.

    Raises:
        ValueError: further outside, empty, or with an impossible occlusion or truncation.
    """
    left, top = max(item.left, 0.0), max(item.top, 0.0)
    right, bottom = min(item.right, float(header.width)), min(item.bottom, float(header.height))
    box = f"box {item.left:g} {item.top:g} {item.right:g} {item.bottom:g}"
    outside = max(left - item.left, top - item.top, item.right - right, item.bottom - bottom)
    if outside > _CLIP_PX:
        raise ValueError(
            f"{box} is {outside:g} px outside the image of {header.width}x{header.height}"
        )
    if left >= right or top >= bottom:
        raise ValueError(f"{box} is empty: left >= right or top >= bottom")
    return left, top, right, bottom


def annotate(
    item: KittiObject,
    box: tuple[float, float, float, float],
    label_map: LabelMap,
    options: Options,
) -> Annotation:
    """The object as training sees it: with its id, or as an ignore region where a filter says so.

    Raises:
        ValueError: occlusion or truncation out of range.
    """
    if not -1 <= item.occluded <= 3:
        raise ValueError(f"occluded is {item.occluded}, expected 0, 1, 2 or 3 (-1 where unknown)")
    if not 0 <= item.truncated <= 1 and item.truncated != -1:
        raise ValueError(f"truncated is {item.truncated:g}, expected 0 to 1 (-1 where unknown)")
    kept = (
        item.bottom - item.top >= options.min_box_height
        and item.occluded <= options.max_occlusion
        and item.truncated <= options.max_truncation
    )
    label = (label_map.id_of(item.type) or 0) if kept else 0
    return Annotation(
        box=box,
        label=label,
        text=label_map.spelt(item.type),
        is_crowd=label == 0,
        difficult=item.difficulty is None,
        truncated=item.truncated,
        occluded=item.occluded,
        line=item.line,
    )


def _annotate(
    frame: Frame,
    objects: dict[int, KittiObject],
    header: ImageHeader,
    label_map: LabelMap,
    options: Options,
    errors: list[str],
) -> list[Annotation]:
    annotations = []
    for number, item in objects.items():
        try:
            box = clip_box(item, header)
            annotations.append(annotate(item, box, label_map, options))
        except ValueError as error:
            errors.append(f"{frame.label}:{number}: {error}")
    return annotations


def _read_image(
    frame: Frame, options: Options, errors: list[str]
) -> tuple[bytes, ImageHeader | None, str]:
    """Bytes, header, and the format that the image had where it was made a PNG."""
    if frame.image is None:
        errors.append(f"{frame.label}: no image {frame.source_id}.png or .jpg for this label")
        return b"", None, ""
    try:
        encoded, was = as_png(read_file(frame.image))
        header = read_header(encoded)
        if options.verify_images:
            decode(encoded)
        return encoded, header, was
    except OSError as error:
        errors.append(f"{frame.image}: {error.strerror}")
    except ImageError as error:
        errors.append(f"{frame.image}: {error}")
    return b"", None, ""


def _read_objects(
    frame: Frame, options: Options, errors: list[str]
) -> dict[int, KittiObject] | None:
    if options.subset == "testing":
        return {}
    if frame.label is None and options.missing_is_empty:
        return {}
    if frame.label is None:
        errors.append(f"{frame.image}: no label {frame.source_id}.txt for this image")
        return None
    try:
        objects, problems = parse_labels(read_file(frame.label), frame.label, scored=None)
    except OSError as error:
        objects, problems = None, [f"{frame.label}: {error.strerror}"]
    errors += problems
    return objects
