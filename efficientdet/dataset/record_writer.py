"""Serialized examples -> record files and their index, which appear whole or not at all."""

import hashlib
from bisect import bisect
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from efficientdet.atomic import atomic_path
from efficientdet.dataset.frame_conversion import Converted
from efficientdet.dataset.index_file import IndexWriter, index_path
from efficientdet.dataset.manifest import Shard
from efficientdet.dataset.tfrecord import HEADER_BYTES, shard_paths
from efficientdet.errors import UsageError


def shard_starts(num_frames: int, num_shards: int) -> list[int]:
    """The frames with which the shards begin, and the number of frames: `num_shards` + 1 numbers.

    Raises:
        UsageError: there would be a shard without a frame.
    """
    if not 1 <= num_shards <= num_frames:
        raise UsageError(f"--num_shards={num_shards}: expected 1 to {num_frames} (the frames)")
    return [index * num_frames // num_shards for index in range(num_shards + 1)]


class RecordWriter:
    """Shards under temporary names, which become the final ones when the block ends well.

    One shard is open at a time.
    """

    def __init__(self, output: Path, num_frames: int, num_shards: int):
        self._starts = shard_starts(num_frames, num_shards)
        self._output, self._paths = output, shard_paths(output, num_shards)
        self._shards: list[Shard] = []  # those that are done
        self._stack = ExitStack()

    def __enter__(self) -> "RecordWriter":
        with ExitStack() as stack:
            index = stack.enter_context(atomic_path(index_path(self._output)))
            self._index_file = index.open("wb")
            self._index = IndexWriter(self._index_file, len(self._paths))
            self._temporary = [stack.enter_context(atomic_path(path)) for path in self._paths]
            self._begin_shard()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        for file in (self._file, self._index_file):
            with suppress(OSError):  # a full disk, which an earlier error tells of
                file.close()
        self._stack.__exit__(*error)

    def write(self, index: int, item: Converted) -> None:
        """Appends the example of frame `index`; frames come, and stand in the shards, in order."""
        while len(self._shards) < (shard := bisect(self._starts, index) - 1):
            self._end_shard()
            self._begin_shard()
        self._file.write(item)
        self._index.add(shard, item.around, item.without_pixels)

    def finish(self) -> list[Shard]:
        """Closes the files and describes them."""
        self._end_shard()
        while len(self._shards) < len(self._paths):  # their frames were all bad
            self._begin_shard()
            self._end_shard()
        self._index.finish()
        self._index_file.close()
        return self._shards

    def _begin_shard(self) -> None:
        self._file = ShardFile(self._temporary[len(self._shards)])

    def _end_shard(self) -> None:
        self._shards.append(self._file.finish(self._paths[len(self._shards)].name))


class ShardFile:
    """One file of a record, open for writing, and hashed as it is written.

    In a thread of its own, as the disk may take as long as the hash.
    """

    def __init__(self, path: Path):
        self._file, self._digest, self._count = path.open("wb"), hashlib.sha256(), 0
        self._hashing = ThreadPoolExecutor(1)

    def write(self, item: Converted) -> None:
        """Appends an example."""
        parts = (item.around[:HEADER_BYTES], *item.example, item.around[HEADER_BYTES:])
        hashed = self._hashing.submit(self._hash, parts)
        self._file.writelines(parts)
        hashed.result()
        self._count += 1

    def finish(self, name: str) -> Shard:
        """Closes the file and describes it."""
        size = self._file.tell()
        self.close()
        return Shard(name, self._count, size, self._digest.hexdigest())

    def close(self) -> None:
        """Closes it, finished or not."""
        self._hashing.shutdown()
        self._file.close()

    def _hash(self, parts: Iterable[bytes]) -> None:
        for part in parts:
            self._digest.update(part)
