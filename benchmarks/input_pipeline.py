"""Images a second that the input pipeline delivers, alone.

    python benchmarks/input_pipeline.py --input=train.record
    python benchmarks/input_pipeline.py --input=train.record --hparams=configs/kitti_d0.yaml

Each row: one warm-up batch, then `--seconds` of batches. AutoML's pipeline on 2 cores, batch 8:
132 images a second at 512x512, 107 at 1280x384.
"""

import os
import resource
import time

from efficientdet.commands import runner  # isort: skip (says what is not installed)
from absl import flags
from rich.console import Console
from rich.table import Table

from efficientdet.config import Config, parse_hparams
from efficientdet.dataset.tfrecord import expand_pattern

INPUT = flags.DEFINE_string("input", None, "TFRecord files of training images.", required=True)
SIZES = flags.DEFINE_list("sizes", ["512", "1280x384"], "Input sizes, `512` or width x height.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 8, "Images a batch.", lower_bound=1)
SECONDS = flags.DEFINE_float("seconds", 15.0, "Measured time of each row.")
HPARAMS = flags.DEFINE_string("hparams", "", "More hyper-parameters, as for main.py.")

STEPS = {
    "evaluation": None,
    "AutoML's: flip, scale 0.1 to 2": {},
    "flip, scale 0.8 to 1.5": {"jitter_min": 0.8, "jitter_max": 1.5},
    "+ crop": {"crop_prob": 0.5},
    "+ photometric": {"photometric": 0.5},
    "+ copy-paste": {"copy_paste_prob": 0.5},
    "+ mosaic": {"mosaic_prob": 0.5},
}


def main() -> None:
    config = Config.for_model("efficientdet-d0").override(parse_hparams(HPARAMS.value))
    expand_pattern(INPUT.value)
    from efficientdet.commands import quiet_tensorflow  # noqa: F401

    table = Table(title=f"images/s, batch {BATCH_SIZE.value}, {os.cpu_count()} cores")
    table.add_column("mode")
    for size in SIZES.value:
        table.add_column(size, justify="right")
    for name, values in STEPS.items():
        config = config.override(values or {})
        rates = [
            images_per_second(config.override({"image_size": size}), training=values is not None)
            for size in SIZES.value
        ]
        table.add_row(name, *(f"{rate:.0f}" for rate in rates))
    Console().print(table)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB")


def images_per_second(config: Config, *, training: bool) -> float:
    import tensorflow as tf

    from efficientdet.input.pipeline import InputPipeline

    pipeline = InputPipeline(
        expand_pattern(INPUT.value),
        config,
        batch_size=BATCH_SIZE.value,
        training=training,
        num_classes=config.num_classes,
        max_instances=config.max_instances_per_image,
    )
    batches = iter(pipeline.dataset().repeat())
    next(batches)
    count, start = 0, time.monotonic()
    while (elapsed := time.monotonic() - start) < SECONDS.value:
        tf.ensure_shape(next(batches)["images"], [BATCH_SIZE.value, *config.image_hw, 3])
        count += BATCH_SIZE.value
    return count / elapsed


if __name__ == "__main__":
    runner.run(main)
