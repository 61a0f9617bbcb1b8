"""Examples <-> TFRecord, with the field names and types of the TF Object Detection API.

Boxes are stored as `xmin xmax ymin ymax` in [0, 1] of the image's own size. An ignore region
(DontCare, or an object that a filter took out) has `is_crowd` 1 and label 0. The raw KITTI line of
each object stands in `image/object/kitti/label_line`.
"""

import glob
import hashlib
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from efficientdet import tensorflow_device  # noqa: F401 (no GPU for it beside JAX)
from efficientdet.dataset.image import ImageHeader
from efficientdet.errors import UserError

_HEADER_BYTES, _FOOTER_BYTES = 12, 4  # around each record: length and its CRC; CRC of the data
MANIFEST_SUFFIX = ".manifest.json"
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})(?=(\.\w+)?$)")  # train-00000-of-00004.tfrecord, too


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
    left, top, right, bottom = (
        [item.box[side] / size[side % 2] for item in annotations] for side in range(4)
    )
    features = {
        "image/encoded": _bytes([encoded]),
        "image/format": _bytes([header.format]),
        "image/height": _ints([header.height]),
        "image/width": _ints([header.width]),
        "image/filename": _bytes([filename or source_id]),
        "image/source_id": _bytes([source_id]),
        "image/key/sha256": _bytes([hashlib.sha256(encoded).hexdigest()]),
        "image/object/bbox/xmin": _floats(left),
        "image/object/bbox/xmax": _floats(right),
        "image/object/bbox/ymin": _floats(top),
        "image/object/bbox/ymax": _floats(bottom),
        "image/object/class/text": _bytes(item.text for item in annotations),
        "image/object/class/label": _ints(item.label for item in annotations),
        "image/object/area": _floats(item.area for item in annotations),
        "image/object/is_crowd": _ints(item.is_crowd for item in annotations),
        "image/object/difficult": _ints(item.difficult for item in annotations),
        "image/object/truncated": _floats(item.truncated for item in annotations),
        "image/object/occluded": _ints(item.occluded for item in annotations),
        "image/object/kitti/label_line": _bytes(item.line for item in annotations),
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString(deterministic=True)  # a map has no order of its own


def parse_example(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
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
    """
    parsed = tf.io.parse_single_example(
        serialized,
        {
            "image/encoded": tf.io.FixedLenFeature([], tf.string),
            "image/height": tf.io.FixedLenFeature([], tf.int64, 0),
            "image/width": tf.io.FixedLenFeature([], tf.int64, 0),
            "image/source_id": tf.io.FixedLenFeature([], tf.string, ""),
            "image/object/bbox/ymin": tf.io.RaggedFeature(tf.float32),
            "image/object/bbox/xmin": tf.io.RaggedFeature(tf.float32),
            "image/object/bbox/ymax": tf.io.RaggedFeature(tf.float32),
            "image/object/bbox/xmax": tf.io.RaggedFeature(tf.float32),
            "image/object/class/label": tf.io.RaggedFeature(tf.int64),
            "image/object/class/text": tf.io.RaggedFeature(tf.string),
            "image/object/is_crowd": tf.io.RaggedFeature(tf.int64),
            "image/object/kitti/label_line": tf.io.RaggedFeature(tf.string),
        },
    )
    classes = parsed["image/object/class/label"]

    def or_default(key: str, default: int | str) -> tf.Tensor:
        values = parsed[key]
        return tf.cond(
            tf.size(values) > 0, lambda: values, lambda: tf.fill(tf.shape(classes), default)
        )

    sides = [parsed[f"image/object/bbox/{side}"] for side in ("ymin", "xmin", "ymax", "xmax")]
    return {
        "image": parsed["image/encoded"],
        "height": parsed["image/height"],
        "width": parsed["image/width"],
        "source_id": parsed["image/source_id"],
        "boxes": tf.stack(sides, axis=-1),
        "classes": classes,
        "is_crowd": or_default("image/object/is_crowd", tf.constant(0, tf.int64)),
        "class_text": or_default("image/object/class/text", ""),
        "label_lines": or_default("image/object/kitti/label_line", ""),
    }


def expand_pattern(patterns: str | Path | Sequence[str | Path]) -> list[Path]:
    """The record files that a pattern names, sorted within each glob, each one once.

    Args:
        patterns: paths or globs, separated by commas (`a*,b`) or as a sequence. A path
            `train.record` that was written in shards stands for all of its shards.

    Raises:
        UserError: nothing matches, or a shard is missing; names the pattern.
    """
    if isinstance(patterns, str | Path):
        patterns = patterns.split(",") if isinstance(patterns, str) else [patterns]
    files: dict[Path, None] = {}
    for pattern in map(str.strip, map(str, patterns)):
        found = [path for path in _match(pattern) if not path.name.endswith(MANIFEST_SUFFIX)]
        if not found:
            raise UserError(
                f"{pattern or 'empty pattern'}: no such record file (read from {Path.cwd()}); "
                "create_kitti_tf_record.py makes them"
            )
        files |= dict.fromkeys(found)
    _check_shards(files)
    return list(files)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record lies: number `index` (from 0) of `path`, its data at byte `offset`."""

    path: Path
    index: int
    offset: int
    length: int

    def __str__(self) -> str:
        return f"{self.path.name}, record {self.index}"

    def read(self) -> bytes:
        """The serialized example, without another look at its checksum."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.length)


def read_records(path: Path, limit: int | None = None) -> Iterator[tuple[Place, bytes]]:
    """The serialized examples of one file, checksums verified, at most `limit` of them.

    Raises:
        UserError: a damaged or cut-off record, by number; what follows it cannot be read.
    """
    records = iter(tf.data.TFRecordDataset(str(path), buffer_size=8 << 20).as_numpy_iterator())
    offset = _HEADER_BYTES
    for index in range(limit) if limit else itertools.count():
        try:
            serialized = next(records)
        except StopIteration:
            return
        except tf.errors.DataLossError as error:
            cut = "truncated" in error.message
            what = "the file ends inside it" if cut else "its checksum does not match"
            raise UserError(f"{path.name}, record {index}: {what}; convert again") from None
        yield Place(path, index, offset, len(serialized)), serialized
        offset += len(serialized) + _FOOTER_BYTES + _HEADER_BYTES


def base_path(record: Path) -> Path:
    """`train.record` of `train.record-00000-of-00004`; other paths as they are."""
    return record.with_name(_SHARD.sub("", record.name))


def shard_paths(record: Path, num_shards: int) -> list[Path]:
    """The file names of a record in `num_shards` shards; one shard has the plain name."""
    if num_shards == 1:
        return [record]
    return [
        record.with_name(f"{record.name}-{index:05d}-of-{num_shards:05d}")
        for index in range(num_shards)
    ]


def _match(pattern: str) -> list[Path]:
    if Path(pattern).is_file():  # also a name with brackets, which a glob would not find
        return [Path(pattern)]
    shards = f"{glob.escape(pattern)}-?????-of-?????"
    names = glob.glob(pattern) or glob.glob(shards)  # noqa: PTH207 (Path.glob: no absolute ones)
    return [Path(name) for name in sorted(names) if Path(name).is_file()]


def _check_shards(files: Iterable[Path]) -> None:
    for path in files:
        if match := _SHARD.search(path.name):
            for index in range(int(match[2])):
                sibling = path.with_name(_SHARD.sub(f"-{index:05d}-of-{match[2]}", path.name))
                if not sibling.exists():
                    raise UserError(f"{sibling}: this shard is missing; convert again")


def _bytes(values: Iterable[bytes | str]) -> tf.train.Feature:
    encoded = [value.encode() if isinstance(value, str) else value for value in values]
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=encoded))


def _floats(values: Iterable[float]) -> tf.train.Feature:
    return tf.train.Feature(float_list=tf.train.FloatList(value=list(values)))


def _ints(values: Iterable[int]) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[int(value) for value in values]))
