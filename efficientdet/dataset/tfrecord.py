"""TFRecord files: the shards that a pattern names, and the records in them."""

import glob
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import tensorflow as tf

from efficientdet import tensorflow_device  # noqa: F401 (no GPU for it beside JAX)
from efficientdet.errors import UserError

_HEADER_BYTES, _FOOTER_BYTES = 12, 4  # around each record: length and its CRC; CRC of the data
MANIFEST_SUFFIX = ".manifest.json"
UNFINISHED = (
    "unfinished conversion (killed, or still running); run the same command of "
    "create_kitti_tf_record.py again"
)
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
        found = [path for path in _match(pattern) if not path.name.endswith(MANIFEST_SUFFIX)]
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
        UserError: a damaged or cut-off record, by number; what follows it cannot be read. Or bytes
            after the last one.
    """
    records = iter(tf.data.TFRecordDataset(str(path), buffer_size=8 << 20).as_numpy_iterator())
    offset = _HEADER_BYTES
    for index in range(limit) if limit else itertools.count():
        try:
            serialized = next(records)
        except StopIteration:
            if surplus := path.stat().st_size + _HEADER_BYTES - offset:
                raise UserError(
                    f"{path.name}: {surplus} bytes after the last record; convert again"
                ) from None
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
                    begun = Path(f"{base_path(path)}{MANIFEST_SUFFIX}").exists()
                    what = UNFINISHED if begun else "convert again"
                    raise UserError(f"{sibling}: this shard is missing; {what}")
