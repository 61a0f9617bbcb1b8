"""Random access to TFRecord files, and a look at all their objects without decoding an image."""

import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import tensorflow as tf

from efficientdet import tensorflow_device  # noqa: F401 (no GPU for it beside JAX)
from efficientdet.dataset.example import Record, parse_example
from efficientdet.dataset.index_file import read_index
from efficientdet.dataset.tfrecord import Place
from efficientdet.errors import UserError
from efficientdet.model.roles import IGNORE
from efficientdet.progress import track

_HEADER = 12  # bytes: length (uint64) and its checksum
_OVERHEAD = _HEADER + 4  # and the checksum of the payload


class RecordIndex:
    """The place of every record: an epoch becomes a permutation of numbers 0..N-1.

    Against `TFRecordDataset` with a shuffle buffer this gives a true permutation, exact and
    instant resume (numbers are skipped, nothing is read), repeated records, and any other record
    for mosaic and copy-paste; it keeps 16 bytes a record in memory. Building it reads 8 bytes a
    record; 16, and the record's index, where it has one. A read costs the same as in sequence
    where files lie on an SSD or in the page cache; a hard disk pays one seek.

    Args:
        files: uncompressed TFRecord files, in the order of their numbers.

    Raises:
        UserError: a file is no TFRecord, is cut off, or all of them together are empty.
    """

    def __init__(self, files: Sequence[Path]):
        self.files = [Path(file) for file in files]
        starts = [np.fromiter(_starts(path), np.int64) for path in self.files]
        self._starts = np.concatenate(starts)
        self._file = np.repeat(np.arange(len(files)), [len(offsets) for offsets in starts])
        if not len(self):
            raise UserError(f"{', '.join(map(str, self.files))}: no record inside; convert again")

    def __len__(self) -> int:
        return len(self._starts)

    def read(self, number: tf.Tensor) -> tf.Tensor:
        """One record, for a tf.data map: int64 scalar -> string scalar.

        All of it is native code: a Python function inside tf.data can hang the interpreter at its
        exit. (`FixedLengthRecordDataset`, with a public offset, reads all that lies before it.)

        Raises:
            tf.errors.DataLossError: the record does not match its checksum.
        """
        names = tf.constant([str(path) for path in self.files])
        dataset = tf.raw_ops.TFRecordDatasetV2(
            filenames=[names[tf.constant(self._file)[number]]],
            compression_type="",
            buffer_size=0,
            byte_offsets=[tf.constant(self._starts)[number]],
        )
        kind = {"output_types": [tf.string], "output_shapes": [[]]}
        one = tf.constant(1, tf.int64)
        dataset = tf.raw_ops.TakeDataset(input_dataset=dataset, count=one, **kind)
        return tf.raw_ops.DatasetToSingleElement(dataset=dataset, **kind)[0]

    def where(self, number: int) -> str:
        """`file record n` for error texts; n counts from 0 within the file."""
        first = int(np.searchsorted(self._file, self._file[number]))
        return f"{self.files[self._file[number]]} record {number - first}"

    def objects(self) -> list["RecordObjects"]:
        """The objects of every record, in order.

        Where a file has no index (`dataset/index_file.py`), all are read once, with a progress bar.
        """
        indexes = [read_index(file) for file in self.files]
        if None not in indexes:
            return list(_indexed_objects(chain.from_iterable(indexes)))
        dataset = tf.data.Dataset.range(len(self)).map(self._parse, tf.data.AUTOTUNE)
        what = f"Reading the objects of {len(self):,} records"
        examples = track(dataset.prefetch(8).as_numpy_iterator(), what, len(self))
        with self.named_errors():
            return [self._objects_of(example) for example in examples]

    @contextmanager
    def named_errors(self) -> Iterator[None]:
        """Inside it, an error of tf.data over these records becomes a UserError."""
        try:
            yield
        except (tf.errors.OpError, UnicodeDecodeError) as error:
            what = "not a tf.train.Example"  # where TensorFlow's message quotes bytes of it
            if isinstance(error, tf.errors.OpError):
                what = re.sub(r".*Iterator::\S+: ", "", error.message.splitlines()[0])
            raise UserError(
                f"{', '.join(map(str, self.files))}: {what}; inspect_tfrecord.py names the record"
            ) from None

    @staticmethod
    def _objects_of(example: dict[str, np.ndarray]) -> "RecordObjects":
        return RecordObjects(
            source_id=example["source_id"].decode(errors="replace"),
            boxes=example["boxes"],
            classes=np.where(example["is_crowd"] > 0, IGNORE, example["classes"]),
            types=tuple(text.decode(errors="replace") for text in example["class_text"]),
        )

    def _parse(self, number: tf.Tensor) -> dict[str, tf.Tensor]:
        example = parse_example(self.read(number))
        del example["image"]
        return example


@dataclass(frozen=True)
class RecordObjects:
    """What stands in one record beside the image.

    Attributes:
        source_id: the record's name.
        boxes: float32 [N, 4], ymin xmin ymax xmax in [0, 1].
        classes: int64 [N], 1..K, or IGNORE for an ignore region.
        types: N KITTI types; empty texts where the record has none.
    """

    source_id: str
    boxes: np.ndarray
    classes: np.ndarray
    types: tuple[str, ...]

    def wanted(self, types: Sequence[str]) -> np.ndarray:
        """int64 [N]: the place in `types` (letter case aside) from 1 on; 0: none, or ignored."""
        places = {name.lower(): place for place, name in enumerate(types, start=1)}
        return np.array([
            places.get(text.lower(), 0) if label > 0 else 0
            for text, label in zip(self.types, self.classes, strict=True)
        ], np.int64)  # fmt: skip


def _indexed_objects(frames: Iterable[tuple[Place, bytes]]) -> Iterator[RecordObjects]:
    for _, data in frames:
        record = Record.parse(data, has_pixels=False)
        yield RecordObjects(
            source_id=record.source_id,
            boxes=record.boxes[:, [1, 0, 3, 2]].astype(np.float32),
            classes=np.where(np.array(record.is_crowd) > 0, IGNORE, record.labels).astype(np.int64),
            types=tuple(record.texts),
        )


def _starts(path: Path) -> Iterator[int]:
    """The offset of each record, from the index or by going from length to length."""
    if (frames := read_index(path)) is not None:
        yield from (place.offset - _HEADER for place, _ in frames)
        return
    size, start = path.stat().st_size, 0
    with path.open("rb", buffering=0) as file:
        while start < size:
            yield start
            file.seek(start)
            head = file.read(8)
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else size
            end = start + _OVERHEAD + length
            if end > size:
                what = "cut off or damaged" if start else "not a TFRecord file, or cut off"
                raise UserError(f"{path}: {what} at byte {start:,} of {size:,}; convert again")
            start = end
