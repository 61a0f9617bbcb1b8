"""Images of a step whose loss was not finite, kept to look at."""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from efficientdet import processes
from efficientdet.atomic import atomic_path

logger = logging.getLogger(__name__)


def keep(
    folder: Path, step: int, batch: Mapping[str, np.ndarray], logs: Mapping[str, float]
) -> None:
    """Writes the batch to `bad_batches/` and says so, with the names of its images.

    Of several processes the writer does, with its own share of the images and the names of all.
    """
    ids = [i.decode() if isinstance(i, bytes) else str(i) for i in batch["source_id"]]
    shares = processes.collect(ids)
    if shares is None:
        return
    ids = [one for share in shares for one in share]
    path = folder / "bad_batches" / f"step-{step}.npz"
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **{name: _plain(array) for name, array in batch.items()})
    logger.info(
        f"step {step}: loss {logs['loss']}, gradient norm {logs['gradient_norm']}: update "
        f"skipped; images {', '.join(ids)} -> {path}"
    )


def _plain(array: np.ndarray) -> np.ndarray:
    """As numpy alone reads it: it knows no bfloat16."""
    array = np.asarray(array)
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array
