"""Serialized examples -> record files and their index, which appear whole or not at all."""

import hashlib
from bisect import bisect
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from efficientdet.atomic import atomic_path
from efficientdet.dataset.index_file import IndexWriter, index_path
from efficientdet.dataset.manifest import Shard
from efficientdet.dataset.tfrecord import framed, shard_paths
from efficientdet.errors import UsageError


class RecordWriter:
    """Shards under temporary names, which become the final ones when the block ends well.

    One shard is open at a time, and hashed as it is written.
    """

    def __init__(self, output: Path, num_frames: int, num_shards: int):
        if not 1 <= num_shards <= num_frames:
            raise UsageError(f"--num_shards={num_shards}: expected 1 to {num_frames} (the frames)")
        self._output, self._paths = output, shard_paths(output, num_shards)
        self._starts = [index * num_frames // num_shards for index in range(1, num_shards)]
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

    def write(self, index: int, example: bytes, without_pixels: bytes) -> None:
        """Appends the example of frame `index`; frames come, and stand in the shards, in order."""
        while len(self._shards) < (shard := bisect(self._starts, index)):
            self._end_shard()
            self._begin_shard()
        header, footer = framed(example)
        for part in (header, example, footer):
            self._file.write(part)
            self._digest.update(part)
        self._count += 1
        self._index.add(shard, header + footer, without_pixels)

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
        self._file = self._temporary[len(self._shards)].open("wb")
        self._digest, self._count = hashlib.sha256(), 0

    def _end_shard(self) -> None:
        name, size = self._paths[len(self._shards)].name, self._file.tell()
        self._file.close()
        self._shards.append(Shard(name, self._count, size, self._digest.hexdigest()))
