"""Tiny runs of both kinds of network, trained for a few steps."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from efficientdet.checkpoint.identity import Identity
from efficientdet.config import Config
from efficientdet.dataset.label_map import LabelMap
from efficientdet.inference.export_info import ExportInfo
from efficientdet.model.efficientnet import SCALING
from efficientdet.run.checkpoints import CheckpointManager, Progress
from efficientdet.run.directory import RunDirectory
from efficientdet.training.engine import TrainingEngine

NAMES = LabelMap((("Car",), ("Pedestrian",), ("Cyclist",)))
HEIGHT, WIDTH = 64, 128
TINY_LITE = "efficientnet-lite-tiny"
SCALING[TINY_LITE] = SCALING["efficientnet-tiny"]  # a name with "lite" has no gates
MODELS = ("efficientdet-lite0", "efficientdet-d0")


def tiny(name: str, **other: object) -> Config:
    """lite: relu6 and no gates; D: swish, gates and weighted fusion. Anchors are not stock."""
    values = {
        "backbone_name": TINY_LITE if "lite" in name else "efficientnet-tiny",
        "fpn_num_filters": 16, "fpn_cell_repeats": 1, "box_class_repeats": 1, "max_level": 4,
        "image_size": f"{WIDTH}x{HEIGHT}", "num_classes": NAMES.num_classes,
        "aspect_ratios": [1.0, [1.4, 0.7]], "num_scales": 1, "anchor_scale": 2.0,
        "batch_norm_momentum": 0.5, "is_training_bn": True, "class_prior": 0.3,
        "moving_average_decay": 0.5, "mixed_precision": True, "nms_configs.max_output_size": 20,
    }  # fmt: skip
    return Config.for_model(name).override(values | other)


def save_run(folder: Path, config: Config, label_map: LabelMap = NAMES) -> None:
    """Trains three steps on noise, so that averages, statistics and weights all differ."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(1)
    engine = TrainingEngine(config)
    tf.config.run_functions_eagerly(True)  # to compile the step takes longer than three of them
    for step in range(3):
        boxes = np.array([[[8, 10, 40, 60], [20, 70, 60, 110]]], np.float32)
        batch = {
            "images": rng.normal(size=(1, *config.image_hw, 3)).astype(np.float32),
            "boxes": boxes,
            "classes": rng.integers(1, config.num_classes + 1, (1, 2)).astype(np.int32),
            "source_id": np.array([b"0"]),
        }
        engine.update(batch, step=step, learning_rate=0.01)
    tf.config.run_functions_eagerly(False)
    RunDirectory(folder).write(config, label_map)
    CheckpointManager(folder).save(engine.state.arrays(), Progress(step=3))


def info_of(config: Config, label_map: LabelMap = NAMES, *, nms: bool = True) -> ExportInfo:
    return ExportInfo(config, label_map, {"Car": 0.25}, Identity("run/model.ckpt-3", 3, "0"), nms)


def noise(height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> np.ndarray:
    """An image with edges and areas: uint8 [height, width, 3]."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    return coarse.repeat(8, 0).repeat(8, 1)[:height, :width]
