"""KITTI folders -> TFRecord and manifest: parallel, deterministic, nothing lost."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

import efficientdet
from efficientdet.dataset.frame_conversion import Converted, convert_frame
from efficientdet.dataset.kitti import Frame
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.manifest import Manifest, manifest_path
from efficientdet.dataset.options import Options
from efficientdet.dataset.parallel import map_in_order
from efficientdet.dataset.record_writer import RecordWriter, sha256
from efficientdet.dataset.selection import Selection
from efficientdet.dataset.statistics import Statistics
from efficientdet.errors import UserError
from efficientdet.progress import meter

MAX_PRINTED_ERRORS = 20


def convert(
    selection: Selection,
    output: Path,
    label_map: LabelMap,
    options: Options,
    *,
    num_workers: int | None = None,
    overwrite: bool = False,
) -> Manifest | None:
    """Writes the record (or its shards) and the manifest; a killed run leaves neither.

    Returns:
        The manifest, or None where the record is up to date already.

    Raises:
        UserError: bad frames (all are counted, 20 printed), or an output of other input that only
            `overwrite` replaces.
    """
    fingerprint = _fingerprint(selection, label_map, options)
    if not overwrite and _is_up_to_date(output, fingerprint, options):
        return None
    try:
        with RecordWriter(output, len(selection.frames), options.num_shards) as writer:
            manifest = _run(selection, label_map, options, num_workers, output.name, writer.write)
            manifest.inputs_sha256 = fingerprint
            manifest.shards = writer.finish()
            _remove_old(output, keep={shard.name for shard in manifest.shards})
        manifest.write(output)
    except (OSError, tf.errors.OpError) as error:
        raise UserError(f"{output}: cannot be written: {error}") from None
    return manifest


def dry_run(
    selection: Selection, label_map: LabelMap, options: Options, num_workers: int | None = None
) -> Manifest:
    """Reads and checks everything as `convert` does, and writes nothing."""
    return _run(selection, label_map, options, num_workers, "dry run", lambda *_: None)


def _run(
    selection: Selection,
    label_map: LabelMap,
    options: Options,
    num_workers: int | None,
    title: str,
    write: Callable[[int, bytes], None],
) -> Manifest:
    """Converts all frames in order, hands each good example to `write`, and sums them up."""
    statistics, errors = Statistics(), []

    def convert_one(frame: Frame) -> Converted:
        return convert_frame(frame, label_map, options)

    with meter(title, len(selection.frames)) as progress:
        items = map_in_order(convert_one, selection.frames, num_workers)
        for index, item in enumerate(items):
            progress.add(len(item.example))
            errors += item.errors
            if not item.errors and (options.skip_bad or not errors):
                write(index, item.example)
                size = item.header.height, item.header.width
                statistics.add(item.frame.source_id, *size, item.annotations)
    if errors and not options.skip_bad:
        raise UserError(_describe(errors))
    if not statistics.source_ids:
        raise UserError("not one good frame is left, so nothing was written")
    return Manifest(
        **statistics.counts(),
        label_map=label_map,
        subset=options.subset,
        split=options.split,
        seed=options.seed,
        source_ids=statistics.source_ids,
        left_out=errors,
        options=options.to_dict(),
        converter=efficientdet.__version__,
    )


def _fingerprint(selection: Selection, label_map: LabelMap, options: Options) -> str:
    """SHA-256 of the options, the label map, all labels, and the images' names and sizes."""
    digest = hashlib.sha256()

    def update(*values: Any) -> None:
        digest.update(json.dumps(values).encode() + b"\n")

    update(efficientdet.__version__, options.to_dict(), label_map.to_dict())
    for frame in selection.frames:
        image = _state(frame.image, lambda path: (path.name, path.stat().st_size))
        update(frame.source_id, image, _state(frame.label, sha256))
    return digest.hexdigest()


def _state(path: Path | None, read: Callable[[Path], Any]) -> Any:
    try:
        return path and read(path)
    except OSError as error:  # the conversion will tell, together with all else that is wrong
        return str(error)


def _is_up_to_date(output: Path, fingerprint: str, options: Options) -> bool:
    """True where the output exists and came from the same input; False where there is none."""
    existing = [path for path in (output, manifest_path(output)) if path.exists()]
    existing += output.parent.glob(f"{output.name}-?????-of-?????")
    if not existing:
        return False
    manifest = Manifest.load(path) if (path := manifest_path(output)).exists() else None
    if manifest and manifest.inputs_sha256 == fingerprint and manifest.shards_exist(output.parent):
        return True
    changed = [
        f"--{name} was {manifest.options.get(name)}"
        for name, value in options.to_dict().items()
        if manifest and json.loads(json.dumps(value)) != manifest.options.get(name)
    ]
    reason = ", ".join(changed) or "it was made from other input"
    raise UserError(f"{existing[0]} exists already ({reason}); --overwrite replaces it")


def _remove_old(output: Path, keep: set[str]) -> None:
    """Removes what an earlier run left; its manifest first, so that none tells of other bytes."""
    manifest_path(output).unlink(missing_ok=True)
    for path in [output, *output.parent.glob(f"{output.name}-?????-of-?????")]:
        if path.name not in keep:
            path.unlink(missing_ok=True)


def _describe(errors: list[str]) -> str:
    lines = errors[:MAX_PRINTED_ERRORS]
    more = len(errors) - len(lines)
    return "\n  ".join(
        [f"{len(errors)} problems in the input; --skip_bad leaves these frames out", *lines]
        + ([f"... and {more} more"] if more else [])
    )
