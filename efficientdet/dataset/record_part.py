"""`train.record-00003-of-00008.part`: what a merge needs of a shard, which it does not read.

A TFRecord, so that a damaged byte shows. First whose it is; then, for each frame, what its image
told and, where the frame is in the shard, what the record's index has of it; at last the shard.
A part is there only while its shard is the very one that it tells of, and goes with the merge.
"""

import dataclasses
import itertools
import json
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, BinaryIO

from efficientdet.atomic import atomic_open, atomic_path
from efficientdet.dataset.checked_json import checked
from efficientdet.dataset.frame_conversion import Converted
from efficientdet.dataset.image import ImageHeader
from efficientdet.dataset.index_file import record_end
from efficientdet.dataset.kitti import Frame
from efficientdet.dataset.manifest import Shard
from efficientdet.dataset.record_writer import ShardFile
from efficientdet.dataset.tfrecord import (
    FOOTER_BYTES,
    HEADER_BYTES,
    PART_SUFFIX,
    read_records,
    write_record,
)
from efficientdet.errors import UserError

_MAGIC = b"efficientdet part 1 "
_AROUND = HEADER_BYTES + FOOTER_BYTES


def part_path(shard: Path) -> Path:
    """`train.record-00003-of-00008.part`."""
    return shard.with_name(shard.name + PART_SUFFIX)


class PartWriter:
    """One shard and then its part, which appear when the block ends well."""

    def __init__(self, path: Path, inputs_sha256: str):
        self._path, self._inputs_sha256 = path, inputs_sha256
        self._stack = ExitStack()

    def __enter__(self) -> "PartWriter":
        with ExitStack() as stack:
            self._part = stack.enter_context(atomic_open(part_path(self._path), "wb"))
            self._file = ShardFile(stack.enter_context(atomic_path(self._path)))
            stack.push(self._forget)
            stack.callback(self._close)
            write_record(self._part, _MAGIC + self._inputs_sha256.encode())
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def write(self, _: int, item: Converted) -> None:
        """Appends a frame; of a bad one, what was wrong."""
        header = item.header and dataclasses.astuple(item.header)
        told = json.dumps([item.errors, header, item.was, item.turned]).encode()
        write_record(self._part, told + b"\n" + item.around + item.without_pixels)
        if not item.errors:
            self._file.write(item)

    def finish(self) -> Shard:
        """Closes the shard, and describes it."""
        shard = self._file.finish(self._path.name)
        write_record(self._part, json.dumps(dataclasses.asdict(shard)).encode())
        return shard

    def _forget(self, kind: type[BaseException] | None, *_: Any) -> None:
        """Before the shard is replaced, the part of what it was goes."""
        if kind is None:
            part_path(self._path).unlink(missing_ok=True)

    def _close(self) -> None:
        with suppress(OSError):  # a full disk, which an earlier error tells of
            self._file.close()


def finished_shard(path: Path, inputs_sha256: str, num_frames: int) -> Shard | None:
    """The shard at `path`, if it is whole, of this input, and the very one that its part tells of.

    The 16 bytes around each record are read, and compared.

    Raises:
        UserError: a file that is there cannot be read.
    """
    try:
        with path.open("rb", buffering=0) as file:
            return _checked(file, path, inputs_sha256, num_frames)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{error.filename or path}: {error.strerror}") from None


def stored_frames(path: Path, frames: Sequence[Frame]) -> Iterator[Converted]:
    """The frames of a finished shard, as `with_labels` takes them."""
    records = itertools.islice(read_records(part_path(path)), 1, len(frames) + 1)
    for frame, (_, data) in zip(frames, records, strict=True):
        told, _, rest = data.partition(b"\n")
        errors, header, was, turned = json.loads(told)
        yield Converted(
            frame,
            errors,
            around=rest[:_AROUND],
            without_pixels=rest[_AROUND:],
            header=header and ImageHeader(*header),
            was=was,
            turned=turned,
        )


def _checked(file: BinaryIO, path: Path, inputs_sha256: str, num_frames: int) -> Shard | None:
    records = (data for _, data in read_records(part_path(path)))
    try:
        if next(records) != _MAGIC + inputs_sha256.encode():
            return None
        count = end = 0
        for data in itertools.islice(records, num_frames):
            around = data.partition(b"\n")[2][:_AROUND]
            if around:
                count, end = count + 1, record_end(file, end, around)
            if end is None:
                return None
        shard = checked(json.loads(next(records)), Shard, "shard")
    except (StopIteration, UserError, ValueError, struct.error):  # cut, or damaged
        return None
    told = Shard(path.name, count, path.stat().st_size, shard.sha256)
    return shard if shard == told and end == shard.num_bytes else None
