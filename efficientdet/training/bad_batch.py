"""Images of a step whose loss was not finite, kept to look at."""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from efficientdet.atomic import atomic_path

logger = logging.getLogger(__name__)


def keep(
    folder: Path, step: int, batch: Mapping[str, np.ndarray], logs: Mapping[str, float]
) -> None:
    """Writes the batch to `bad_batches/` and says so, with the names of its images."""
    ids = [i.decode() if isinstance(i, bytes) else str(i) for i in batch["source_id"]]
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
