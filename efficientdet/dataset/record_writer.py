"""Serialized examples -> record files that appear whole or not at all."""

import hashlib
from bisect import bisect
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from efficientdet.atomic import atomic_path
from efficientdet.dataset.manifest import Shard
from efficientdet.dataset.tfrecord import shard_paths, write_record
from efficientdet.errors import UsageError
from efficientdet.progress import meter


class RecordWriter:
    """Shards under temporary names, which become the final ones when the block ends well."""

    def __init__(self, output: Path, num_frames: int, num_shards: int):
        if not 1 <= num_shards <= num_frames:
            raise UsageError(f"--num_shards={num_shards}: expected 1 to {num_frames} (the frames)")
        self._paths = shard_paths(output, num_shards)
        self._starts = [index * num_frames // num_shards for index in range(1, num_shards)]
        self._counts = [0] * num_shards
        self._stack = ExitStack()

    def __enter__(self) -> "RecordWriter":
        with ExitStack() as stack:
            self._temporary = [stack.enter_context(atomic_path(path)) for path in self._paths]
            self._files = [stack.enter_context(path.open("wb")) for path in self._temporary]
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def write(self, index: int, example: bytes) -> None:
        """Appends the example of frame `index`; frames stand in the shards in order."""
        shard = bisect(self._starts, index)
        write_record(self._files[shard], example)
        self._counts[shard] += 1

    def finish(self) -> list[Shard]:
        """Closes the files and describes them."""
        for file in self._files:
            file.close()
        shards = []
        with meter("checksums", len(self._paths), "files") as progress:
            files = zip(self._paths, self._counts, self._temporary, strict=True)
            for path, count, temporary in files:
                size = temporary.stat().st_size
                shards.append(Shard(path.name, count, size, sha256(temporary)))
                progress.add(size)
        return shards


def sha256(path: Path) -> str:
    """The hash of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
