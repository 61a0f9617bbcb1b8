"""Hyper-parameters: senseless values are refused, and what is accepted means something."""

import dataclasses
import math
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from benchmarks.campaign.case import Wrong
from benchmarks.campaign.mutations import NASTY, damage_text, put
from benchmarks.campaign.scene import ROOT, Scene
from efficientdet.config import Config, flatten, load_yaml, parse_hparams
from efficientdet.dataset.label_map import LabelMap
from efficientdet.model.anchors import Anchors
from efficientdet.run.directory import RunDirectory
from efficientdet.training.schedules import learning_rate

# What no one can mean: none may be accepted.
_SENSELESS = """
    image_size=0 image_size=-5 image_size=0x0 num_classes=0 num_classes=-1 min_level=9
    min_level=-1 max_level=60 max_level=1 fpn_num_filters=0 fpn_num_filters=-8
    fpn_cell_repeats=0 fpn_cell_repeats=-1 box_class_repeats=-1 survival_prob=-1 survival_prob=2
    stddev_rgb=0*0*0 stddev_rgb=-1*1*1 num_scales=0 num_scales=100000 aspect_ratios=[]
    aspect_ratios=[0] aspect_ratios=[-1] anchor_scale=-4 anchor_scale=0 anchor_scale=[]
    jitter_min=-1 jitter_min=0 jitter_max=-1 jitter_max=0 jitter_min=3 max_instances_per_image=0
    crop_prob=5 crop_prob=-0.1 photometric=-1 mosaic_prob=2 mosaic_prob=-1
    mosaic_close_epochs=-1 copy_paste_prob=1.5 copy_paste_prob=-1
    repeat_threshold=-1 alpha=-1 alpha=2 gamma=-1 label_smoothing=-1 label_smoothing=2 delta=0
    delta=-1 box_loss_weight=-50 iou_loss_weight=-1 weight_decay=-1 positives_momentum=2
    positives_momentum=-1 ignore_overlap=-1 ignore_overlap=3 class_weights=[-1] class_prior=2
    class_prior=0 class_prior=1 class_prior=-0.5 momentum=7 momentum=-1 learning_rate=-1
    lr_warmup_init=-1 lr_warmup_epoch=-1 first_lr_drop_epoch=-1 poly_lr_power=-1
    restart_epochs=0 restart_epochs=-3 clip_gradients_norm=-1 num_epochs=-1
    moving_average_decay=2 moving_average_decay=-1 batch_norm_momentum=2 batch_norm_momentum=-1
    var_freeze_expr=( backbone_lr_scale=-1 heads_only_epochs=-1 early_stopping_epochs=-1
    loss_scale=-1 grad_accum_steps=0 grad_accum_steps=-2 nms_configs.iou_thresh=-1
    nms_configs.iou_thresh=2 nms_configs.sigma=-1
    nms_configs.max_output_size=0 nms_configs.max_output_size=-1 nms_configs.max_nms_inputs=-1
    nms_configs.method=soft act_type=gelu optimizer=lion
    seed=-1.5 learning_rate=nan learning_rate=inf mean_rgb=nan gamma=1e999
    """
_YAML = (
    "learning_rate: 2001-01-01\n", "learning_rate: 2001-99-99\n", "a: &a [*a]\n", "&a {b: *a}\n",
    "!!python/object:os.system {}\n", "learning_rate: !!timestamp x\n", "x: !!int ''\n",
    "x: !!float '.'\n", "x: !!binary '*'\n", "? [a, b]\n: c\n", "? {a: b}\n: c\n", "1: 2\n",
    "null: 1\n", "nms_configs: 5\n", "nms_configs: []\n", "nms_configs: null\n", "- a\n", "a\n",
    "num_epochs: 1:30\n", "num_epochs: 0o17\n", "num_epochs: 0x10\n", "seed: " + "9" * 5000 + "\n",
    "learning_rate: .inf\n", "aspect_ratios: [[1, [2]]]\n", "x: !!set {a, b}\n", "<<: 5\n",
    "{" * 3000, "[" * 3000, "a: " * 2000, "learning_rate: 1e5000\n", "image_size: [1, 2]\n",
    "name: {a: b}\n", "copy_paste_classes: {Car: 1}\n", "!!omap [a: 1]: 2\n", "\t\n", "%YAML 9.9\n",
    "learning_rate: *unknown\n", "a: 1\n---\nb: 2\n", "x: !!timestamp '2001-02-30'\n",
)  # fmt: skip


def senseless(chance: Random, scene: Scene, folder: Path) -> None:
    """A value that no one can mean: it must be refused."""
    text = chance.choice(_SENSELESS.split())
    config = Config.for_model("efficientdet-d0").override(parse_hparams(text))
    raise Wrong("difference", f"--hparams={text} is accepted: {config!r}"[:200])


def values(chance: Random, scene: Scene, folder: Path) -> None:
    """Any value for any field: refused, or anchors and learning rates are numbers."""
    fields = list(flatten(Config().to_dict()))
    pairs = [f"{chance.choice(fields)}={_value(chance)}" for _ in range(chance.choice((1, 1, 2)))]
    config = Config.for_model("efficientdet-d0").override(parse_hparams(pairs))
    _require_use(config, folder)


def yaml_files(chance: Random, scene: Scene, folder: Path) -> None:
    """--hparams=FILE and config.yaml of a run: refused, or written and read back as it was."""
    path = folder / "config.yaml"
    if chance.random() < 0.4:
        put(chance, path, chance.choice(_YAML).encode())
    else:
        of_run = (scene.run / "config.yaml").read_text()
        text = chance.choice((of_run, (ROOT / "configs/kitti_d0.yaml").read_text()))
        put(chance, path, damage_text(chance, text, " :\n"))
    LabelMap.kitti().write(folder / "label_map.txt")
    if chance.random() < 0.5:
        config = Config.for_model("efficientdet-d0").override(parse_hparams(str(path)))
    else:
        config = RunDirectory(folder).config(None, {}, LabelMap.kitti())
    _require_use(config, folder)


def _value(chance: Random) -> Any:
    kind = chance.randrange(4)
    if kind == 0:
        return chance.choice(NASTY)
    if kind == 1:
        return chance.choice((-1, 0, 0.5, 1, 2, 3, 100, 1e-9, 1e9, -1e9, 2**31, 2**63, 10**30))
    if kind == 2:
        return f"[{','.join(str(chance.uniform(-1, 4)) for _ in range(chance.randrange(4)))}]"
    return "*".join(chance.choice(NASTY[:20]) for _ in range(chance.randrange(1, 4)))


def _require_use(config: Config, folder: Path) -> None:
    """Stored and read back it is the same; it has anchors and learning rates."""
    config.save(folder / "saved.yaml")
    again = Config.for_model(config.name).override(load_yaml(folder / "saved.yaml"))
    if dataclasses.asdict(again) != dataclasses.asdict(config):
        raise Wrong("difference", f"{config} is stored as {again}"[:500])
    height, width = config.image_hw
    if height * width * config.num_anchors <= 4096 * 4096 * 9:
        boxes = Anchors(config).boxes
        if not np.isfinite(boxes).all():
            raise Wrong("difference", f"anchors that are no numbers: {config}"[:500])
    for step in (0, 3, 100, 10_000):
        rate = learning_rate(step, config=config, batch_size=8, steps_per_epoch=10)
        if not (math.isfinite(rate) and rate >= 0):
            raise Wrong("difference", f"learning rate {rate} at step {step}: {config}"[:500])


KINDS = {"senseless": senseless, "hparams": values, "yaml_files": yaml_files}
