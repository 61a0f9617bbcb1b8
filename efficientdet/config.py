"""One typed configuration: every hyper-parameter, the table of models, YAML and `k=v` overrides.

Names and default values are those of google/automl's EfficientDet, so that a command line typed
from memory keeps its meaning; what that one never had stands in sections of its own.
"""

import ast
import dataclasses
import difflib
import math
import os
import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from efficientdet.atomic import atomic_open
from efficientdet.errors import UsageError

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


@dataclass
class NmsConfig:
    """Post-processing: from decoded boxes to detections."""

    method: Literal["gaussian", "hard"] = "gaussian"
    iou_thresh: float | None = None  # hard NMS; None means 0.5
    score_thresh: float | None = 0.0  # None or 0: 0.001 for gaussian, no threshold for hard
    sigma: float | None = None  # gaussian soft-NMS; None means 0.5
    max_nms_inputs: int = 0  # top-k (anchor, class) pairs; 0: the best class of each anchor
    max_output_size: int = 100


@dataclass
class Config:
    """Hyper-parameters of one run. Boxes of the data never pass through here."""

    # Model.
    name: str = "efficientdet-d1"
    backbone_name: str = "efficientnet-b1"
    image_size: int | str = 640  # "1280x384" is width x height
    num_classes: int = 90
    act_type: Literal["swish", "relu6"] = "swish"
    min_level: int = 3
    max_level: int = 7
    fpn_num_filters: int = 88
    fpn_cell_repeats: int = 4
    fpn_weight_method: Literal["fastattn", "sum"] = "fastattn"
    box_class_repeats: int = 3
    survival_prob: float | None = None  # None: 0.8 in the backbone (B0: 1), heads without residual
    mean_rgb: tuple[float, float, float] = IMAGENET_MEAN  # pixels, 0..255
    stddev_rgb: tuple[float, float, float] = IMAGENET_STD

    # Anchors. An aspect ratio is width/height r (x factor sqrt(r)) or a pair of x, y factors.
    num_scales: int = 3
    aspect_ratios: list[float | tuple[float, float]] = field(
        default_factory=lambda: [1.0, 2.0, 0.5]
    )
    anchor_scale: float | list[float] = 4.0  # one, or one a level

    # Input.
    input_rand_hflip: bool = True
    jitter_min: float = 0.1
    jitter_max: float = 2.0
    max_instances_per_image: int = 100  # objects; an image with more is refused
    skip_crowd_during_training: bool = True  # False: crowd boxes that have a class are objects
    # Ours; every one is off by default.
    crop_prob: float = 0.0  # random crop that keeps small objects whole
    photometric: float = 0.0  # strength 0..1 of brightness, contrast, colour, blur, JPEG
    mosaic_prob: float = 0.0
    mosaic_close_epochs: int = 10  # so many epochs before num_epochs mosaic ends
    copy_paste_prob: float = 0.0
    copy_paste_classes: list[str] = field(default_factory=lambda: ["Pedestrian", "Cyclist"])
    repeat_threshold: float = 0.0  # t of the repeat factor max(1, sqrt(t / f)); 0: off
    repeat_classes: list[str] = field(default_factory=lambda: ["Pedestrian", "Cyclist"])

    # Loss.
    alpha: float = 0.25
    gamma: float = 1.5
    label_smoothing: float = 0.0
    delta: float = 0.1
    box_loss_weight: float = 50.0
    iou_loss_type: Literal["iou", "giou", "diou", "ciou"] | None = None
    iou_loss_weight: float = 1.0
    weight_decay: float = 4e-5
    positives_momentum: float | None = None
    # Ours.
    ignore_regions: bool = True  # would-be negatives inside a crowd box are neither
    ignore_overlap: float = 0.5  # intersection over the anchor's own area
    class_weights: list[float] | None = None  # one a class id, in the focal loss
    class_prior: float | list[float] = 0.01  # initial probability of the class head

    # Optimisation.
    optimizer: Literal["sgd", "adam"] = "sgd"
    momentum: float = 0.9
    learning_rate: float = 0.08  # at an effective batch of 64; scaled by batch / 64
    lr_warmup_init: float = 0.008
    lr_warmup_epoch: float = 1.0
    lr_decay_method: Literal["cosine", "stepwise", "polynomial", "constant", "cosine_restarts"] = (
        "cosine"
    )
    first_lr_drop_epoch: float = 200.0
    second_lr_drop_epoch: float = 250.0
    poly_lr_power: float = 0.9
    restart_epochs: float = 10.0  # first period of cosine_restarts; each next one is twice as long
    clip_gradients_norm: float = 10.0
    num_epochs: int = 300
    moving_average_decay: float = 0.9998
    is_training_bn: bool | None = None  # None: decided once at the start of a run
    batch_norm_momentum: float = 0.99  # a run of a few hundred steps needs 0.9
    var_freeze_expr: str | None = None
    # Ours.
    backbone_lr_scale: float = 1.0
    heads_only_epochs: int = 0  # train the heads alone first, then everything
    early_stopping_epochs: int = 0  # stop after so many evaluations without a better best_metric
    seed: int = 0

    # Memory.
    mixed_precision: bool = False
    loss_scale: float | None = None
    grad_checkpoint: bool = False
    grad_accum_steps: int = 1

    # Evaluation.
    nms_configs: NmsConfig = field(default_factory=NmsConfig)

    def __post_init__(self) -> None:
        parse_image_size(self.image_size)
        for name in ("num_classes", "num_scales", "grad_accum_steps", "max_instances_per_image"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}={getattr(self, name)}: expected at least 1")

    @property
    def image_hw(self) -> tuple[int, int]:
        """Input size as (height, width) in pixels."""
        return parse_image_size(self.image_size)

    @property
    def num_anchors(self) -> int:
        """Anchors at each position of a feature map."""
        return self.num_scales * len(self.aspect_ratios)

    @property
    def levels(self) -> range:
        """Pyramid levels P_l; level l has stride 2**l."""
        return range(self.min_level, self.max_level + 1)

    @classmethod
    def for_model(cls, name: str) -> "Config":
        """The configuration of one model of the table `MODELS`."""
        if name not in MODELS:
            raise UsageError(f"unknown model {name!r}{nearest(name, MODELS)}")
        return cls(name=name, **MODELS[name])

    def override(self, values: Mapping[str, Any]) -> "Config":
        """A copy with `values` (keys may be dotted or nested) in place, checked and converted.

        Raises:
            UsageError: an unknown key (names the nearest) or a value of the wrong type.
        """
        return _override(self, flatten(values))

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, as they stand in config.yaml."""
        return _plain(dataclasses.asdict(self))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes YAML that `load_yaml` and `override` read back."""
        with atomic_open(path) as file:
            yaml.safe_dump(self.to_dict(), file, sort_keys=False)


def _model(size: int, backbone: str, filters: int, cells: int, repeats: int, **other: Any) -> dict:
    return {
        "image_size": size,
        "backbone_name": f"efficientnet-{backbone}",
        "fpn_num_filters": filters,
        "fpn_cell_repeats": cells,
        "box_class_repeats": repeats,
        **other,
    }


_LITE: dict[str, Any] = {
    "act_type": "relu6",
    "fpn_weight_method": "sum",
    "mean_rgb": (127.0, 127.0, 127.0),
    "stddev_rgb": (128.0, 128.0, 128.0),
}
_SUM: dict[str, Any] = {"fpn_weight_method": "sum"}  # D6 and up: stable in training

# EfficientDet, table 1; lite models as published with google/automl.
MODELS: dict[str, dict[str, Any]] = {
    "efficientdet-d0": _model(512, "b0", 64, 3, 3),
    "efficientdet-d1": _model(640, "b1", 88, 4, 3),
    "efficientdet-d2": _model(768, "b2", 112, 5, 3),
    "efficientdet-d3": _model(896, "b3", 160, 6, 4),
    "efficientdet-d4": _model(1024, "b4", 224, 7, 4),
    "efficientdet-d5": _model(1280, "b5", 288, 7, 4),
    "efficientdet-d6": _model(1280, "b6", 384, 8, 5, **_SUM),
    "efficientdet-d7": _model(1536, "b6", 384, 8, 5, anchor_scale=5.0, **_SUM),
    "efficientdet-d7x": _model(1536, "b7", 384, 8, 5, max_level=8, **_SUM),
    "efficientdet-lite0": _model(320, "lite0", 64, 3, 3, anchor_scale=3.0, **_LITE),
    "efficientdet-lite1": _model(384, "lite1", 88, 4, 3, anchor_scale=3.0, **_LITE),
    "efficientdet-lite2": _model(448, "lite2", 112, 5, 3, anchor_scale=3.0, **_LITE),
    "efficientdet-lite3": _model(512, "lite3", 160, 6, 4, **_LITE),
    "efficientdet-lite3x": _model(640, "lite3", 200, 6, 4, anchor_scale=3.0, **_LITE),
    "efficientdet-lite4": _model(640, "lite4", 224, 7, 4, **_LITE),
}


def parse_image_size(value: int | str) -> tuple[int, int]:
    """(height, width) of `512`, `"512"` or `"1280x384"` (width x height, as AutoML reads it).

    Raises:
        UsageError: no such form, or a side that is not positive.
    """
    match = re.fullmatch(r"(\d+)(?:[xX](\d+))?", str(value).strip())
    if not match or 0 in (sides := [int(side) for side in match.groups() if side]):
        raise UsageError(
            f"image_size={value!r}: expected pixels, `512` or `1280x384` (width x height)"
        )
    return sides[-1], sides[0]


def parse_hparams(text: str) -> dict[str, Any]:
    """Reads `--hparams`: `k=v` pairs, dotted keys, YAML paths, or both, separated by commas.

    Later entries win. `1.0*2.0*0.5` is a list; `true`/`false` and Python literals are recognised.
    """
    values: dict[str, Any] = {}
    for entry in _entries(text):
        key, equals, value = entry.partition("=")
        if equals:
            values[key.strip()] = _parse_value(value.strip())
        elif entry.endswith((".yaml", ".yml")):
            values |= load_yaml(entry)
        else:
            raise UsageError(f"--hparams: {entry!r} is neither key=value nor a .yaml file")
    return values


def load_yaml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The flat, dotted key -> value mapping of a YAML file."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{path}: {error.strerror}; expected a YAML file of hyper-parameters"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UsageError(f"{path}: expected `key: value` lines, found a {type(content).__name__}")
    return flatten(content)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, the keys joined by dots."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def nearest(word: str, choices: typing.Iterable[str]) -> str:
    """`; did you mean 'x'?`, or all choices when none is near."""
    choices = list(choices)
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(choices)}"


def _entries(text: str) -> Iterator[str]:
    """The parts between commas, but for the commas within brackets."""
    entry = ""
    for part in text.split(","):
        entry = f"{entry},{part}" if entry else part.strip()
        if sum(map(entry.count, "([{")) <= sum(map(entry.count, ")]}")):
            if entry:
                yield entry.strip()
            entry = ""
    if entry:
        raise UsageError(f"--hparams: {entry!r} opens a bracket and does not close it")


def _parse_value(text: str) -> Any:
    """A literal, a list of literals between `*`, else (names, regular expressions) the text."""
    parts = [_parse_literal(part.strip()) for part in text.split("*")]
    if len(parts) > 1 and not any(part is None or isinstance(part, str) for part in parts):
        return parts
    return _parse_literal(text)


def _parse_literal(text: str) -> Any:
    lowered = text.lower()
    if lowered in ("true", "false"):
        return lowered == "true"
    if lowered in ("none", "null", ""):
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text


def _override(target: Any, flat: Mapping[str, Any], prefix: str = "") -> Any:
    hints = typing.get_type_hints(type(target))
    changes: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    for key, value in flat.items():
        head, _, rest = key.partition(".")
        if head not in hints or (rest and not dataclasses.is_dataclass(hints[head])):
            raise UsageError(f"unknown hyper-parameter {prefix + key!r}{nearest(head, hints)}")
        if rest:
            nested.setdefault(head, {})[rest] = value
        else:
            changes[head] = _convert(value, hints[head], prefix + head)
    for head, inner in nested.items():
        changes[head] = _override(getattr(target, head), inner, f"{prefix}{head}.")
    return dataclasses.replace(target, **changes)


def _convert(value: Any, hint: Any, key: str) -> Any:
    """`value` as the annotated type, or a UsageError that quotes both."""
    converted = _try_convert(value, hint)
    if converted is _FAILED:
        expected = getattr(hint, "__name__", None) if isinstance(hint, type) else str(hint)
        expected = str(expected).replace("typing.", "").replace("NoneType", "None")
        raise UsageError(f"{key}={value!r}: expected {expected}")
    return converted


_FAILED = object()


def _try_convert(value: Any, hint: Any) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        results = (_try_convert(value, arg) for arg in args)
        return next((result for result in results if result is not _FAILED), _FAILED)
    if origin is Literal:
        return value if value in args else _FAILED
    if origin in (list, tuple):
        return _convert_sequence(value, origin, args)
    if hint is types.NoneType:
        return None if value is None else _FAILED
    if hint is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        try:  # a string: YAML reads 4e-5 as one
            number = float(value)
        except (ValueError, OverflowError):
            return _FAILED
        return number if math.isfinite(number) else _FAILED
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) and hint is not bool:
        return _FAILED
    return value if isinstance(value, hint) else _FAILED


def _convert_sequence(value: Any, origin: type, args: tuple[Any, ...]) -> Any:
    if not isinstance(value, list | tuple):
        # AutoML's lite models write one number for all three channels.
        if origin is tuple and isinstance(value, int | float):
            value = [value] * len(args)
        elif origin is list and isinstance(value, str | int | float):
            value = value.split("*") if isinstance(value, str) else [value]
        else:
            return _FAILED
    if origin is tuple and len(value) != len(args):
        return _FAILED
    hints = args if origin is tuple else args * len(value)
    converted = [_try_convert(item, hint) for item, hint in zip(value, hints, strict=True)]
    return _FAILED if any(item is _FAILED for item in converted) else origin(converted)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
