"""A command line typed from memory of google/automl: every name of it has its fate."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from efficientdet.automl_names import FLAGS, HPARAMS
from efficientdet.config import Config, flatten, parse_hparams
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UsageError, UserError
from efficientdet.run.directory import RunDirectory

# Flags of main.py and, where it has others, of tf2/train.py: of all versions.
AUTOML_FLAGS = """
    mode model_name model_dir hparams train_file_pattern training_file_pattern val_file_pattern
    validation_file_pattern val_json_file testdev_dir use_fake_data ckpt pretrained_ckpt
    backbone_ckpt resnet_checkpoint hub_module_url train_batch_size batch_size eval_batch_size
    eval_samples num_examples_per_epoch num_epochs save_checkpoints_steps iterations_per_loop
    steps_per_execution run_epoch_in_child_process tf_random_seed min_eval_interval eval_name
    eval_timeout eval_after_train eval_after_training strategy use_xla profile debug tpu use_tpu
    tpu_zone gcp_project master eval_master num_cores num_shards use_spatial_partition
    num_cores_per_replica input_partition_dims
""".split()  # noqa: SIM905

# hparams_config.py as it is now, with its defaults (a config.yaml of AutoML holds all of them).
AUTOML_CONFIG = {
    "name": "efficientdet-d0", "act_type": "swish", "image_size": 512, "target_size": None,
    "input_rand_hflip": True, "jitter_min": 0.1, "jitter_max": 2.0, "autoaugment_policy": None,
    "grid_mask": False, "sample_image": None, "map_freq": 5, "num_classes": 90,
    "seg_num_classes": 3, "heads": ["object_detection"], "skip_crowd_during_training": True,
    "label_map": None, "max_instances_per_image": 100, "regenerate_source_id": False,
    "min_level": 3, "max_level": 7, "num_scales": 3, "aspect_ratios": [1.0, 2.0, 0.5],
    "anchor_scale": 4.0, "is_training_bn": True, "momentum": 0.9, "optimizer": "sgd",
    "learning_rate": 0.08, "lr_warmup_init": 0.008, "lr_warmup_epoch": 1.0,
    "first_lr_drop_epoch": 200.0, "second_lr_drop_epoch": 250.0, "poly_lr_power": 0.9,
    "clip_gradients_norm": 10.0, "num_epochs": 300, "data_format": "channels_last",
    "mean_rgb": [123.675, 116.28, 103.53], "stddev_rgb": [58.395, 57.12, 57.375],
    "scale_range": False, "label_smoothing": 0.0, "alpha": 0.25, "gamma": 1.5, "delta": 0.1,
    "box_loss_weight": 50.0, "iou_loss_type": None, "iou_loss_weight": 1.0, "weight_decay": 4e-5,
    "strategy": None, "mixed_precision": False, "loss_scale": None, "model_optimizations": {},
    "box_class_repeats": 3, "fpn_cell_repeats": 3, "fpn_num_filters": 64, "separable_conv": True,
    "apply_bn_for_resampling": True, "conv_after_downsample": False, "conv_bn_act_pattern": False,
    "drop_remainder": True,
    "nms_configs": {
        "method": "gaussian", "iou_thresh": None, "score_thresh": 0.0, "sigma": None,
        "pyfunc": False, "max_nms_inputs": 0, "max_output_size": 100,
    },
    "tflite_max_detections": 100, "fpn_name": None, "fpn_weight_method": None, "fpn_config": None,
    "survival_prob": None, "img_summary_steps": None, "lr_decay_method": "cosine",
    "moving_average_decay": 0.9998, "ckpt_var_scope": None, "skip_mismatch": True,
    "backbone_name": "efficientnet-b0", "backbone_config": None, "var_freeze_expr": None,
    "use_keras_model": True, "dataset_type": None, "positives_momentum": None,
    "grad_checkpoint": False, "verbose": 1, "save_freq": "epoch",
}  # fmt: skip
# Of earlier versions.
AUTOML_WAS = """
    train_scale_min train_scale_max use_augmix augmix_params use_bfloat16 conv_bn_relu_pattern
    use_native_resize_op pooling_type resnet_depth var_exclude_expr each_epoch_in_separate_process
    device.grad_ckpting device.grad_ckpting_list device.nvgpu_logging
""".split()  # noqa: SIM905


def test_the_table_is_complete() -> None:
    assert sorted(FLAGS) == sorted(AUTOML_FLAGS)
    flat = flatten(AUTOML_CONFIG | {"model_optimizations": None})
    assert sorted(HPARAMS) == sorted([*flat, *AUTOML_WAS])


def test_every_name_is_honoured_or_says_why_not() -> None:
    fields = flatten(Config().to_dict())
    for name, rule in HPARAMS.items():
        assert rule.honoured == (not rule.why), name
        assert rule.honoured == ((rule.becomes or name) in fields), name
    for name, rule in FLAGS.items():
        assert rule.honoured == (not rule.why), name
        assert not (name in fields and name not in HPARAMS), name
    for rule in (*FLAGS.values(), *HPARAMS.values()):
        assert not (rule.structural and not rule.instead)
        assert "\n" not in rule.why + rule.instead and not rule.why.endswith(".")


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        ("train_scale_min=0.5,train_scale_max=1.5", {"jitter_min": 0.5, "jitter_max": 1.5}),
        ("device={'grad_ckpting': True}", {"grad_checkpoint": True}),
        ("fpn_weight_method=None,num_epochs=3", {"num_epochs": 3}),
        ("nms_configs.sigma=0.3", {"nms_configs.sigma": 0.3}),
    ],
)
def test_honoured(typed: str, values: dict, said) -> None:
    assert parse_hparams(typed) == values
    assert not said
    Config().override(values)


@pytest.mark.parametrize(
    "typed",
    [
        "drop_remainder=true", "data_format=channels_first", "label_map=coco", "skip_mismatch=true",
        "autoaugment_policy=None", "grid_mask=False", "ckpt_var_scope=x", "scale_range=False",
        "target_size=None", "nms_configs.pyfunc=True", "map_freq=5", "heads=['object_detection']",
    ],
)  # fmt: skip
def test_accepted_with_one_line(typed: str, said) -> None:
    assert parse_hparams(f"{typed},num_epochs=3") == {"num_epochs": 3}
    name, _, _ = typed.partition("=")
    assert len(said) == 1 and said[0].startswith(f"{name}=")
    assert " changes nothing here: " in said[0]


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (
            "autoaugment_policy=v0",
            "autoaugment_policy=v0: there is no AutoAugment; say pho",
        ),
        ("grid_mask=true", "there is no GridMask; say "),
        ("scale_range=true", "say mean_rgb=127.5,stddev_rgb=127.5"),
        ("target_size=512", "scale jitter_min and jitter_max"),
        ("separable_conv=false", "the network is built as it was published"),
        ("fpn_name=bifpn_sum", "say fpn_weight_method=fastattn or sum"),
        ("heads=['segmentation']", "there is no segmentation"),
        ("model_optimizations={'prune': {'final_sparsity': 0.5}}", "nothing is pruned"),
        ("strategy=gpus", "say --strategy=gpus"),
        ("train_batch_size=8", "train_batch_size=8: it is a flag, no hyper-parameter"),
    ],
)
def test_refused_with_what_to_do(typed: str, line: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_hparams(typed)
    assert line in str(caught.value) and "\n" not in str(caught.value)


def _write(path: Path, config: dict) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(config))  # JSON is YAML
    return path


def test_automl_s_config_yaml_as_hparams(tmp_path: Path, said) -> None:
    config = Config.for_model("efficientdet-d0")
    values = parse_hparams(str(_write(tmp_path / "a.yaml", AUTOML_CONFIG)))
    assert config.override(values) == config.override({"is_training_bn": True})
    assert not said
    classes = {"label_map": {1: "Car", 2: "Cyclist"}, "model_name": "efficientdet-d0"}
    values = parse_hparams(str(_write(tmp_path / "b.yaml", classes)))
    assert not values and [line.partition(" ")[0] for line in said] == [
        "label_map.1=Car", "model_name=efficientdet-d0",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="there is no GridMask"):
        parse_hparams(str(_write(tmp_path / "c.yaml", {"grid_mask": True})))


def test_automl_s_config_yaml_in_a_model_dir(tmp_path: Path, said) -> None:
    """How it was trained is past; what its network is, is not."""
    label_map = LabelMap((("Car",), ("Cyclist",)))
    run = RunDirectory(tmp_path / "run")
    _write(tmp_path / "run/config.yaml", AUTOML_CONFIG | {"autoaugment_policy": "v0", "x": 1})
    assert run.config(None, {}, label_map).name == "efficientdet-d0"
    (line,) = said
    assert line.startswith(f"{run.path}/config.yaml: not used here: ")
    assert line.endswith(", x") and "autoaugment_policy" in line and "nms_configs.pyfunc" in line
    _write(tmp_path / "run/config.yaml", AUTOML_CONFIG | {"separable_conv": False})
    with pytest.raises(UserError, match="config.yaml: separable_conv=False: the network is built"):
        run.config(None, {}, label_map)


# Parses the lists of flags of argv[1], checks them; prints [hyper-parameters, lines] of each.
DRIVER = """
import json, sys
from absl import flags
from listening import listening
from efficientdet import main
from absl.testing import flagsaver
ends = [[sorted(flags.FLAGS), sorted(f.name for f in flags.FLAGS.get_key_flags_for_module(main))]]
for words in json.loads(sys.argv[1]):
    said = []
    with flagsaver.flagsaver(), listening(said):
        rest = flags.FLAGS(["main.py", "--model_dir=run", "--mode=eval", *words])
        ends.append([main._check_flags(), said])
        assert flags.FLAGS.val_file_pattern == "a" and len(rest) == 1
print(json.dumps(ends))
"""
VAL = "--val_file_pattern=a"
TYPED = [  # flags, hyper-parameters, start of each line
    ([VAL, "--tf_random_seed=7", "--hparams=seed=3"], {"seed": 7}, []),
    (["--validation_file_pattern=a"], {}, []),
    ([VAL, "--use_tpu=False"], {}, ["--use_tpu=False changes nothing here: TPUs are not supp"]),
    ([VAL, "--nouse_xla"], {}, ["--use_xla=False changes nothing"]),
    (
        [VAL, "--iterations_per_loop=100", "--eval_timeout", "60", "--run_epoch_in_child_process"],
        {},
        ["--iterations_per_loop=100 ", "--run_epoch_in_child_process=True ", "--eval_timeout=60 "],
    ),
    (
        [VAL, "--profile=False", "--use_fake_data=False", "--val_json_file="],
        {},
        ["--val_json_file= ", "--use_fake_data=False ", "--profile=False "],
    ),
    ([VAL, "--strategy=", "--eval_samples=0"], {}, []),
    ([VAL, "--strategy=None"], {}, []),
    (
        [VAL, "--hparams=num_epochs=5,seed=1", "--hparams=", "--hparams=num_epochs=6"],
        {"num_epochs": 6, "seed": 1},
        [],
    ),
]


def test_flags_as_typed() -> None:
    words = json.dumps([words for words, *_ in TYPED])
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parent)])},
    )
    assert done.returncode == 0, done.stderr
    (defined, shown), *ends = json.loads(done.stdout)
    assert set(FLAGS) <= set(defined)
    assert {name for name in FLAGS if name in shown} == {
        name for name, rule in FLAGS.items() if rule.honoured and rule.becomes not in FLAGS
    }
    for (words, values, lines), (found, said) in zip(TYPED, ends, strict=True):
        assert found == values, words
        assert len(said) == len(lines), (words, said)
        assert all(a.startswith(b) for a, b in zip(said, lines, strict=True)), (words, said)
