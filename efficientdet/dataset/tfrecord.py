"""TFRecord files: the shards that a pattern names, and the records in them.

Without TensorFlow, which takes seconds to load: a record is a length and the data, each with its
CRC-32C.
"""

import functools
import glob
import itertools
import os
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import google_crc32c

from efficientdet.errors import UserError

HEADER_BYTES, FOOTER_BYTES = 12, 4  # around each record: length and its CRC; CRC of the data
MANIFEST_SUFFIX, INDEX_SUFFIX = ".manifest.json", ".index"  # of what lies beside a record
PART_SUFFIX = ".part"  # of what waits for a merge
UNFINISHED = (
    "unfinished conversion (killed, still running or not merged); run the same command of "
    "create_kitti_tf_record.py again"
)
BESIDE = (MANIFEST_SUFFIX, INDEX_SUFFIX, PART_SUFFIX)
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})(?=(\.\w+)?$)")  # train-00000-of-00004.tfrecord, too


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
        found = [path for path in _match(pattern) if not path.name.endswith(BESIDE)]
        if not found:
            if Path(f"{pattern}{MANIFEST_SUFFIX}").exists():
                raise UserError(f"{pattern}: {UNFINISHED}")
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
    with path.open("rb") as file:
        size, start = os.fstat(file.fileno()).st_size, 0
        for index in range(limit) if limit else itertools.count():
            if start == size:
                return
            try:
                serialized = read_record(file, size - start)
            except ValueError as error:
                raise UserError(f"{path.name}, record {index}: {error}; convert again") from None
            yield Place(path, index, start + HEADER_BYTES, len(serialized)), serialized
            start += HEADER_BYTES + len(serialized) + FOOTER_BYTES


def framed(*parts: bytes) -> tuple[bytes, bytes]:
    """What stands before and behind a record's data, as TensorFlow writes it."""
    length = struct.pack("<Q", sum(map(len, parts)))
    return length + _checksum(length), _checksum(*parts)


def write_record(file: BinaryIO, serialized: bytes) -> None:
    """Appends one record."""
    header, footer = framed(serialized)
    file.writelines((header, serialized, footer))


def base_path(record: Path) -> Path:
    """`train.record` of `train.record-00000-of-00004`; other paths as they are."""
    return record.with_name(_SHARD.sub("", record.name))


def shard_number(record: Path) -> tuple[int, int]:
    """Which of how many files it is, by its name: (0, 4) of `train.record-00000-of-00004`."""
    match = _SHARD.search(record.name)
    return (int(match[1]), int(match[2])) if match else (0, 1)


def shard_paths(record: Path, num_shards: int) -> list[Path]:
    """The file names of a record in `num_shards` shards; one shard has the plain name."""
    if num_shards == 1:
        return [record]
    return [
        record.with_name(f"{record.name}-{index:05d}-of-{num_shards:05d}")
        for index in range(num_shards)
    ]


def read_record(file: BinaryIO, left: int) -> bytes:
    """The record at the file's position, of which the file has `left` bytes from there on.

    Raises:
        ValueError: cut off, or damaged.
    """
    header = file.read(HEADER_BYTES)
    length, checksum = header[:8], header[8:]
    if len(header) == HEADER_BYTES:
        if checksum != _checksum(length):
            raise ValueError("its checksum does not match")
        (count,) = struct.unpack("<Q", length)
        if HEADER_BYTES + count + FOOTER_BYTES <= left:
            serialized = file.read(count)
            if file.read(FOOTER_BYTES) != _checksum(serialized):
                raise ValueError("its checksum does not match")
            return serialized
    raise ValueError("the file ends inside it")


def _checksum(*parts: bytes) -> bytes:
    """CRC-32C, turned by 15 bits and moved, so that a CRC of data that holds CRCs is a good one."""
    crc = functools.reduce(google_crc32c.extend, parts, 0)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


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
                    begun = Path(f"{base_path(path)}{MANIFEST_SUFFIX}").exists()
                    what = UNFINISHED if begun else "convert again"
                    raise UserError(f"{sibling}: this shard is missing; {what}")
