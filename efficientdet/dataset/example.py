"""One image with its objects <-> a tf.train.Example, in the fields of the TF Object Detection API.

Boxes are stored as `xmin xmax ymin ymax` in [0, 1] of the image's own size. An ignore region
(DontCare, or an object that a filter took out) has `is_crowd` 1 and label 0. The raw KITTI line of
each object stands in `image/object/kitti/label_line`.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf.message import DecodeError, Message

from efficientdet.dataset.example_message import Example, size_with, with_first
from efficientdet.dataset.image import ImageHeader, read_header
from efficientdet.errors import one_line

if TYPE_CHECKING:  # it takes seconds to load, and the converter does without
    import tensorflow as tf

SIDES = ("xmin", "xmax", "ymin", "ymax")
# What is stored: name here -> (key, type). One value an image, then one value an object.
_IMAGE = {
    "encoded": ("image/encoded", "bytes"),
    "format": ("image/format", "bytes"),
    "height": ("image/height", "int64"),
    "width": ("image/width", "int64"),
    "filename": ("image/filename", "bytes"),
    "source_id": ("image/source_id", "bytes"),
    "sha256": ("image/key/sha256", "bytes"),
}
_OBJECT = {side: (f"image/object/bbox/{side}", "float") for side in SIDES} | {
    "text": ("image/object/class/text", "bytes"),
    "label": ("image/object/class/label", "int64"),
    "area": ("image/object/area", "float"),
    "is_crowd": ("image/object/is_crowd", "int64"),
    "difficult": ("image/object/difficult", "int64"),
    "truncated": ("image/object/truncated", "float"),
    "occluded": ("image/object/occluded", "int64"),
    "line": ("image/object/kitti/label_line", "bytes"),
}
_SINGLE = ("encoded", "source_id", "height", "width")  # what readers take one value of
_TEXTS = ("source_id", "text", "line")
_ALIGNED = (*SIDES, "label")  # these lists have one entry an object, always
# PASCAL's script writes `truncated` as 0 and 1.
_ALSO = {"truncated": "int64"}


@dataclass(frozen=True, slots=True)
class Annotation:
    """One object of one example.

    Attributes:
        box: left, top, right, bottom in pixels, inside the image.
        label: 1..K, or 0 for an ignore region.
        text: the KITTI type, whatever the label map merges it into.
        difficult: beyond KITTI's hard level.
        line: the raw label line, without its line end.
    """

    box: tuple[float, float, float, float]
    label: int
    text: str
    is_crowd: bool = False
    difficult: bool = False
    truncated: float = 0.0
    occluded: int = 0
    line: str = ""

    @property
    def area(self) -> float:
        """px^2."""
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top)


def make_example(
    encoded: bytes,
    header: ImageHeader,
    source_id: str,
    annotations: Sequence[Annotation],
    filename: str = "",
) -> bytes:
    """One image and its objects as a serialized tf.train.Example; the image bytes stay untouched.

    Raises: as `make_examples`.
    """
    return b"".join(make_examples(encoded, header, source_id, annotations, filename)[0])


def make_examples(
    encoded: bytes,
    header: ImageHeader,
    source_id: str,
    annotations: Sequence[Annotation],
    filename: str = "",
) -> tuple[tuple[bytes, ...], bytes]:
    """The example in parts, one of which is `encoded`, and the same without the image's bytes.

    Raises:
        ValueError: a box that is empty or leaves the image, or label 0 without is_crowd: such an
            example would train on nonsense, so it cannot be made.
    """
    size = (header.width, header.height)
    for item in annotations:
        left, top, right, bottom = item.box
        if not (0 <= left < right <= header.width and 0 <= top < bottom <= header.height):
            raise ValueError(f"{source_id}: box {item.box} is not inside the image {size}")
        if (item.label == 0) != item.is_crowd:
            raise ValueError(f"{source_id}: label {item.label} with is_crowd={item.is_crowd}")
    image = {
        "format": header.format,
        "height": header.height,
        "width": header.width,
        "filename": filename or source_id,
        "source_id": source_id,
        "sha256": hashlib.sha256(encoded).hexdigest(),
    }
    boxes = {
        side: [item.box[i] / size[i % 2] for item in annotations]
        for side, i in zip(SIDES, (0, 2, 1, 3), strict=True)
    }
    example = Example()
    features = example.features.feature
    for name, value in image.items():
        key, kind = _IMAGE[name]
        _fill(features[key], [value], kind)
    for name, (key, kind) in _OBJECT.items():
        values = boxes[name] if name in boxes else [getattr(item, name) for item in annotations]
        _fill(features[key], values, kind)
    frame = example.SerializeToString(deterministic=True)  # a map has no order of its own
    return with_first(_IMAGE["encoded"][0], encoded, example), frame


def without_pixels(serialized: bytes) -> bytes:
    """The second of what `make_examples` returns, of the first."""
    example = Example.FromString(serialized)
    example.features.feature.pop(_IMAGE["encoded"][0], None)
    return example.SerializeToString(deterministic=True)


def parse_example(serialized: "tf.Tensor") -> dict[str, "tf.Tensor"]:
    """One serialized example as tensors; made for `tf.data.Dataset.map`.

    Also reads the records of the TF Object Detection API's and AutoML's scripts.

    Returns:
        image: encoded bytes, scalar string.
        height, width: int64 pixels; 0 where the record does not say.
        source_id: scalar string.
        boxes: float32 [N, 4], ymin xmin ymax xmax in [0, 1].
        classes: int64 [N], 1..K, or 0 for an ignore region.
        is_crowd: int64 [N].
        class_text, label_lines: string [N]; empty strings where the record has none.

    Raises:
        tf.errors.InvalidArgumentError: a feature of another type, or lists of unequal lengths.
    """
    from efficientdet.tensorflow_device import tf

    scalars = {"height": 0, "width": 0, "source_id": ""}
    lists = (*_ALIGNED, "text", "is_crowd", "line")
    types = {"bytes": tf.string, "float": tf.float32, "int64": tf.int64}
    features = {_IMAGE["encoded"][0]: tf.io.FixedLenFeature([], tf.string)}
    for name, default in scalars.items():
        key, kind = _IMAGE[name]
        features[key] = tf.io.FixedLenFeature([], types[kind], default)
    for key, kind in (_OBJECT[name] for name in lists):
        features[key] = tf.io.RaggedFeature(types[kind])
    parsed = tf.io.parse_single_example(serialized, features)
    values = {name: parsed[_OBJECT[name][0]] for name in lists}

    count = tf.size(values["label"])

    def equal_length(name: str) -> "tf.Operation | None":
        key, size = _OBJECT[name][0], tf.size(values[name])
        is_right = (size == count) | (tf.constant(name not in _ALIGNED) & (size == 0))
        what = f"{key} and {_OBJECT['label'][0]} are not of one length:"
        return tf.debugging.Assert(is_right, [what, size, count])

    def or_default(name: str, default: Any) -> "tf.Tensor":
        empty = tf.fill([count], default)
        return tf.cond(tf.size(values[name]) > 0, lambda: values[name], lambda: empty)

    with tf.control_dependencies([equal_length(name) for name in lists]):
        boxes = tf.stack([values[side] for side in ("ymin", "xmin", "ymax", "xmax")], axis=-1)
    return {
        "image": parsed[_IMAGE["encoded"][0]],
        **{name: parsed[_IMAGE[name][0]] for name in scalars},
        "boxes": boxes,
        "classes": values["label"],
        "is_crowd": or_default("is_crowd", tf.constant(0, tf.int64)),
        "class_text": or_default("text", ""),
        "label_lines": or_default("line", ""),
    }


@dataclass
class Record:
    """An example; what it lacks has the default, what is wrong stands in `problems`.

    Attributes:
        encoded: image bytes; empty where the record comes from an index.
        height, width: as stated, 0 where the record does not say.
        boxes: float64 [N, 4], xmin, ymin, xmax, ymax as stored.
        labels, is_crowd, occluded: int [N]; truncated: float [N].
        texts, lines: N strings.
        problems: texts about the schema; such a record's N may be cut to the shortest list.
    """

    encoded: bytes = b""
    source_id: str = ""
    height: int = 0
    width: int = 0
    format: str = ""
    sha256: str = ""
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    labels: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    is_crowd: list[int] = field(default_factory=list)
    truncated: list[float] = field(default_factory=list)
    occluded: list[int] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    has_pixels: bool = True

    def image_header(self) -> ImageHeader:
        """Of the image itself; where only an index was read, as the converter found it.

        Raises:
            ImageError: as `read_header`.
        """
        if self.has_pixels:
            return read_header(self.encoded)
        return ImageHeader(self.format, self.height, self.width)

    @classmethod
    def parse(cls, serialized: bytes, *, has_pixels: bool = True) -> "Record":
        """Reads a serialized tf.train.Example; never raises on bad content.

        Args:
            has_pixels: False: it is one of those that `make_examples` makes without the image.
        """
        try:
            example = Example.FromString(serialized)
        except DecodeError:
            return cls(problems=["not a tf.train.Example"])
        example.DiscardUnknownFields()
        features = example.features.feature
        image = {name: next(iter(_stored(features, name)), None) for name in _IMAGE}
        lists = {name: _values(features, name) for name in _OBJECT}
        count = min(len(lists[name]) for name in _ALIGNED)

        def column(name: str, default: object) -> list:
            return lists[name][:count] if len(lists[name]) >= count else [default] * count

        schema_problems = [*_schema_problems(features, ("encoded",) * has_pixels + ("source_id",))]
        size = _size_without(example, image["encoded"])
        sides = [lists[side][:count] for side in ("xmin", "ymin", "xmax", "ymax")]
        return cls(
            encoded=image["encoded"] or b"",
            source_id=_text(image["source_id"]),
            height=image["height"] or 0,
            width=image["width"] or 0,
            format=_text(image["format"]),
            sha256=_text(image["sha256"]),
            boxes=np.array(sides, np.float64).T,
            labels=column("label", 0),
            texts=[_text(text) for text in column("text", b"")],
            is_crowd=column("is_crowd", 0),
            truncated=column("truncated", 0.0),
            occluded=column("occluded", 0),
            lines=[_text(line) for line in column("line", b"")],
            has_pixels=has_pixels,
            problems=[
                *schema_problems,
                *(_parser_problems(serialized) if size != len(serialized) else ()),
            ],
        )


def _schema_problems(features: Mapping, required: Sequence[str]) -> Iterator[str]:
    for key in (_IMAGE[name][0] for name in required):
        if _kind_of(features, key) is None:
            yield f"{key} is missing"
    for name in _SINGLE:
        key, _ = _IMAGE[name]
        if _kind_of(features, key) and (count := len(_stored(features, name))) != 1:
            yield f"{key} has {count} values of its type, expected 1"
    for name in _TEXTS:
        for value in _values(features, name):
            if not _is_utf8(value):
                yield f"{(_IMAGE | _OBJECT)[name][0]} is not UTF-8 text: {value[:40]!r}"
                break
    for name, (key, kind) in (_IMAGE | _OBJECT).items():
        if (found := _kind_of(features, key)) and found not in (kind, _ALSO.get(name)):
            yield f"{key} is a {found}_list, expected {kind}_list"
    counts = {name: len(_values(features, name)) for name in _OBJECT}
    counts = {_OBJECT[name][0]: n for name, n in counts.items() if n or name in _ALIGNED}
    if len(set(counts.values())) > 1:
        lengths = ", ".join(f"{n} {key}" for key, n in counts.items())
        yield f"lists that should be of one length are not: {lengths}"


def _parser_problems(serialized: bytes) -> Iterator[str]:
    """What TensorFlow's own parser says, which the input pipeline uses.

    It costs ten times as much as the rest, and reads plainly written examples just as protobuf
    does; so it is asked about others alone.
    """
    from efficientdet.tensorflow_device import tf

    try:
        parse_example(tf.constant(serialized))
    except tf.errors.OpError as error:
        yield f"TensorFlow does not read it: {one_line(error)}"
    except UnicodeDecodeError:  # of TensorFlow's own message, which quotes the bytes
        yield "TensorFlow does not read it: not a tf.train.Example"


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _values(features: Mapping, name: str) -> list:
    return list(_stored(features, name))


def _stored(features: Mapping, name: str) -> Sequence:
    """What is stored under a name; nothing where the type is another one.

    Of protobuf's sequence each look at a value makes a copy: of an image, a large one.
    """
    key, kind = (_IMAGE | _OBJECT)[name]
    found = _kind_of(features, key)
    if found is None or found not in (kind, _ALSO.get(name)):
        return []
    return getattr(features[key], f"{found}_list").value


def _size_without(example: Message, encoded: bytes | None) -> int:
    """`ByteSize`; takes the image, `encoded`, out of the example, as it is slow to write."""
    features = example.features.feature
    if len(_stored(features, "encoded")) != 1:
        return example.ByteSize()
    key = _IMAGE["encoded"][0]
    features.pop(key)
    return size_with(key, encoded, example)


def _kind_of(features: Mapping, key: str) -> str | None:
    found = features[key].WhichOneof("kind") if key in features else None
    return found and found.removesuffix("_list")


def _fill(feature: Message, values: Iterable[Any], kind: str) -> None:
    """Gives a feature the list of its kind, also where that is empty."""
    if kind == "bytes":
        values = [value.encode() if isinstance(value, str) else value for value in values]
    elif kind == "int64":
        values = map(int, values)
    stored = getattr(feature, f"{kind}_list")
    stored.SetInParent()
    stored.value.extend(values)


def _text(value: bytes | None) -> str:
    return (value or b"").decode("utf-8", errors="replace")
