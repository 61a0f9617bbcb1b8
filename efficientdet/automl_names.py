"""Every flag and hyper-parameter of google/automl's EfficientDet, and what becomes of it here.

Whoever types that program's command line from memory is met: a name is honoured, or accepted with
one line that says why it does nothing here, or refused with what to do instead. The names are those
of its main.py and hparams_config.py over all their versions, and of the flags of tf2/train.py.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from absl import flags

from efficientdet.errors import UsageError, said

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rule:
    """What becomes of one name.

    Attributes:
        honoured: it means here what it meant there.
        becomes: the name here that takes its value; empty: its own.
        why: why it does nothing here.
        instead: what to do where a value is refused; empty: no value is.
        off: values, besides None and "", that ask for nothing. Of an honoured name: values that
            stand for its default.
        structural: any other value would be another network.
    """

    honoured: bool = False
    becomes: str = ""
    why: str = ""
    instead: str = ""
    off: tuple[Any, ...] = ()
    structural: bool = False

    def asks(self, value: Any) -> bool:
        """Whether `value` wants something that is not done anyway."""
        return value not in (None, "", {}, *self.off)

    def check(self, name: str, value: Any) -> None:
        """Raises UsageError if `value` is refused."""
        if self.instead and self.asks(value):
            raise UsageError(f"{said(name)}={said(value)}: {self.why}; {self.instead}")


@dataclass(frozen=True)
class Unused:
    """A value that changes nothing here."""

    key: str
    value: Any
    rule: Rule

    def line(self) -> str:
        """One line for the user."""
        given = f"{said(self.key)}={said(self.value)}"
        return f"{given} changes nothing here: {self.rule.why}"


def _told(why: str, *off: Any) -> Rule:
    return Rule(why=why, off=off)


def _refused(why: str, *off: Any, instead: str = "leave it out") -> Rule:
    return Rule(why=why, instead=instead, off=off)


def _another_network(*off: Any, instead: str = "leave it out") -> Rule:
    return Rule(
        why="the network is built as it was published", instead=instead, off=off, structural=True
    )


def _called(name: str) -> Rule:
    return Rule(why="it has another name here", instead=f"say {name}")


_SAME = Rule(honoured=True)
_DEFAULT = Rule(honoured=True, off=(None,))  # null stands for the model's own
_FLAG = Rule(
    why="it is a flag, no hyper-parameter", instead="write it with -- outside of --hparams"
)
_NO_TPU = "TPUs are not supported, it computes on GPU or CPU"
_TPU = _refused(_NO_TPU)
_AUGMENT = "say photometric, crop_prob, mosaic_prob or copy_paste_prob"
_LOGS = "metrics.jsonl and TensorBoard have the figures of the run"

FLAGS: dict[str, Rule] = {
    # What and where.
    "mode": _SAME,
    "model_name": _SAME,
    "model_dir": _SAME,
    "hparams": _SAME,
    "train_file_pattern": _SAME,
    "training_file_pattern": Rule(honoured=True, becomes="train_file_pattern"),
    "val_file_pattern": _SAME,
    "validation_file_pattern": Rule(honoured=True, becomes="val_file_pattern"),
    "val_json_file": _refused("the ground truth stands in the records, with KITTI's own regions"),
    "testdev_dir": _refused(
        "COCO's test-dev is not evaluated",
        instead="efficientdet/predict.py writes detections.json for any images",
    ),
    "use_fake_data": _refused(
        "no input is made up while training",
        False,
        instead="make records of a made-up street: python -m efficientdet.commands.synthetic",
    ),
    # Weights.
    "ckpt": _SAME,
    "pretrained_ckpt": _called("--ckpt"),
    "backbone_ckpt": _SAME,
    "resnet_checkpoint": _called("--backbone_ckpt"),
    "hub_module_url": _refused("TF-Hub modules are not read", instead="say --ckpt"),
    # How much.
    "train_batch_size": _SAME,
    "batch_size": _called("--train_batch_size"),
    "eval_batch_size": _SAME,
    "eval_samples": _SAME,
    "num_examples_per_epoch": _SAME,
    "num_epochs": _SAME,
    "save_checkpoints_steps": _SAME,
    "iterations_per_loop": _told(f"every step is one call; {_LOGS}"),
    "steps_per_execution": _told(f"every step is one call; {_LOGS}"),
    "run_epoch_in_child_process": _told("one process trains all epochs", False),
    "tf_random_seed": Rule(honoured=True, becomes="seed"),
    # Evaluation.
    "min_eval_interval": _SAME,
    "eval_name": _told("results go to eval/ in the model_dir"),
    "eval_timeout": _told("--mode=eval evaluates once; with --watch, until Ctrl-C"),
    "eval_after_train": _refused(
        "--mode=train does not evaluate", False, instead="say --mode=train_and_eval"
    ),
    "eval_after_training": _refused(
        "--mode=train does not evaluate", False, instead="say --mode=train_and_eval"
    ),
    # Devices.
    "strategy": _SAME,
    "use_xla": _told("XLA compiles the step on a GPU, and on a CPU it would slow it down", False),
    "profile": _refused("nothing is profiled", False, instead=f"leave it out: {_LOGS}"),
    "debug": _refused("there is no debug mode", False),
    "tpu": _TPU,
    "use_tpu": _refused(_NO_TPU, False),
    "tpu_zone": _TPU,
    "gcp_project": _TPU,
    "master": _TPU,
    "eval_master": _TPU,
    "num_cores": _told(f"it counts TPU cores; {_NO_TPU}"),
    "num_shards": _told(f"it counts TPU cores; {_NO_TPU}"),
    "use_spatial_partition": _refused(
        f"it spreads an image over TPU cores; {_NO_TPU}",
        False,
        instead="an image too large for the memory: grad_checkpoint=true or a smaller image_size",
    ),
    "num_cores_per_replica": _told(f"it counts TPU cores; {_NO_TPU}"),
    "input_partition_dims": _told(f"it spreads an image over TPU cores; {_NO_TPU}"),
}

HPARAMS: dict[str, Rule] = {
    # Model.
    **dict.fromkeys(
        (
            "name", "act_type", "backbone_name", "min_level", "max_level", "num_scales",
            "aspect_ratios", "anchor_scale", "box_class_repeats", "fpn_cell_repeats",
            "fpn_num_filters", "num_classes", "survival_prob", "is_training_bn",
        ),
        _SAME,
    ),
    "fpn_weight_method": _DEFAULT,
    "fpn_name": _another_network(instead="say fpn_weight_method=fastattn or sum"),
    "fpn_config": _another_network(),
    "backbone_config": _another_network(),
    "separable_conv": _another_network(True),
    "apply_bn_for_resampling": _another_network(True),
    "conv_after_downsample": _another_network(False),
    "conv_bn_act_pattern": _another_network(False),
    "conv_bn_relu_pattern": _another_network(False),
    "use_native_resize_op": _told("it chose between two ways to the same numbers", False),
    "pooling_type": _another_network("max"),
    "model_optimizations": _refused("nothing is pruned or quantised in training"),
    "heads": _refused("there is no segmentation", ["object_detection"], "object_detection"),
    "seg_num_classes": _told("there is no segmentation", 3),
    "resnet_depth": _told("the backbone is an EfficientNet, see backbone_name", 50),
    "use_keras_model": _told("there is one model, in Keras", True),
    "data_format": _told("the backend chooses it, no number depends on it", "channels_last"),
    # Input.
    **dict.fromkeys(
        (
            "image_size", "input_rand_hflip", "jitter_min", "jitter_max", "mean_rgb", "stddev_rgb",
            "max_instances_per_image", "skip_crowd_during_training",
        ),
        _SAME,
    ),
    "train_scale_min": Rule(honoured=True, becomes="jitter_min"),
    "train_scale_max": Rule(honoured=True, becomes="jitter_max"),
    "target_size": _refused(
        "jitter is relative to image_size", instead="scale jitter_min and jitter_max"
    ),
    "scale_range": _refused(
        "pixels become (x - mean_rgb) / stddev_rgb and nothing else",
        False,
        instead="say mean_rgb=127.5,stddev_rgb=127.5 for inputs from -1 to 1",
    ),
    "autoaugment_policy": _refused("there is no AutoAugment", instead=_AUGMENT),
    "grid_mask": _refused("there is no GridMask", False, instead=_AUGMENT),
    "use_augmix": _refused("there is no AugMix", False, instead=_AUGMENT),
    "augmix_params": _told("there is no AugMix", (3, -1, 1), [3, -1, 1]),
    "sample_image": _told("efficientdet/predict.py takes any images"),
    "label_map": _told("names come with the records: label_map.txt, or --label_map_path"),
    "dataset_type": _told("records of any data set are read by their field names"),
    "regenerate_source_id": _told("images are known by their place in the records", False),
    # Loss and optimisation.
    **dict.fromkeys(
        (
            "alpha", "gamma", "label_smoothing", "delta", "box_loss_weight", "iou_loss_type",
            "iou_loss_weight", "weight_decay", "positives_momentum", "optimizer", "momentum",
            "learning_rate", "lr_warmup_init", "lr_warmup_epoch", "lr_decay_method",
            "first_lr_drop_epoch", "second_lr_drop_epoch", "poly_lr_power", "clip_gradients_norm",
            "num_epochs", "moving_average_decay", "var_freeze_expr", "mixed_precision",
            "loss_scale", "grad_checkpoint",
        ),
        _SAME,
    ),
    "use_bfloat16": _told("it was for TPUs; mixed_precision=true is for GPUs", True, False),
    "strategy": _refused("it is a flag here", instead="say --strategy=gpus"),
    "device.grad_ckpting": Rule(honoured=True, becomes="grad_checkpoint"),
    "device.grad_ckpting_list": _told("grad_checkpoint keeps what blocks give", ["Add_", "AddN"]),
    "device.nvgpu_logging": _told("nvidia-smi tells the memory in use", False),
    "each_epoch_in_separate_process": _told("one process trains all epochs", False),
    # Weights.
    "ckpt_var_scope": _told("variables are found by the names that they have in the checkpoint"),
    "skip_mismatch": _told("what does not fit starts anew, and a table names it", True),
    "var_exclude_expr": _told(
        "rows of the class head are chosen by name, see --ckpt_classes", ".*/class-predict/.*"
    ),
    # Evaluation and logs.
    **dict.fromkeys(
        (
            f"nms_configs.{name}"
            for name in (
                "method", "iou_thresh", "score_thresh", "sigma", "max_nms_inputs",
                "max_output_size",
            )
        ),
        _SAME,
    ),
    "nms_configs.pyfunc": _told("NMS runs on the device, the numbers are the same", False),
    "tflite_max_detections": _told("nms_configs.max_output_size is for every use", 100),
    "drop_remainder": _told("every image is evaluated, however they fill the batches", True, False),
    "map_freq": _told("--mode=train_and_eval evaluates after every epoch", 1, 5),
    "img_summary_steps": _told("pictures go to TensorBoard with every evaluation"),
    "save_freq": _told("--save_checkpoints_steps says when", "epoch"),
    "verbose": _told("the progress bar shows itself on a terminal only", 1),
}  # fmt: skip


def define_flags() -> None:
    """Defines the flags that are not honoured, and the other names of some that are.

    They belong to this module: `--help` of a command leaves them out, `--helpfull` has them.
    """
    for name, rule in FLAGS.items():
        if rule.honoured:
            if rule.becomes in FLAGS:
                flags.DEFINE_alias(name, rule.becomes)
        elif any(isinstance(value, bool) for value in rule.off):
            flags.DEFINE_bool(name, None, f"AutoML's: {rule.why}.")
        else:
            flags.DEFINE_string(name, None, f"AutoML's: {rule.why}.")


def check_flags(values: flags.FlagValues) -> None:
    """Tells of each flag that was given and does nothing here.

    Raises:
        UsageError: it asks for what is not here.
    """
    for name, rule in FLAGS.items():
        if not rule.honoured and values[name].value is not None:
            rule.check(f"--{name}", values[name].value)
            logger.info(Unused(f"--{name}", values[name].value, rule).line())


def sort_out(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[Unused]]:
    """Hyper-parameters under their names here, and those that AutoML alone has.

    Args:
        values: by dotted key. A key that AutoML does not have is kept as it is.
    """
    kept: dict[str, Any] = {}
    unused = []
    for key, value in values.items():
        rule = HPARAMS.get(key) or HPARAMS.get(key.partition(".")[0], _SAME)
        if key in FLAGS and key not in HPARAMS:
            unused.append(Unused(key, value, _FLAG))
        elif not rule.honoured:
            unused.append(Unused(key, value, rule))
        elif not rule.off or value not in rule.off:
            kept[rule.becomes or key] = value
    return kept, unused


def honour(values: Mapping[str, Any], *, typed: bool) -> dict[str, Any]:
    """Hyper-parameters as they are named here; one line for each that changes nothing.

    Args:
        values: by dotted key.
        typed: as `key=value`. In a file, most likely written by a program, values that ask for
            nothing are passed over in silence.

    Raises:
        UsageError: one asks for what is not here.
    """
    kept, unused = sort_out(values)
    told = []
    for one in unused:
        if typed or one.rule is not _FLAG:  # AutoML's own files hold some of its flags
            one.rule.check(one.key, one.value)
        if (typed or one.rule.asks(one.value)) and one.rule not in told:
            logger.info(one.line())
            told.append(one.rule)  # label_map has a key for each class
    return kept
