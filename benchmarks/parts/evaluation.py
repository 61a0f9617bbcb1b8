"""Evaluating and predicting beside the bare network's forward pass over the same images."""

from collections.abc import Iterator

from benchmarks.material import Material
from benchmarks.timing import Limit, Row, Work, in_turns
from efficientdet.config import Config

BATCH_SIZE = 2


def rows(material: Material, turns: int) -> Iterator[Row]:
    """Records to detections and losses; records to metrics."""
    for size in material.sizes:
        yield from _of_size(material, size, turns)


def _of_size(material: Material, size: str, turns: int) -> Iterator[Row]:
    import tensorflow as tf

    from efficientdet.inference.detector import Detector
    from efficientdet.inference.validation import Validator
    from efficientdet.input.record_set import RecordSet
    from efficientdet.model.detector import build_detector

    records = RecordSet.open(str(material.record))
    config = Config.for_model(material.model).override(
        {"image_size": size, "num_classes": records.label_map.num_classes}
    )
    model = build_detector(config)
    detector = Detector(model, config)
    count = len(material.images) // BATCH_SIZE * BATCH_SIZE
    validator = Validator(records, config, BATCH_SIZE, num_images=count)
    forward = tf.function(model)
    images = tf.zeros((BATCH_SIZE, *config.image_hw, 3))

    def bare() -> None:
        for _ in range(count // BATCH_SIZE):
            forward(images)

    works: dict[str, Work] = {
        "bare network": bare,
        "detect": lambda: validator.detect(detector),
        "evaluate, both metrics and losses": lambda: validator(detector),
    }
    seconds = in_turns(works, turns)
    limit = Limit("bare network", seconds.pop("bare network"))
    for name, value in seconds.items():
        what = f"{material.model}, {size}, random weights: {name}"
        yield Row("evaluation", what, value, count, "images", limit)
