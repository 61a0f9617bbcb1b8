"""TensorFlow checkpoint bundles (`prefix.index`, `prefix.data-00000-of-00001`) as plain arrays.

The format of AutoML's and the published checkpoints, so there is one format for everything: what
is trained here loads there. Every tensor carries a CRC-32C, checked when it is read.
"""

import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from efficientdet.errors import UserError, one_line

DATA_SUFFIX = ".data-00000-of-00001"
INDEX_SUFFIX = ".index"
# What TensorFlow says, as an error of no particular class, when the bytes themselves are wrong. Its
# "Perhaps the file is corrupt" is not among them: it says so of every failure to read.
_DAMAGE = re.compile(
    r"checksum|not an sstable|too short to be an sstable|less bytes than requested|"
    r"truncated block|bad block|bad entry|corrupted|corruption",
    re.IGNORECASE,
)


class DamagedCheckpoint(UserError):
    """The files could be read, and what they hold is wrong; reading again will not help."""


def write_bundle(prefix: str | os.PathLike[str], arrays: Mapping[str, np.ndarray]) -> None:
    """Writes `arrays` under `prefix`; the index, without which there is no bundle, comes last.

    Strings are arrays of dtype object or bytes.

    Raises:
        UserError: the disk refused (full, read-only).
    """
    from efficientdet.tensorflow_device import tf

    prefix = Path(prefix)
    folder = prefix.with_name(f".{prefix.name}.{os.getpid()}.tmp")
    names = sorted(arrays)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tf.device("CPU"):
            tf.raw_ops.SaveV2(
                prefix=str(folder / "bundle"),
                tensor_names=names,
                shape_and_slices=[""] * len(names),
                tensors=[tf.constant(arrays[name]) for name in names],
            )
        for suffix in (DATA_SUFFIX, INDEX_SUFFIX):
            (folder / f"bundle{suffix}").replace(f"{prefix}{suffix}")
    except (OSError, tf.errors.OpError) as error:
        raise UserError(
            f"{prefix}: cannot write the checkpoint ({one_line(error)}); free some disk space and "
            "start the same command again, it goes on from the checkpoint before"
        ) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read_entry(prefix: str | os.PathLike[str], name: str) -> Any | None:
    """One array of the bundle, the others unread; None where it has no such name.

    Raises:
        UserError: no such bundle, or a damaged one.
    """
    from efficientdet.tensorflow_device import tf

    try:
        reader = tf.train.load_checkpoint(str(prefix))
        return reader.get_tensor(name) if reader.has_tensor(name) else None
    except (OSError, ValueError, IndexError, RuntimeError, tf.errors.OpError) as error:
        message = one_line(error)[:200]
        raise UserError(f"{prefix}: not a readable checkpoint: {message}") from error


def read_bundle(prefix: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Name -> array of everything under `prefix`.

    Raises:
        DamagedCheckpoint: a checksum, the index or the length is wrong, or the data file is gone.
        UserError: no such bundle, or it could not be read for another reason, which may pass.
    """
    from efficientdet.tensorflow_device import tf

    try:
        reader = tf.train.load_checkpoint(str(prefix))
        names = sorted(reader.get_variable_to_shape_map())  # as they lie: each byte is read once
        return {name: reader.get_tensor(name) for name in names}
    except (OSError, ValueError, IndexError, RuntimeError, tf.errors.OpError) as error:
        message = one_line(error)[:200]
        kind = DamagedCheckpoint if _is_damaged(Path(prefix), error) else UserError
        raise kind(f"{prefix}: not a readable checkpoint: {message}") from error


def _is_damaged(prefix: Path, error: Exception) -> bool:
    """Whether `error` proves the bundle damaged; a device or a network that fails proves nothing.

    TensorFlow tells them apart by the message alone.
    """
    from efficientdet.tensorflow_device import tf

    says_so = isinstance(error, tf.errors.DataLossError) or _DAMAGE.search(str(error))
    try:
        files = [file for file in prefix.parent.iterdir() if file.stem == prefix.name]
        suffixes = {file.suffix for file in files}
        for file in files:
            _read_through(file)
    except OSError:
        return False
    has_data = any(suffix.startswith(".data-") for suffix in suffixes)
    return bool(says_so) or (INDEX_SUFFIX in suffixes and not has_data)


def _read_through(file: Path) -> None:
    with file.open("rb") as opened:
        while opened.read(1 << 24):
            pass
