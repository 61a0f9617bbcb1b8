"""Random access to TFRecord files, and a look at all their objects without decoding an image."""

import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from rich.progress import track

from efficientdet.dataset.tfrecord import parse_example
from efficientdet.errors import UserError

_HEADER, _FOOTER = 12, 4  # length uint64 and its CRC; CRC of the payload


class RecordIndex:
    """The place of every record: an epoch becomes a permutation of numbers 0..N-1.

    Against `TFRecordDataset` with a shuffle buffer this gives a true permutation, exact and
    instant resume (numbers are skipped, nothing is read), repeated records, and any other record
    for mosaic and copy-paste; it keeps 20 bytes a record in memory. Building it reads 8 bytes a
    record. A read costs the same as in sequence where files lie on an SSD or in the page cache;
    a hard disk pays one seek.

    Args:
        files: uncompressed TFRecord files, in the order of their numbers.

    Raises:
        UserError: a file is no TFRecord, is cut off, or all of them together are empty.
    """

    def __init__(self, files: Sequence[Path]):
        self.files = [Path(file) for file in files]
        self._handles = [path.open("rb", buffering=0) for path in self.files]
        spans = [
            (number, *span)
            for number, path in enumerate(self.files)
            for span in _spans(path, self._handles[number].fileno())
        ]
        if not spans:
            raise UserError(f"{', '.join(map(str, self.files))}: no record inside; convert again")
        self._spans = np.asarray(spans, np.int64)

    def __len__(self) -> int:
        return len(self._spans)

    def read(self, number: int) -> bytes:
        """The bytes of one record; safe from several threads."""
        file, offset, length = self._spans[number]
        return os.pread(self._handles[file].fileno(), int(length), int(offset))

    def read_tensor(self, number: tf.Tensor) -> tf.Tensor:
        """`read` for a tf.data map: int64 scalar -> string scalar.

        A Python call costs about as much as copying the record once; TensorFlow has no read at an
        offset (FixedLengthRecordDataset reads all that lies before it).
        """
        record = tf.numpy_function(self.read, [number], tf.string, stateful=False)
        return tf.ensure_shape(record, [])

    def where(self, number: int) -> str:
        """`file record n` for error texts; n counts from 0 within the file."""
        file = self._spans[number, 0]
        first = int(np.searchsorted(self._spans[:, 0], file))
        return f"{self.files[file]} record {number - first}"

    def objects(self) -> list["RecordObjects"]:
        """The objects of every record, in order: reads the files once, with a progress bar."""
        dataset = tf.data.Dataset.range(len(self)).map(self._parse, tf.data.AUTOTUNE)
        examples = track(
            dataset.prefetch(8).as_numpy_iterator(),
            f"Reading the objects of {len(self):,} records",
            total=len(self),
            transient=True,
        )
        return [
            RecordObjects(
                source_id=example["source_id"].decode(),
                boxes=example["boxes"],
                classes=np.where(example["is_crowd"] > 0, -1, example["classes"]),
                types=tuple(text.decode() for text in example["class_text"]),
            )
            for example in examples
        ]

    def _parse(self, number: tf.Tensor) -> dict[str, tf.Tensor]:
        example = parse_example(self.read_tensor(number))
        del example["image"]
        return example


@dataclass(frozen=True)
class RecordObjects:
    """What stands in one record beside the image.

    Attributes:
        source_id: the record's name.
        boxes: float32 [N, 4], ymin xmin ymax xmax in [0, 1].
        classes: int64 [N], 1..K, or -1 for an ignore region.
        types: N KITTI types; empty texts where the record has none.
    """

    source_id: str
    boxes: np.ndarray
    classes: np.ndarray
    types: tuple[str, ...]


def _spans(path: Path, descriptor: int) -> Iterator[tuple[int, int]]:
    """(offset, length) of each record's payload."""
    size, start = path.stat().st_size, 0
    while start < size:
        head = os.pread(descriptor, 8, start)
        length = struct.unpack("<Q", head)[0] if len(head) == 8 else size
        end = start + _HEADER + length + _FOOTER
        if end > size:
            what = "cut off or damaged" if start else "not a TFRecord file, or cut off"
            raise UserError(f"{path}: {what} at byte {start:,} of {size:,}; convert again")
        yield start + _HEADER, length
        start = end
