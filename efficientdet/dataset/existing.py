"""What is there already where a conversion is to write."""

import dataclasses
import json
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path

from efficientdet.dataset.conversion import Conversion
from efficientdet.dataset.manifest import Manifest, UnfinishedConversion, manifest_path
from efficientdet.dataset.tfrecord import BESIDE, PART_SUFFIX, base_path
from efficientdet.errors import UsageError, UserError


def require_record_name(output: Path) -> None:
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


def find_existing(output: Path, conversion: Conversion) -> Manifest | None:
    """The manifest of what is there already, made with the same options.

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
        raise exists(paths[0], "without a manifest")
    try:
        manifest = Manifest.load(manifest_path(output))
    except UnfinishedConversion as begun:
        if begun.inputs_sha256 != conversion.fingerprint:
            raise exists(paths[0], "an unfinished conversion of other input or flags") from None
        return None
    changed = [
        f"--{name} was {manifest.options.get(name)}"
        for name, value in conversion.options.to_dict().items()
        if json.loads(json.dumps(value)) != manifest.options.get(name)
    ]
    if manifest.label_map != conversion.label_map:
        changed.append(f"its classes were {manifest.label_map} and would be {conversion.label_map}")
    there = [shard for shard in manifest.shards if (output.parent / shard.name).exists()]
    if not dataclasses.replace(manifest, shards=there).shards_exist(output.parent):
        changed.append("its files are not those that its manifest names")
    is_whole = there and there == manifest.shards
    if not is_whole and manifest.inputs_sha256 != conversion.fingerprint:
        changed.append("made from other input, and not all of its files are there")
    if changed:
        raise exists(paths[0], ", ".join(changed))
    return manifest if is_whole else None


def exists(path: Path, why: str) -> UserError:
    """The error of an output that is not replaced unasked."""
    return UserError(f"{path} exists already ({why}); --overwrite replaces it")


def remove_others(output: Path, keep: Collection[str]) -> None:
    """Removes the files of an earlier run that no new one replaces."""
    for path in [output, *output.parent.glob(f"{escape(output.name)}-?????-of-?????")]:
        if path.name not in keep:
            path.unlink(missing_ok=True)


def remove_parts(output: Path) -> None:
    """Removes what waited for a merge."""
    names = (f"{escape(output.name)}{ending}{PART_SUFFIX}" for ending in ("", "-?????-of-?????"))
    for path in (path for name in names for path in output.parent.glob(name)):
        path.unlink(missing_ok=True)


@contextmanager
def writing(output: Path) -> Iterator[None]:
    """Inside, a file that cannot be written is a UserError."""
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"{error.filename or output}: cannot be written: {why}") from None
