"""KITTI folders -> TFRecord and manifest: parallel, deterministic, nothing lost."""

from contextlib import suppress
from itertools import chain
from pathlib import Path

from efficientdet.atomic import remove_stale
from efficientdet.dataset.conversion import Conversion
from efficientdet.dataset.existing import (
    exists,
    find_existing,
    remove_others,
    remove_parts,
    require_record_name,
    writing,
)
from efficientdet.dataset.frame_conversion import Converted
from efficientdet.dataset.index_file import index_path, make_index
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.manifest import Manifest
from efficientdet.dataset.options import Options
from efficientdet.dataset.record_writer import RecordWriter
from efficientdet.dataset.room import require_room
from efficientdet.dataset.selection import Selection
from efficientdet.dataset.tfrecord import read_records
from efficientdet.errors import UserError


def convert(
    selection: Selection,
    output: Path,
    label_map: LabelMap,
    options: Options,
    *,
    num_workers: int | None = None,
    overwrite: bool = False,
    verify: bool = False,
) -> Manifest | None:
    """Writes the record (or its shards) and the manifest.

    A run that is killed before the first file is renamed leaves all as it was; later, an unfinished
    conversion, which no reader takes for a record, and which the same call writes again. The
    record's label map is `label_map` without the types that `options.classes` leaves out.

    Args:
        verify: of a record that is there, compare every byte; else only where a label, or the name,
            size or time of an image is not what it was.

    Returns:
        The manifest, or None where the record is up to date already.

    Raises:
        UserError: bad frames (all are counted, 20 printed), no room on the disk, or an output of
            other content that only `overwrite` replaces.
    """
    conversion = Conversion.of(selection, label_map, options)
    require_record_name(output)
    remove_stale(output.parent)
    old = None if overwrite else find_existing(output, conversion)
    if old and old.inputs_sha256 == conversion.fingerprint and not verify:
        _tidy(output, old)
        return None
    with writing(output):
        if old:
            manifest = _compare(conversion, output, num_workers, old)
        else:
            require_room(selection.frames, output)
            with RecordWriter(output, len(selection.frames), options.num_shards) as writer:
                manifest = conversion.run(output.name, writer.write, num_workers)
                manifest.shards = writer.finish()
                Manifest.mark_unfinished(output, conversion.fingerprint)
                remove_others(output, keep={shard.name for shard in manifest.shards})
                remove_parts(output)
        manifest.inputs_sha256 = conversion.fingerprint
        manifest.write(output)
    return None if old else manifest


def dry_run(
    selection: Selection, label_map: LabelMap, options: Options, num_workers: int | None = None
) -> Manifest:
    """Reads and checks everything as `convert` does, and writes nothing."""
    conversion = Conversion.of(selection, label_map, options)
    return conversion.run("dry run", lambda *_: None, num_workers)


def _compare(
    conversion: Conversion, output: Path, num_workers: int | None, old: Manifest
) -> Manifest:
    """Makes every example again, and holds it against the record.

    Returns:
        What the manifest should say.

    Raises:
        UserError: they differ.
    """
    stored = chain.from_iterable(read_records(output.parent / shard.name) for shard in old.shards)

    def require_equal(_: int, item: Converted) -> None:
        try:
            _, found = next(stored, (None, b""))
        except UserError as error:
            raise exists(output, str(error)) from None
        if found != b"".join(item.example):
            source_id = item.frame.source_id
            raise exists(output, f"made from other input: frame {source_id} is not the same")

    manifest = conversion.run(f"comparing {output.name}", require_equal, num_workers)
    if manifest.num_examples != old.num_examples:
        counts = f"it holds {old.num_examples} frames, not {manifest.num_examples}"
        raise exists(output, f"made from other input: {counts}")
    manifest.shards = old.shards
    return manifest


def _tidy(output: Path, old: Manifest) -> None:
    """What a record that is up to date may lack or have too much of, if its folder is writable.

    Records of before there were indexes have none; a merge may have been killed at its end.
    """
    with suppress(OSError):
        remove_parts(output)
        if not index_path(output).exists():
            make_index([output.parent / shard.name for shard in old.shards])
