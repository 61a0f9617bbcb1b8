"""Images a second that the input pipeline alone delivers: AutoML's augmentation, then ours."""

import time
from collections.abc import Iterator
from typing import Any

from benchmarks.material import Material
from benchmarks.parts.decoding import decode_all
from benchmarks.timing import Limit, Row, Work, in_turns
from efficientdet.config import Config, parse_hparams

BATCH_SIZE = 8
STEPS: dict[str, dict[str, Any] | None] = {
    "evaluation": None,
    "AutoML's: flip, scale 0.1 to 2": {},
    "flip, scale 0.8 to 1.5": {"jitter_min": 0.8, "jitter_max": 1.5},
    "+ crop": {"crop_prob": 0.5},
    "+ photometric": {"photometric": 0.5},
    "+ copy-paste": {"copy_paste_prob": 0.5},
    "+ mosaic": {"mosaic_prob": 0.5},
}
RECIPE = "configs/kitti_d0.yaml"


def rows(material: Material, turns: int) -> Iterator[Row]:
    """Each operation on top of those before it, and the KITTI recipe, at each size."""
    for size in material.sizes:
        works: dict[str, Work] = {"decoding on all cores": lambda: decode_all(material.images)}
        config = Config.for_model("efficientdet-d0").override({"image_size": size})
        for name, values in STEPS.items():
            config = config.override(values or {})
            works[name] = _epoch(material, config, training=values is not None)
        config = Config.for_model("efficientdet-d0").override(parse_hparams(RECIPE))
        works[RECIPE] = _epoch(material, config.override({"image_size": size}), training=True)
        seconds = in_turns(works, turns)
        limit = Limit(name := next(iter(works)), seconds.pop(name))
        for name, value in seconds.items():
            count = len(material.images) // BATCH_SIZE * BATCH_SIZE
            yield Row("input_pipeline", f"{size}: {name}", value, count, "images", limit)


def _epoch(material: Material, config: Config, *, training: bool) -> Work:
    """As many images as there are, after a first batch, by an iterator without a head start."""
    from efficientdet.input.pipeline import InputPipeline

    pipeline = InputPipeline(
        [material.record],
        config,
        batch_size=BATCH_SIZE,
        training=training,
        num_classes=config.num_classes,
        max_instances=config.max_instances_per_image,
    )
    dataset = pipeline.dataset().repeat()

    def work() -> float:
        batches = iter(dataset)
        next(batches)
        start = time.perf_counter()
        for _ in range(len(material.images) // BATCH_SIZE):
            next(batches)
        return time.perf_counter() - start

    return work
