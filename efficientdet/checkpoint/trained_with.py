"""Hyper-parameters that weights bring along: a run from them begins with these."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from efficientdet.config import Config, flatten, load_yaml
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
    wanted = trained_with(ckpt) if ckpt else {}
    config = base.override(wanted | dict(overrides))
    before, after = (flatten(c.to_dict()) for c in (base.override(overrides), config))
    if changed := [f"{key}={after[key]}" for key in wanted if before[key] != after[key]]:
        logger.info(f"{ckpt} was trained with {', '.join(changed)}, which is taken over")
    return config


def check_input(ckpt: str, config: Config) -> None:
    """Raises UserError if `config` scales images otherwise than the weights at `ckpt` know them."""
    theirs = config.override({k: v for k, v in trained_with(ckpt).items() if k in _INPUT})
    for key in _INPUT:
        ours, wanted = getattr(config, key), getattr(theirs, key)
        if not np.allclose(ours, wanted, rtol=1e-4):
            raise UserError(
                f"{ckpt} was trained with {key}={wanted[0]}*{wanted[1]}*{wanted[2]}, but here it "
                f"is {ours[0]}*{ours[1]}*{ours[2]}: every detection would be wrong"
            )


def trained_with(ckpt: str) -> dict[str, Any]:
    """From the `hparams.yaml` of scripts/download_checkpoint.sh, or a run's config.yaml; flat keys.

    Args:
        ckpt: a prefix or a folder; an archive brings nothing along.
    """
    path = Path(ckpt)
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
