"""What TensorBoard shows of a run besides its curves: their order, the config, hyper-parameters."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from efficientdet.dataset.kitti import BENCHMARK
from efficientdet.tensorflow_device import tf

PICTURE_WIDTH = 1200  # pixels; TensorBoard shows a small picture no larger than it is

# Page -> chart -> tags. AutoML's tags have few groups among them: the page Custom Scalars has.
CHARTS: dict[str, dict[str, Sequence[str]]] = {
    "loss": {
        name: [f"trainloss/{name}"]
        for name in ("det_loss", "cls_loss", "box_loss", "reg_l2_loss", "loss")
    },
    "rates": {
        "learning rate": ["lrn_rate"],
        "gradient norm": ["clip/gradient_norm"],
        "images per second": ["input/images_per_second"],
        "share of time waiting for input": ["input/data_wait"],
        "positives in a batch": ["input/num_positives"],
        "epoch": ["train_epochs"],
    },
    "COCO": {
        "AP": ["AP", "AP50", "AP75"],
        "AP by size": ["APs", "APm", "APl"],
        "AR by number of detections": ["ARmax1", "ARmax10", "ARmax100"],
        "AR by size": ["ARs", "ARm", "ARl"],
    },
    "KITTI": {
        "moderate, mean of the classes": ["kitti/moderate_R40"],
        **{
            name: [f"kitti/{name}_{level}_R40" for level in ("easy", "moderate", "hard")]
            for name in BENCHMARK
        },
    },
    "by class": {"AP": ["AP_/*"], "AP50": ["AP50_/*"]},
}
METRICS = ("AP", "AP50", "kitti/moderate_R40", "trainloss/det_loss")  # beside hyper-parameters


def write_head(hparams: Mapping[str, Any], step: int) -> None:
    """Writes layout and config with the default writer."""
    from tensorboard.plugins.custom_scalar import layout_pb2, summary

    pages = [
        layout_pb2.Category(
            title=page,
            chart=[
                layout_pb2.Chart(
                    title=title, multiline=layout_pb2.MultilineChartContent(tag=map(pattern, tags))
                )
                for title, tags in charts.items()
            ],
        )
        for page, charts in CHARTS.items()
    ]
    layout = summary.pb(layout_pb2.Layout(category=pages))
    tf.summary.experimental.write_raw_pb(layout.SerializeToString(), step)
    lines = [f"    {name}: {value}" for name, value in hparams.items()]  # Markdown for code
    tf.summary.text("config", "\n".join(lines), step)


def write_hparams(hparams: Mapping[str, Any]) -> None:
    """Writes hyper-parameters, of which `METRICS` are the outcome, with the default writer.

    It has to be the evaluations' own: of a run in the very folder that TensorBoard was given, it
    does not find the metrics of another writer.
    """
    from tensorboard.plugins.hparams import api

    values = {n: v if isinstance(v, bool | int | float) else str(v) for n, v in hparams.items()}
    metrics = [api.Metric(name, display_name=name) for name in METRICS]
    api.hparams_config([api.HParam(name) for name in values], metrics)
    api.hparams(values)


def pattern(tag: str) -> str:
    """The regular expression for a tag of `CHARTS`."""
    return f"^{re.escape(tag).replace(re.escape('*'), '.*')}$"


def is_shown(name: str) -> bool:
    """Whether a metric is a curve; R11, KITTI's older average, is in the tables and the log."""
    return not (name.endswith("_R11") or name == "num_images")


def large(picture: np.ndarray) -> np.ndarray:
    """`picture`, uint8 [H, W, 3], a whole number of times as large if it is small."""
    times = -(-PICTURE_WIDTH // picture.shape[1]) if picture.shape[1] < PICTURE_WIDTH // 2 else 1
    return picture.repeat(times, axis=0).repeat(times, axis=1)
