"""`train.record.index`: what a record says of its frames, all but the pixels.

A start reads it instead of the record: megabytes, not gigabytes. It is a TFRecord itself, so that
a damaged byte shows. First a table: for each file of the record how many frames it has, and where
in the index they begin. Then, for each frame, the 16 bytes that stand around its data in the record
(its length and the checksums of both), and the tf.train.Example without `image/encoded`.
"""

import logging
import struct
from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import BinaryIO

from efficientdet.atomic import atomic_open
from efficientdet.dataset.example import Record, without_pixels
from efficientdet.dataset.tfrecord import (
    FOOTER_BYTES,
    HEADER_BYTES,
    INDEX_SUFFIX,
    Place,
    base_path,
    framed,
    read_record,
    read_records,
    shard_number,
    write_record,
)

logger = logging.getLogger(__name__)

_MAGIC = b"efficientdet index 1\n"


class IndexWriter:
    """Writes the index of a record of `num_files` files, into a file that is open for writing."""

    def __init__(self, file: BinaryIO, num_files: int):
        self._file = file
        self._counts, self._starts = [0] * num_files, [0] * num_files
        self._write_table()

    def add(self, number: int, around: bytes, frame: bytes) -> None:
        """The next frame of the record's file `number`; files come in their order."""
        if not self._counts[number]:
            self._starts[number] = self._file.tell()
        self._counts[number] += 1
        write_record(self._file, around + frame)

    def finish(self) -> None:
        """Completes the table; no frame comes after it."""
        self._file.seek(0)
        self._write_table()

    def _write_table(self) -> None:
        table = (value for row in zip(self._counts, self._starts, strict=True) for value in row)
        write_record(self._file, _MAGIC + struct.pack(f"<{2 * len(self._counts)}Q", *table))


def index_path(record: Path) -> Path:
    """`train.record.index` of `train.record` or of one of its shards."""
    base = base_path(record)
    return base.with_name(base.name + INDEX_SUFFIX)


def make_index(files: Sequence[Path]) -> None:
    """Writes the index of a record that the converter made, all of its files, and that has none.

    Raises:
        UserError: a damaged record.
        OSError: the folder is not to be written to.
    """
    with atomic_open(index_path(files[0]), "wb") as file:
        index = IndexWriter(file, len(files))
        for number, path in enumerate(files):
            for _, serialized in read_records(path):
                index.add(number, b"".join(framed(serialized)), without_pixels(serialized))
        index.finish()


def read_index(path: Path, limit: int | None = None) -> list[tuple[Place, bytes]] | None:
    """What the index has of one record file: places, and examples without the image's bytes.

    The 16 bytes around each record are read, and compared: so it is the index of these bytes,
    whatever was renamed, copied or replaced. Data that rotted where it lies shows when it is read.

    Args:
        limit: the first so many; None: all.

    Returns:
        None where there is no index, or none that fits (a warning tells): read the record.
    """
    index = index_path(path)
    try:
        with index.open("rb") as file, path.open("rb", buffering=0) as record:
            return list(_frames(path, record, file, index.stat().st_size, limit))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, struct.error) as error:
        _warn(f"{index}: not read, the record is instead, which takes longer: {error}")
        return None


def read_frames(
    path: Path, limit: int | None = None, *, indexed: bool = True
) -> Iterator[tuple[Place, "partial[Record]"]]:
    """Places, and what parses each record: without its pixels where there is an index.

    Raises:
        UserError: a damaged or cut-off record, by number.
    """
    found = read_index(path, limit) if indexed else None
    frames = read_records(path, limit) if found is None else found
    for place, data in frames:
        yield place, partial(Record.parse, data, has_pixels=found is None)


def _frames(
    path: Path, record: BinaryIO, file: BinaryIO, index_size: int, limit: int | None
) -> Iterator[tuple[Place, bytes]]:
    table = read_record(file, index_size)
    if not table.startswith(_MAGIC):
        raise ValueError("of another version")
    rows = list(struct.iter_unpack("<2Q", table[len(_MAGIC) :]))
    number, num_files = shard_number(path)
    if len(rows) != num_files:
        raise ValueError(f"it tells of {len(rows)} files")
    (count, first), start = rows[number], 0
    file.seek(first)
    for frame in range(count if limit is None else min(count, limit)):
        entry = read_record(file, index_size - file.tell())
        around = entry[: HEADER_BYTES + FOOTER_BYTES]
        end = record_end(record, start, around)
        if end is None:
            raise ValueError(f"record {frame} of {path.name} is not the one it was made of")
        length = end - start - len(around)
        yield Place(path, frame, start + HEADER_BYTES, length), entry[len(around) :]
        start = end
    if limit is None and start != path.stat().st_size:
        raise ValueError(f"{path.name} has more than it tells of")


def record_end(file: BinaryIO, start: int, around: bytes) -> int | None:
    """Where the record at byte `start` ends; None where these 16 bytes do not stand around it."""
    (length,) = struct.unpack("<Q", around[:8])
    file.seek(start)
    header = file.read(HEADER_BYTES)
    file.seek(start + HEADER_BYTES + length)
    return start + length + len(around) if header + file.read(FOOTER_BYTES) == around else None


@cache
def _warn(line: str) -> None:
    """Once a process: several readers come by."""
    logger.warning(line)
