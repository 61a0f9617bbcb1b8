"""One record made by many processes, on any machines that see one disk: its shards, then a merge.

What they know of each other is what stands beside the record: in the manifest's place, that it is
unfinished, and the fingerprint of the input; a part beside each finished shard. Each shard has the
bytes that `convert` would give it, so it does no harm if two processes write the same one.
"""

import logging
from bisect import bisect
from itertools import chain, pairwise
from pathlib import Path

from efficientdet.atomic import atomic_open, remove_stale
from efficientdet.dataset.conversion import Conversion, Totals
from efficientdet.dataset.existing import (
    exists,
    find_existing,
    remove_others,
    remove_parts,
    require_record_name,
    writing,
)
from efficientdet.dataset.frame_conversion import Converted
from efficientdet.dataset.index_file import IndexWriter, index_path
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.manifest import Manifest, Shard, UnfinishedConversion, manifest_path
from efficientdet.dataset.options import Options
from efficientdet.dataset.record_part import PartWriter, finished_shard, stored_frames
from efficientdet.dataset.record_writer import shard_starts
from efficientdet.dataset.room import require_room
from efficientdet.dataset.selection import Selection
from efficientdet.dataset.tfrecord import shard_paths
from efficientdet.errors import UsageError, UserError

logger = logging.getLogger(__name__)


def convert_shard(
    selection: Selection,
    output: Path,
    label_map: LabelMap,
    options: Options,
    index: int,
    *,
    num_workers: int | None = None,
    overwrite: bool = False,
) -> Shard | None:
    """Writes shard `index` of `options.num_shards`, byte for byte as `convert` does, and its part.

    Args:
        overwrite: an output of other input or options is replaced; of these it never is.

    Returns:
        The shard, also one that is finished already; None where the whole record is.

    Raises:
        UserError: bad frames in this shard, no room on the disk, or an output of other content.
    """
    if not 0 <= index < options.num_shards:
        last = options.num_shards - 1
        raise UsageError(f"--shard_index={index}: expected 0 to {last}, one less than --num_shards")
    conversion = Conversion.of(selection, label_map, options)
    begin, end = shard_starts(len(selection.frames), options.num_shards)[index : index + 2]
    frames, count = selection.frames[begin:end], end - begin
    path = shard_paths(output, options.num_shards)[index]
    require_record_name(output)
    remove_stale(output.parent)
    if _is_finished(conversion, output, overwrite):
        return None
    if shard := finished_shard(path, conversion.fingerprint, count):
        logger.info(f"{path}: there already")
        return shard
    require_room(frames, output)
    with writing(output), PartWriter(path, conversion.fingerprint) as writer:
        totals = Totals(conversion)
        convert, write = conversion.convert_frame, writer.write
        totals.add_all(path.name, frames, count, convert, write, num_workers)
        shard = writer.finish()
        if not _is_finished(conversion, output, overwrite):  # another process may have been here
            _begin(conversion, output)
        return shard


def merge(
    selection: Selection, output: Path, label_map: LabelMap, options: Options
) -> Manifest | None:
    """Writes manifest and index of a record whose shards are all there, as `convert` does.

    Returns:
        The manifest, or None where the record is up to date already.

    Raises:
        UserError: shards are missing (all are named), or are of other input or options.
    """
    conversion = Conversion.of(selection, label_map, options)
    require_record_name(output)
    remove_stale(output.parent)
    if _is_merged(conversion, output):
        with writing(output):
            remove_parts(output)
        return None
    starts = shard_starts(len(selection.frames), options.num_shards)
    slices = [selection.frames[begin:end] for begin, end in pairwise(starts)]
    paths = shard_paths(output, options.num_shards)
    shards = [
        finished_shard(path, conversion.fingerprint, len(frames))
        for path, frames in zip(paths, slices, strict=True)
    ]
    if missing := [str(number) for number, shard in enumerate(shards) if shard is None]:
        raise UserError(
            f"{output}: {len(missing)} of {len(shards)} shards are not there yet; run the same "
            f"command with --shard_index={','.join(missing)} (each of them by itself), then --merge"
        )
    with writing(output):
        with atomic_open(index_path(output), "wb") as file:
            index = IndexWriter(file, len(paths))

            def write(number: int, item: Converted) -> None:
                if not item.errors:
                    shard = bisect(starts, number) - 1
                    index.add(shard, item.around, item.without_pixels)

            stored = chain.from_iterable(map(stored_frames, paths, slices))
            totals, convert = Totals(conversion), conversion.with_labels
            totals.add_all(output.name, stored, len(selection.frames), convert, write)
            manifest = totals.manifest()
            index.finish()
            remove_others(output, keep={path.name for path in paths})
        manifest.shards, manifest.inputs_sha256 = shards, conversion.fingerprint
        manifest.write(output)
        remove_parts(output)
    return manifest


def _is_finished(conversion: Conversion, output: Path, overwrite: bool) -> bool:
    """Whether the whole record is there; raises UserError where something else is."""
    try:
        old = find_existing(output, conversion)
        if old and old.inputs_sha256 != conversion.fingerprint:
            raise exists(output, "made from other input")
    except UserError:
        if not overwrite:
            raise
        return False
    return old is not None


def _is_merged(conversion: Conversion, output: Path) -> bool:
    """Whether the whole record is there; raises UserError where no shard can be waiting."""
    if not manifest_path(output).exists():
        return False
    try:
        manifest = Manifest.load(manifest_path(output))
        found, is_whole = manifest.inputs_sha256, manifest.shards_exist(output.parent)
    except UnfinishedConversion as begun:
        found, is_whole = begun.inputs_sha256, False
    if found != conversion.fingerprint:
        raise UserError(
            f"{output}: what is there is of other input or flags; --merge wants all flags as they "
            "were with --shard_index, and the input unchanged"
        )
    return is_whole


def _begin(conversion: Conversion, output: Path) -> None:
    """Before the first shard: from now on no reader takes the files for a record.

    Of a whole record of this very input a shard was lost, or made twice; it is the same again.
    """
    found = ""
    try:
        found = Manifest.load(manifest_path(output)).inputs_sha256
    except UnfinishedConversion as begun:
        found = begun.inputs_sha256
    except UserError:  # none, or a damaged one
        pass
    if found != conversion.fingerprint:
        Manifest.mark_unfinished(output, conversion.fingerprint)
