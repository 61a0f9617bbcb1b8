"""One typed configuration: every hyper-parameter, the table of models, YAML and `k=v` overrides.

Names and default values are those of google/automl's EfficientDet, so that a command line typed
from memory keeps its meaning; what that one never had stands in sections of its own.
"""

import dataclasses
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from efficientdet import automl_names, hparam, hparam_text
from efficientdet.atomic import atomic_open
from efficientdet.config_files import find_yaml
from efficientdet.errors import UsageError, shown
from efficientdet.hparam import Range, hp, near_name
from efficientdet.yaml_file import read_yaml

EPOCHS = "[0, 1000000]"
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
MAX_ASPECT_RATIOS = 32


# A field: hp(default, what it does, where its numbers lie). docs/hparams.md is made from it.
@dataclass
class NmsConfig:
    """Post-processing: from decoded boxes to detections."""

    method: Literal["gaussian", "hard"] = hp(
        "gaussian", "soft NMS lowers scores, hard NMS strikes out"
    )
    iou_thresh: float | None = hp(None, "of hard NMS; None or 0: 0.5", "[0, 1]")
    score_thresh: float | None = hp(
        0.0, "least score; None or 0: 0.001 for gaussian, none for hard", "[0, 1)"
    )
    sigma: float | None = hp(None, "of gaussian; None or 0: 0.5", "[0, inf)")
    max_nms_inputs: int = hp(
        0,
        "so many best (anchor, class) pairs; 0: the best class of each anchor, 5000 in evaluation",
        "[0, 1000000000]",
    )
    max_output_size: int = hp(100, "detections of an image at most", "[1, 10000]")

    def __post_init__(self) -> None:
        hparam.check(self, "nms_configs.")


@dataclass
class Config:
    """Hyper-parameters of one run. Boxes of the data never pass through here."""

    # Model.
    name: str = hp("efficientdet-d1", "the model of the table, as --model_name")
    backbone_name: str = hp(
        "efficientnet-b1", "efficientnet-b0 ... b7, efficientnet-lite0 ... lite4"
    )
    image_size: int | str = hp(640, "a side in pixels, or 1280x384: width x height", "[16, 16384]")
    num_classes: int = hp(90, "classes; read from the records", "[1, 100000]")
    act_type: Literal["swish", "relu6"] = hp("swish", "activation function")
    min_level: int = hp(3, "finest level of the pyramid, of stride 2**level", "[1, 5]")
    max_level: int = hp(7, "coarsest level, above min_level", "[2, 12]")
    fpn_num_filters: int = hp(88, "channels of BiFPN and heads", "[1, 4096]")
    fpn_cell_repeats: int = hp(4, "BiFPN cells", "[1, 64]")
    fpn_weight_method: Literal["fastattn", "sum"] = hp(
        "fastattn", "weights of a BiFPN node's inputs"
    )
    box_class_repeats: int = hp(3, "convolutions of a head before its last", "[0, 64]")
    survival_prob: float | None = hp(
        None,
        "stochastic depth; None or 0: 0.8 in the backbone (B0: 1), heads without residual",
        "[0, 1]",
    )
    mean_rgb: tuple[float, float, float] = hp(
        IMAGENET_MEAN, "taken from pixels of 0..255", "[0, 255]"
    )
    stddev_rgb: tuple[float, float, float] = hp(
        IMAGENET_STD, "what they are divided by then", "[0.01, 1000]"
    )

    # Anchors.
    num_scales: int = hp(3, "octaves of an anchor at each position", "[1, 32]")
    aspect_ratios: list[float | tuple[float, float]] = hp(
        [1.0, 2.0, 0.5],
        "width/height r (x factor sqrt(r)), or a pair of x, y factors",
        "[0.01, 100]",
    )
    anchor_scale: float | list[float] = hp(
        4.0, "size of an anchor in strides: one, or one a level", "[0.01, 1000]"
    )

    # Input.
    input_rand_hflip: bool = hp(True, "mirror every other image, by chance")
    jitter_min: float = hp(0.1, "least random scale; 1: the image just fits", "[0.01, 10]")
    jitter_max: float = hp(2.0, "largest random scale, at least jitter_min", "[0.01, 10]")
    max_instances_per_image: int = hp(100, "objects; an image with more is refused", "[1, 10000]")
    skip_crowd_during_training: bool = hp(True, "False: crowd boxes that have a class are objects")
    # Ours; every one is off by default.
    crop_prob: float = hp(0.0, "share of random crops that keep small objects whole", "[0, 1]")
    photometric: float = hp(0.0, "strength of brightness, contrast, colour, blur, JPEG", "[0, 1]")
    mosaic_prob: float = hp(0.0, "share of images made of four", "[0, 1]")
    mosaic_close_epochs: int = hp(10, "the last so many of num_epochs are without mosaic", EPOCHS)
    copy_paste_prob: float = hp(0.0, "share of images with an object of another one", "[0, 1]")
    copy_paste_classes: list[str] = hp(["Pedestrian", "Cyclist"], "of these classes")
    repeat_threshold: float = hp(
        0.0, "t of the repeat factor max(1, sqrt(t / f)), f the share of images; 0: off", "[0, 1]"
    )
    repeat_classes: list[str] = hp(["Pedestrian", "Cyclist"], "classes whose images are repeated")

    # Loss.
    alpha: float = hp(0.25, "focal loss: weight of an object, background 1 - alpha", "[0, 1]")
    gamma: float = hp(1.5, "focal loss: how little easy anchors count", "[0, inf)")
    label_smoothing: float = hp(0.0, "share of a class label spread evenly", "[0, 1)")
    delta: float = hp(0.1, "Huber loss: where it turns from square to linear", "(0, inf)")
    box_loss_weight: float = hp(50.0, "of the Huber loss; 0: off", "[0, inf)")
    iou_loss_type: Literal["iou", "giou", "diou", "ciou"] | None = hp(
        None, "another box loss; None: off"
    )
    iou_loss_weight: float = hp(1.0, "of that loss", "[0, inf)")
    weight_decay: float = hp(4e-5, "L2 of kernels, half of it times the sum of squares", "[0, inf)")
    positives_momentum: float | None = hp(
        None, "average over steps of the number of positives; None or 0: off", "[0, 1)"
    )
    # Ours.
    ignore_regions: bool = hp(True, "would-be negatives inside a crowd box are neither")
    ignore_overlap: float = hp(0.5, "intersection over the anchor's own area for that", "[0, 1]")
    class_weights: list[float] | None = hp(
        None, "one a class id, in the focal loss; None: all 1", "[0, inf)"
    )
    class_prior: float | list[float] = hp(
        0.01, "initial probability of the class head: one, or one a class id", "(0, 1)"
    )

    # Optimisation.
    optimizer: Literal["sgd", "adam"] = hp("sgd", "adam has betas 0.9 and 0.999")
    momentum: float = hp(0.9, "of sgd", "[0, 1)")
    learning_rate: float = hp(0.08, "at an effective batch of 64; scaled by batch / 64", "[0, inf)")
    lr_warmup_init: float = hp(0.008, "learning rate of the first step, likewise", "[0, inf)")
    lr_warmup_epoch: float = hp(1.0, "epochs of linear warm-up; 0: none", EPOCHS)
    lr_decay_method: Literal["cosine", "stepwise", "polynomial", "constant", "cosine_restarts"] = (
        hp("cosine", "what the learning rate does after the warm-up")
    )
    first_lr_drop_epoch: float = hp(200.0, "stepwise: to a tenth", EPOCHS)
    second_lr_drop_epoch: float = hp(
        250.0, "stepwise: to a hundredth; not before the first", EPOCHS
    )
    poly_lr_power: float = hp(0.9, "polynomial: exponent of the rest of the run", "[0, inf)")
    restart_epochs: float = hp(
        10.0, "first period of cosine_restarts; each next one is twice as long", "[0.001, 1000000]"
    )
    clip_gradients_norm: float = hp(10.0, "largest norm of the gradients; 0: no limit", "[0, inf)")
    num_epochs: int = hp(300, "epochs of the whole run", EPOCHS)
    moving_average_decay: float = hp(0.9998, "of the averaged weights; 0: no average", "[0, 1)")
    is_training_bn: bool | None = hp(None, "BatchNorm learns; None: decided at the start of a run")
    batch_norm_momentum: float = hp(
        0.99, "of its moving statistics; a run of a few hundred steps needs 0.9", "[0, 1)"
    )
    var_freeze_expr: str | None = hp(
        None, "regular expression; variables whose name begins so are not trained"
    )
    # Ours.
    backbone_lr_scale: float = hp(1.0, "factor on the backbone's learning rate", "[0, inf)")
    heads_only_epochs: int = hp(0, "train the heads alone first, then everything", EPOCHS)
    best_metric: str = hp(
        "AP", "by which the best checkpoint is kept; of a val_... loss, the least"
    )
    early_stopping_epochs: int = hp(
        0, "stop after so many evaluations without a better best_metric; 0: off", EPOCHS
    )
    seed: int = hp(0, "of weights, order and augmentation", "[0, 4294967295]")

    # Memory.
    mixed_precision: bool = hp(False, "half precision, on a GPU")
    loss_scale: float | None = hp(None, "of float16; None or 0: finds its own", "[0, inf)")
    grad_checkpoint: bool = hp(False, "compute activations twice instead of keeping them")
    grad_accum_steps: int = hp(1, "micro-batches that a batch is cut into", "[1, 4096]")

    # Speed.
    uint8_images: bool = hp(
        False, "training images go to the device as bytes, rounded to whole grey levels"
    )
    fetch_steps: int | None = hp(
        None,
        "steps whose losses are fetched at once, while the next one runs; 0: after each; "
        "None: 1, on a CPU with TensorFlow 0",
        "[0, 1000]",
    )

    # Evaluation.
    nms_configs: NmsConfig = hp(NmsConfig, "post-processing")

    def __post_init__(self) -> None:
        hparam.check(self)
        _check_together(self)

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
            raise UsageError(f"unknown model {name!r}{near_name(name, MODELS)}")
        return cls(name=name, **MODELS[name])

    def override(self, values: Mapping[str, Any]) -> "Config":
        """A copy with `values` (keys may be dotted or nested) in place, checked and converted.

        Raises:
            UsageError: an unknown key (names the nearest); a value of a wrong type or out of range.
        """
        return hparam.override(self, flatten(values))

    def check_classes(self) -> None:
        """Raises UsageError unless each list by class has one number for each of `num_classes`."""
        for name in ("class_weights", "class_prior"):
            values = getattr(self, name)
            if isinstance(values, list) and len(values) != self.num_classes:
                raise UsageError(
                    f"{name}={shown(values)}: {len(values)} values, expected one for each of the "
                    f"{self.num_classes} classes"
                )

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, as they stand in config.yaml."""
        return _plain(dataclasses.asdict(self))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes YAML that `load_yaml` and `override` read back."""
        with atomic_open(path) as file:
            yaml.safe_dump(self.to_dict(), file, sort_keys=False, allow_unicode=True)


def _check_together(config: Config) -> None:
    """What one field alone does not tell, but for `check_classes`: records say how many.

    Raises:
        UsageError: fields contradict each other; an image size, list, name or pattern is none.
    """
    if config.name not in MODELS:
        raise UsageError(
            f"name={shown(config.name)}: no such model{near_name(config.name, MODELS)}"
        )
    sides = _field_range("image_size")
    if not all(side in sides for side in config.image_hw):
        raise UsageError(f"image_size={config.image_size}: expected sides in {sides}")
    if config.min_level >= config.max_level:
        values = f"min_level={config.min_level}, max_level={config.max_level}"
        raise UsageError(f"{values}: expected two levels at least, min_level < max_level")
    ordered = [("jitter_min", "jitter_max")]
    if config.lr_decay_method == "stepwise":
        ordered.append(("first_lr_drop_epoch", "second_lr_drop_epoch"))
    for low, high in ordered:
        if getattr(config, low) > getattr(config, high):
            values = f"{low}={getattr(config, low)}, {high}={getattr(config, high)}"
            raise UsageError(f"{values}: expected {low} <= {high}")
    if not 1 <= (count := len(config.aspect_ratios)) <= MAX_ASPECT_RATIOS:
        raise UsageError(f"aspect_ratios: {count} values, expected 1 to {MAX_ASPECT_RATIOS}")
    scales, levels = config.anchor_scale, config.levels
    if isinstance(scales, list) and len(scales) != len(levels):
        raise UsageError(
            f"anchor_scale={shown(scales)}: {len(scales)} values, expected one, or one for each of "
            f"the {len(levels)} levels {config.min_level}..{config.max_level}"
        )
    try:
        re.compile(config.var_freeze_expr or "")
    except (re.error, OverflowError, RecursionError) as error:
        pattern = shown(config.var_freeze_expr)
        raise UsageError(f"var_freeze_expr={pattern} is no regular expression: {error}") from None


def _field_range(name: str) -> Range:
    return Config.__dataclass_fields__[name].metadata["within"]


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
    match = re.fullmatch(r"([0-9]{1,9})(?:[xX]([0-9]{1,9}))?", str(value).strip())
    if not match or 0 in (sides := [int(side) for side in match.groups() if side]):
        raise UsageError(
            f"image_size={shown(value)}: expected pixels, `512` or `1280x384` (width x height)"
        )
    return sides[-1], sides[0]


def parse_hparams(texts: str | Iterable[str]) -> dict[str, Any]:
    """Reads `--hparams`: `k=v` pairs, dotted keys, YAML paths, or both, separated by commas.

    Later entries win. `1.0*2.0*0.5` is a list; `true`/`false` and Python literals are recognised.
    AutoML's other names are told of in the log, or refused: see `automl_names`.
    """
    values: dict[str, Any] = {}
    for entry in (
        e for t in ([texts] if isinstance(texts, str) else texts) for e in hparam_text.entries(t)
    ):
        key, equals, value = entry.partition("=")
        if equals:
            given = flatten({key.strip(): hparam_text.value_of(value.strip())})
        elif entry.endswith((".yaml", ".yml")):
            given = load_yaml(find_yaml(entry))
        else:
            raise UsageError(f"--hparams: {shown(entry)} is neither key=value nor a .yaml file")
        values |= automl_names.honour(given, typed=bool(equals))
    return values


def load_yaml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The flat, dotted key -> value mapping of a YAML file."""
    content = read_yaml(path, "a YAML file of hyper-parameters")
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


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
