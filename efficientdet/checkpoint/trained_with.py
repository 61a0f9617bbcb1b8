"""Hyper-parameters that weights bring along: a run from them begins with these."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from efficientdet.checkpoint.imagenet import is_name
from efficientdet.checkpoint.torch_file import SUFFIXES
from efficientdet.config import MODELS, Config, flatten, load_yaml
from efficientdet.errors import UserError

logger = logging.getLogger(__name__)

_INPUT = ("mean_rgb", "stddev_rgb")  # the rest of a run's config is no property of its weights


def configure(base: Config, overrides: Mapping[str, Any], ckpt: str | None) -> Config:
    """`base` with what the weights at `ckpt` were trained with, and then with `overrides`.

    Args:
        base: the model's own configuration.
        overrides: what the user said; flat keys.
        ckpt: see `trained_with`.
    """
    backbone = base.override(overrides).backbone_name
    wanted = trained_with(ckpt, backbone) if ckpt else {}
    config = base.override(wanted | dict(overrides))
    before, after = (flatten(c.to_dict()) for c in (base.override(overrides), config))
    if changed := [f"{key}={after[key]}" for key in wanted if before[key] != after[key]]:
        logger.info(f"{ckpt} was trained with {', '.join(changed)}, which is taken over")
    if (theirs := _contradiction(wanted, config)) is not None:
        logger.warning(f"{ckpt} was trained with {theirs}: its weights begin on strange images")
    return config


def check_input(ckpt: str, config: Config) -> None:
    """Raises UserError if `config` scales images otherwise than the weights at `ckpt` know them."""
    theirs = _contradiction(trained_with(ckpt, config.backbone_name), config)
    if theirs is not None:
        raise UserError(f"{ckpt} was trained with {theirs}: every detection would be wrong")


def trained_with(ckpt: str, backbone: str) -> dict[str, Any]:
    """From the `hparams.yaml` of scripts/download_checkpoint.sh, or a run's config.yaml; flat keys.

    Args:
        ckpt: a prefix or a folder; a name of ImageNet weights or a .pth file, which were trained
            as `backbone` is; an archive brings nothing along.
        backbone: to be filled.
    """
    path = Path(ckpt)
    if is_name(ckpt) or path.suffix in SUFFIXES:
        models = (Config().override(t) for t in MODELS.values() if t["backbone_name"] == backbone)
        model = next(models, Config())
        return {key: getattr(model, key) for key in _INPUT}
    if path.is_file() and not path.name.endswith(".index"):
        return {}
    folder = path if path.is_dir() else path.parent
    if (folder / "hparams.yaml").is_file():
        return load_yaml(folder / "hparams.yaml")
    run = folder.parent if folder.name == "archive" else folder
    if not (run / "config.yaml").is_file():
        return {}
    values = load_yaml(run / "config.yaml")
    return {key: values[key] for key in _INPUT if key in values}


def _contradiction(wanted: Mapping[str, Any], config: Config) -> str | None:
    """Which scaling of images `config` has otherwise than `wanted`, in words."""
    theirs = config.override({key: value for key, value in wanted.items() if key in _INPUT})
    for key in _INPUT:
        ours, other = getattr(config, key), getattr(theirs, key)
        if not np.allclose(ours, other, rtol=1e-4):
            return f"{key}={_triple(other)}, but here it is {_triple(ours)}"
    return None


def _triple(values: tuple[float, ...]) -> str:
    return "*".join(map(str, values))
