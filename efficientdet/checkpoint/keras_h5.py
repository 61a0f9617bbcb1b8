"""Weights that Keras 2 wrote as HDF5 (.h5), as plain arrays."""

from pathlib import Path

import h5py
import numpy as np

from efficientdet.errors import UserError, one_line

MAGIC = b"\x89HDF\r\n\x1a\n"
_MODEL, _OPTIMIZER = "model_weights/", "optimizer_weights/"  # where a whole model was saved


def read_h5(path: Path) -> dict[str, np.ndarray]:
    """Name of a variable -> array; each lies at `layer/name:0`.

    Raises:
        UserError: damaged, or of another program.
    """
    found: dict[str, h5py.Dataset] = {}

    def visit(name: str, item: h5py.Dataset | h5py.Group) -> None:
        name = name.removeprefix(_MODEL)
        if isinstance(item, h5py.Dataset) and not name.startswith(_OPTIMIZER):
            found[name.partition("/")[2]] = item

    try:
        with h5py.File(path, "r") as file:
            file.visititems(visit)
            if not found or not all(name.endswith(":0") for name in found):
                raise UserError(
                    f"{path}: HDF5, but not as Keras 2 saves weights (layer/name:0), first "
                    f"{next(iter(found), 'nothing')[:80]!r}"
                )
            # A shape that lies would ask for any amount of memory.
            if sum(dataset.nbytes for dataset in found.values()) > path.stat().st_size:
                raise UserError(f"{path}: shorter than the arrays it speaks of: half downloaded?")
            return {name.removesuffix(":0"): np.asarray(data) for name, data in found.items()}
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: {path.stat().st_size} bytes, not readable as HDF5 ({one_line(error)[:150]}); "
            "half downloaded?"
        ) from None
