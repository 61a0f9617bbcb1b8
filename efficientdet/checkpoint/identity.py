"""Which checkpoint it was: an evaluation names it, and whoever reads the evaluation can tell."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from efficientdet.checkpoint.bundle import INDEX_SUFFIX, read_entry
from efficientdet.checkpoint.finding import find_weights


@dataclass(frozen=True)
class Identity:
    """One checkpoint, wherever it lies.

    Attributes:
        name: its path without suffixes, for people.
        step: updates done; None where nothing tells.
        digest: of its index, in which the checksums of all tensors stand: a copy has the same.
    """

    name: str
    step: int | None
    digest: str

    def __str__(self) -> str:
        return self.name if self.step is None else f"{self.name} (step {self.step})"


def identify(path: str | Path) -> Identity:
    """The identity of the checkpoint at `path`: a prefix, a folder or a file.

    Raises:
        UserError: there is none.
    """
    prefix = find_weights(Path(path), str(path))
    if prefix.is_file():
        return Identity(str(prefix), None, _digest(prefix))
    index = Path(f"{prefix}{INDEX_SUFFIX}")
    return Identity(str(prefix), _step(prefix), _digest(index))


def step_in_name(prefix: Path) -> int | None:
    """12 of `model.ckpt-12`."""
    match = re.search(r"-(\d+)$", prefix.name)
    return int(match[1]) if match else None


def _step(prefix: Path) -> int | None:
    step = step_in_name(prefix)
    if step is None and (stored := read_entry(prefix, "global_step")) is not None:
        step = int(stored)
    return step


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
