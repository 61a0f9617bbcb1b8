"""KITTI folders -> TFRecord and manifest: parallel, deterministic, nothing lost."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from contextlib import closing, suppress
from glob import escape
from itertools import chain
from pathlib import Path
from typing import Any

import efficientdet
from efficientdet.atomic import remove_stale
from efficientdet.dataset.findings import Findings
from efficientdet.dataset.frame_conversion import Converted, convert_frame
from efficientdet.dataset.index_file import index_path, make_index
from efficientdet.dataset.kitti import Frame, read_file
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.manifest import Manifest, UnfinishedConversion, manifest_path
from efficientdet.dataset.options import Options
from efficientdet.dataset.parallel import map_in_order
from efficientdet.dataset.record_writer import RecordWriter
from efficientdet.dataset.room import require_room
from efficientdet.dataset.selection import Selection
from efficientdet.dataset.splits import count_drives
from efficientdet.dataset.statistics import Statistics
from efficientdet.dataset.tfrecord import BESIDE, base_path, read_records
from efficientdet.errors import UsageError, UserError
from efficientdet.progress import meter
from efficientdet.wording import counted

MAX_PRINTED_ERRORS = 20


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
    label_map = label_map.only(options.classes) if options.classes else label_map
    _require_record_name(output)
    remove_stale(output.parent)
    fingerprint = _fingerprint(selection, label_map, options)
    old = None if overwrite else _existing(output, label_map, options, fingerprint)
    if old and old.inputs_sha256 == fingerprint and not verify:
        _index_old(output, old)
        return None
    try:
        if old:
            manifest = _compare(selection, output, label_map, options, num_workers, old)
        else:
            require_room(selection.frames, output)
            with RecordWriter(output, len(selection.frames), options.num_shards) as writer:
                manifest = _run(
                    selection, label_map, options, num_workers, output.name, writer.write
                )
                manifest.shards = writer.finish()
                Manifest.mark_unfinished(output, fingerprint)
                _remove_old(output, keep={shard.name for shard in manifest.shards})
        manifest.inputs_sha256 = fingerprint
        manifest.write(output)
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"{error.filename or output}: cannot be written: {why}") from None
    return None if old else manifest


def dry_run(
    selection: Selection, label_map: LabelMap, options: Options, num_workers: int | None = None
) -> Manifest:
    """Reads and checks everything as `convert` does, and writes nothing."""
    label_map = label_map.only(options.classes) if options.classes else label_map
    return _run(selection, label_map, options, num_workers, "dry run", lambda *_: None)


def _run(
    selection: Selection,
    label_map: LabelMap,
    options: Options,
    num_workers: int | None,
    title: str,
    write: Callable[[int, bytes, bytes], None],
) -> Manifest:
    """Converts all frames in order, hands each good example to `write`, and sums them up.

    Args:
        write: takes the frame's number, the example, and the same without the image's bytes.
    """
    statistics, errors, findings = Statistics(), [], Findings(label_map, options)

    def convert_one(frame: Frame) -> Converted:
        return convert_frame(frame, label_map, options)

    converted = map_in_order(convert_one, selection.frames, num_workers)
    with meter(title, len(selection.frames)) as progress, closing(converted) as items:
        for index, item in enumerate(items):
            progress.add(len(item.example))
            errors += item.errors
            findings.add(item)
            if not item.errors and (options.skip_bad or not errors):
                write(index, item.example, item.without_pixels)
                size = item.header.height, item.header.width
                statistics.add(item.frame.source_id, *size, item.annotations)
    if errors and not options.skip_bad:
        raise UserError(_describe(errors, list(findings.hints())))
    findings.require_named()
    if not statistics.source_ids:
        raise UserError("not one good frame is left, so nothing was written")
    return Manifest(
        **statistics.counts(),
        label_map=label_map,
        subset=options.subset,
        drives=count_drives(statistics.source_ids) if selection.is_kitti else {},
        split=selection.split,
        seed=options.seed,
        source_ids=statistics.source_ids,
        left_out=errors,
        options=options.to_dict(),
        converter=efficientdet.__version__,
        notes=list(findings.notes()),
    )


def _fingerprint(selection: Selection, label_map: LabelMap, options: Options) -> str:
    """SHA-256 of options, label map, all labels, and the images' names, sizes and times."""
    digest = hashlib.sha256()

    def update(*values: Any) -> None:
        digest.update(json.dumps(values).encode() + b"\n")

    update(efficientdet.__version__, options.to_dict(), label_map.to_dict())
    for frame in selection.frames:
        image = _state(frame.image, _name_size_time)
        update(frame.source_id, image, _state(frame.label, _hash))
    return digest.hexdigest()


def _name_size_time(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return path.name, status.st_size, status.st_mtime_ns


def _hash(path: Path) -> str:
    return hashlib.sha256(read_file(path)).hexdigest()


def _state(path: Path | None, read: Callable[[Path], Any]) -> Any:
    try:
        return path and read(path)
    except OSError as error:  # the conversion will tell, together with all else that is wrong
        return str(error)


def _require_record_name(output: Path) -> None:
    """Raises where no record can have the name, or would be found again under it."""
    if output.is_dir():
        example = output / "train.record"
        raise UsageError(f"--output_path={output}: a folder; name a file, for example {example}")
    if output.exists() and not output.is_file():
        raise UsageError(f"--output_path={output}: not a regular file")
    if base_path(output) != output or output.name.endswith(BESIDE):
        raise UsageError(
            f"--output_path={output}: the name of a shard or a manifest; name the record itself"
        )


def _existing(
    output: Path, label_map: LabelMap, options: Options, fingerprint: str
) -> Manifest | None:
    """The manifest of what is there already, made with these options.

    Returns:
        None where nothing is, or a part of what this conversion would write.

    Raises:
        UserError: something else is there.
    """
    shards = sorted(output.parent.glob(f"{escape(output.name)}-?????-of-?????"))
    paths = [path for path in (output, manifest_path(output), *shards) if path.exists()]
    if not paths:
        return None
    if not manifest_path(output).exists():
        raise _exists(paths[0], "without a manifest")
    try:
        manifest = Manifest.load(manifest_path(output))
    except UnfinishedConversion as begun:
        if begun.inputs_sha256 != fingerprint:
            raise _exists(paths[0], "an unfinished conversion of other input or flags") from None
        return None
    changed = [
        f"--{name} was {manifest.options.get(name)}"
        for name, value in options.to_dict().items()
        if json.loads(json.dumps(value)) != manifest.options.get(name)
    ]
    if manifest.label_map != label_map:
        changed.append(f"its classes were {manifest.label_map} and would be {label_map}")
    there = [shard for shard in manifest.shards if (output.parent / shard.name).exists()]
    if not dataclasses.replace(manifest, shards=there).shards_exist(output.parent):
        changed.append("its files are not those that its manifest names")
    is_whole = there and there == manifest.shards
    if not is_whole and manifest.inputs_sha256 != fingerprint:
        changed.append("made from other input, and not all of its files are there")
    if changed:
        raise _exists(paths[0], ", ".join(changed))
    return manifest if is_whole else None


def _compare(
    selection: Selection,
    output: Path,
    label_map: LabelMap,
    options: Options,
    num_workers: int | None,
    old: Manifest,
) -> Manifest:
    """Makes every example again, and holds it against the record.

    Returns:
        What the manifest should say.

    Raises:
        UserError: they differ.
    """
    stored = chain.from_iterable(read_records(output.parent / shard.name) for shard in old.shards)

    def require_equal(index: int, example: bytes, _: bytes) -> None:
        try:
            _, found = next(stored, (None, b""))
        except UserError as error:
            raise _exists(output, str(error)) from None
        if found != example:
            source_id = selection.frames[index].source_id
            raise _exists(output, f"made from other input: frame {source_id} is not the same")

    title = f"comparing {output.name}"
    manifest = _run(selection, label_map, options, num_workers, title, require_equal)
    if manifest.num_examples != old.num_examples:
        counts = f"it holds {old.num_examples} frames, not {manifest.num_examples}"
        raise _exists(output, f"made from other input: {counts}")
    manifest.shards = old.shards
    return manifest


def _index_old(output: Path, old: Manifest) -> None:
    """Gives a record of before there were indexes its own, if the folder can be written to."""
    if not index_path(output).exists():
        with suppress(OSError):
            make_index([output.parent / shard.name for shard in old.shards])


def _exists(path: Path, why: str) -> UserError:
    return UserError(f"{path} exists already ({why}); --overwrite replaces it")


def _remove_old(output: Path, keep: set[str]) -> None:
    """Removes the files of an earlier run that no new one replaces."""
    for path in [output, *output.parent.glob(f"{escape(output.name)}-?????-of-?????")]:
        if path.name not in keep:
            path.unlink(missing_ok=True)


def _describe(errors: list[str], hints: list[str]) -> str:
    lines = errors[:MAX_PRINTED_ERRORS]
    more = len(errors) - len(lines)
    return "\n  ".join(
        [
            f"{counted(len(errors), 'problem')} in the input; --skip_bad leaves these frames out",
            *hints,
            *lines,
        ]
        + ([f"... and {more} more"] if more else [])
    )
