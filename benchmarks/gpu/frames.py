"""Frames decoded once, to be carried to a machine without TensorFlow: uint8 at the input size.

The parts `NAME-0.npz`, `NAME-1.npz`, ... hold what the input pipeline makes of an evaluation's
frames (`images`, `shown`, `boxes`, `classes`), and the memory table's estimates besides, which are
made by TensorFlow as well.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from efficientdet.atomic import atomic_open
from efficientdet.config import Config
from efficientdet.errors import UsageError, one_line

KEYS = ("images", "shown", "boxes", "classes")
MODES = ({}, {"mixed_precision": True}, {"mixed_precision": True, "grad_checkpoint": True})
BATCH = 8


def load(pattern: str) -> dict[str, np.ndarray]:
    """The frames of all parts, in order; `num_classes` too.

    Returns:
        images uint8 [N, H, W, 3], shown int32 [N, 2], boxes float32 [N, M, 4], classes int32
        [N, M], num_classes int.

    Raises:
        UsageError: nothing matches, or the parts do not belong together.
    """
    parts = [_read(path, *KEYS, "num_classes") for path in _paths(pattern)]
    if len({part["images"].shape[1:] + part["boxes"].shape[1:] for part in parts}) > 1:
        raise UsageError(f"--frames={pattern}: parts of several sizes; --prepare them together")
    frames = {key: np.concatenate([part[key] for part in parts]) for key in KEYS}
    return frames | {"num_classes": parts[0]["num_classes"]}


def size_of(pattern: str) -> str:
    """The input size of the frames, `width x height`."""
    return str(_read(_paths(pattern)[0], "image_size")["image_size"])


def estimate_of(pattern: str | None, config: Config, batch_size: int) -> int | None:
    """Bytes of a step as `efficientdet.commands.memory` has it; None: not made by --prepare."""
    if pattern is None:
        return None
    part = _read(_paths(pattern)[0], "estimates")
    found = json.loads(str(part["estimates"])).get(_key(config))
    return found and found["state"] + found["fixed"] + batch_size * found["image"]


def _paths(pattern: str) -> list[Path]:
    path = Path(pattern)
    if paths := sorted(path.parent.glob(path.name)):
        return paths
    raise UsageError(f"--frames={pattern}: no such file; make them by --prepare, see --help")


def _read(path: Path, *keys: str) -> dict[str, np.ndarray]:
    try:
        with np.load(path) as part:
            return {key: part[key] for key in keys}
    except (OSError, EOFError, KeyError, TypeError, ValueError, BadZipFile) as error:
        what = f"{type(error).__name__}: {one_line(error)}"
        raise UsageError(f"--frames: {path} is no part that --prepare wrote ({what})") from None


def _key(config: Config) -> str:
    width_height = "x".join(map(str, reversed(config.image_hw)))
    return f"{config.name} {width_height} {config.mixed_precision} {config.grad_checkpoint}"


def prepare(
    target: Path, pattern: str, count: int, part_mb: float, configs: Sequence[Config]
) -> list[Path]:
    """Writes the first `count` frames of records, in parts of at most `part_mb`.

    Args:
        target: `NAME.npz`; the parts are `NAME-0.npz` and so on.
        configs: of one input size, whose memory is estimated.

    Returns:
        The parts.
    """
    frames, num_classes = _decoded(pattern, count, configs[0])
    facts = {
        "num_classes": num_classes,
        "image_size": "x".join(map(str, reversed(configs[0].image_hw))),
        "estimates": json.dumps(dict(_estimates(configs, num_classes))),
    }
    for old in target.parent.glob(f"{target.stem}-*{target.suffix}"):
        old.unlink()
    # What compression gains is left out of account: a part is never too large.
    each = max(1, int(part_mb * 1e6 / frames["images"][0].nbytes))
    paths = []
    for number, start in enumerate(range(0, len(frames["images"]), each)):
        paths.append(target.with_name(f"{target.stem}-{number}{target.suffix}"))
        part = {key: value[start : start + each] for key, value in frames.items()}
        with atomic_open(paths[-1], "wb") as file:
            np.savez_compressed(file, **part, **facts)
    return paths


def _decoded(pattern: str, count: int, config: Config) -> tuple[dict[str, np.ndarray], int]:
    from efficientdet.input.pipeline import InputPipeline
    from efficientdet.input.record_set import RecordSet

    records = RecordSet.open(pattern)
    pipeline = InputPipeline(
        records.files, config, batch_size=BATCH, training=False,
        num_classes=records.label_map.num_classes, max_instances=max(1, records.max_objects),
        examples_per_epoch=min(count, records.num_examples), image_dtype="uint8",
    )  # fmt: skip
    batches: list[Mapping[str, Any]] = list(pipeline.batches(epoch=0, skip_batches=0))
    valid = np.concatenate([batch["valid"] for batch in batches])
    frames = {key: np.concatenate([batch[key] for batch in batches])[valid] for key in KEYS}
    return frames, records.label_map.num_classes


def _estimates(configs: Sequence[Config], num_classes: int) -> Iterator[tuple[str, dict]]:
    from efficientdet.progress import track
    from efficientdet.training.memory import estimate

    chosen = [
        config.override({"num_classes": num_classes, **mode})
        for config in configs
        for mode in MODES
    ]
    for config in track(chosen, "estimating memory"):
        yield _key(config), asdict(estimate(config))
