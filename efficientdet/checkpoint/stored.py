"""The door to every checkpoint: finds it, tells its form, and hands out arrays by AutoML name."""

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from efficientdet.checkpoint import keras_h5, torch_file
from efficientdet.checkpoint.archive import ArchiveError, unpack
from efficientdet.checkpoint.bundle import INDEX_SUFFIX, read_bundle
from efficientdet.checkpoint.efficientnet_names import from_keras, from_torch, is_keras
from efficientdet.checkpoint.finding import FILES, FORMS, find_weights
from efficientdet.checkpoint.head_rows import AnchorShapes, level_scales
from efficientdet.checkpoint.imagenet import (
    is_name,
    read_imagenet,
    refuse_as_detector,
    require_imagenet,
)
from efficientdet.checkpoint.keras_h5 import read_h5
from efficientdet.checkpoint.object_graph import GRAPH, named_variables
from efficientdet.checkpoint.torch_file import read_torch
from efficientdet.config import MODELS, Config, load_yaml
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UserError

EMA = "/ExponentialMovingAverage"
# What a training run stores beside its weights: optimizer slots, counters, this program's state.
_NOT_WEIGHTS = re.compile(
    r".*/(Momentum|Adam|Adam_1|RMSProp|RMSProp_1)$|global_step$|beta\d_power$|state/"
)
_ANCHOR_KEYS = ("num_scales", "aspect_ratios", "anchor_scale", "min_level", "max_level")
_OTHER_KINDS = {  # place and first bytes: what it is
    (0, b"PK\x03\x04"): "a zip file (.keras, .zip)",
    (4, b"TFL3"): "a TFLite model",
    (0, b"\x08"): "a graph or SavedModel (.pb)",
}


@dataclass(frozen=True)
class StoredWeights:
    """The weights of a checkpoint, and what stands beside it.

    Attributes:
        path: as the user named it.
        arrays: by AutoML name; the EMA value where there is one.
        num_averaged: how many are EMA values.
        anchors: shapes of the anchors that the heads were trained with.
        scales: level -> anchor scale that they were trained with; None: nothing beside it says.
        is_own: written by this program, not published and not of AutoML.
        label_map: of this project's own runs, else None.
    """

    path: str
    arrays: dict[str, np.ndarray]
    num_averaged: int
    anchors: AnchorShapes
    scales: dict[int, float] | None
    is_own: bool
    label_map: LabelMap | None


def read_weights(path: str, backbone: str | None = None) -> StoredWeights:
    """Reads the checkpoint at `path`; every byte is checked against its CRC, where there is one.

    Args:
        path: a prefix, a folder, an archive, a .h5; for a backbone also a .pth or a name, see
            `imagenet`.
        backbone: the one that alone is wanted; None: a whole detector.

    Raises:
        UserError: nothing there, damaged, half downloaded, or of another kind.
    """
    if is_name(path):
        found, arrays = read_imagenet(path, backbone)
        return _published(found, arrays)
    found = find_weights(Path(path), path)
    if _form(found) != "archive":
        return _read(path, found, backbone)
    with tempfile.TemporaryDirectory() as folder:
        _unpack(found, Path(folder))
        return _read(path, find_weights(_folder_inside(Path(folder), path), path), backbone)


def require(path: str, backbone: str | None = None) -> None:
    """Raises UserError if nothing at `path` can be a checkpoint, without reading it.

    Args:
        backbone: see `read_weights`.
    """
    if is_name(path):
        require_imagenet(path, backbone)
    elif _form(find_weights(Path(path), path)) == "torch":
        refuse_as_detector(path, backbone)


def _unpack(archive: Path, folder: Path) -> None:
    if kind := _other_kind(archive):
        raise UserError(f"{archive}: {kind}, which is not read here; {FORMS}")
    try:
        unpack(archive, folder)
    except ArchiveError as error:
        raise UserError(
            f"{archive}: {archive.stat().st_size} bytes, {error}; what was half "
            f"downloaded, `scripts/download_checkpoint.sh` completes; {FORMS}"
        ) from None


def _other_kind(file: Path) -> str | None:
    """What a file is whose first bytes tell that it is no archive of a checkpoint."""
    with file.open("rb") as opened:
        head = opened.read(8)
    kinds = (kind for (place, magic), kind in _OTHER_KINDS.items() if head.find(magic) == place)
    return next(kinds, None)


def _form(found: Path) -> Literal["bundle", "h5", "torch", "archive"]:
    """What is to be read at a path of `find_weights`."""
    if not found.is_file():
        return "bundle"
    with found.open("rb") as opened:
        if opened.read(len(keras_h5.MAGIC)) == keras_h5.MAGIC:
            return "h5"
    return "torch" if found.suffix in torch_file.SUFFIXES else "archive"


def _folder_inside(folder: Path, given: str) -> Path:
    found = {file.parent for file in folder.rglob("*") if file.suffix in (INDEX_SUFFIX, *FILES)}
    if len(found) != 1:
        raise UserError(f"{given}: {len(found)} folders with a checkpoint inside, expected one")
    return found.pop()


def _read(given: str, found: Path, backbone: str | None) -> StoredWeights:
    form = _form(found)
    if form == "torch":
        refuse_as_detector(given, backbone)
        return _published(given, from_torch(read_torch(found), backbone, given))
    stored = read_h5(found) if form == "h5" else read_bundle(found)
    is_own = any(name.startswith("state/") for name in stored)
    if is_keras(stored):
        refuse_as_detector(given, backbone)
        return _published(given, from_keras(stored, backbone, given))
    if GRAPH in stored:
        stored = named_variables(stored, EMA, given)
    weights = {name: array for name, array in stored.items() if not _NOT_WEIGHTS.match(name)}
    averaged = {n.removesuffix(EMA): a for n, a in weights.items() if n.endswith(EMA)}
    raw = {name: array for name, array in weights.items() if not name.endswith(EMA)}
    arrays = raw | averaged
    _check_finite(arrays, given)
    anchors, scales, label_map = _beside(found.parent)
    return StoredWeights(given, arrays, len(averaged), anchors, scales, is_own, label_map)


def _published(given: str, arrays: dict[str, np.ndarray]) -> StoredWeights:
    """A backbone without a detector."""
    _check_finite(arrays, given)
    return StoredWeights(given, arrays, 0, AnchorShapes.of(Config()), None, False, None)


def _check_finite(arrays: dict[str, np.ndarray], given: str) -> None:
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise UserError(f"{given}: {name} holds NaN or infinity; take an earlier checkpoint")


def _beside(folder: Path) -> tuple[AnchorShapes, dict[int, float] | None, LabelMap | None]:
    """Anchors and classes of the model_dir that a checkpoint lies in (or in its archive/)."""
    home = folder.parent if folder.name == "archive" else folder
    if not (home / "config.yaml").is_file():
        return AnchorShapes.of(Config()), None, None
    values = load_yaml(home / "config.yaml")
    table = MODELS.get(str(values.get("name")), {})
    known = {key: values[key] for key in _ANCHOR_KEYS if values.get(key) is not None}
    config = Config().override(table | known)
    scales = level_scales(config) if table or "anchor_scale" in known else None
    # AutoML's model_dir has a config.yaml too, but no label map.
    names = home / "label_map.txt"
    label_map = LabelMap.read(names) if names.is_file() else None
    return AnchorShapes.of(config), scales, label_map
