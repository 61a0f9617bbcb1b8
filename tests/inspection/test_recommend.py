"""An input and anchors for a data set: within the memory, explained, and fit for --hparams."""

from pathlib import Path

import numpy as np
import pytest

from efficientdet.config import Config, parse_hparams
from efficientdet.dataset.example import Annotation
from efficientdet.dataset.statistics import Objects, Statistics
from efficientdet.errors import UsageError
from efficientdet.inspection.recommend import recommend
from efficientdet.training.engine import TrainingEngine

SMALL = {
    "backbone_name": "efficientnet-tiny",
    "survival_prob": 1.0,
    "fpn_num_filters": 16,
    "image_size": "128x64",
    "num_classes": 2,
    "fpn_cell_repeats": 1,
    "box_class_repeats": 1,
}
CONFIG = Config.for_model("efficientdet-d0").override(SMALL)


def objects(count: int, sides: tuple[float, float], image_hw=(100, 250)) -> Objects:
    """Cars twice as wide as high, walkers the other way round, heights within `sides`."""
    rng, counted = np.random.default_rng(0), Statistics()
    for index in range(count):
        side = rng.uniform(*sides)
        size = np.array([2 * side, side] if index % 2 else [side, 2.5 * side])
        corner = rng.uniform(0, np.maximum(1, np.array(image_hw[::-1]) - size))
        box = (*corner, *(corner + size))
        counted.add("x", *image_hw, [Annotation(box, 1, "Car" if index % 2 else "Walker")])
    return counted.objects


def found(one: Objects, config: Config = CONFIG, costs=lambda _: (1e6, 2000.0), **changes):
    return recommend(one, config, costs, **{"memory_gb": 6, "batch_size": 4, **changes})


def sizes(result) -> list[str]:
    return [one.row.input_size for one in result.candidates]


def test_the_input_is_that_of_the_images_and_the_anchors_lose_less():
    result = found(objects(500, (6, 30)))
    assert result.chosen.row.input_size == "256x128"
    first = result.candidates[0]
    assert first.row.input_size == "128x64" and result.chosen.lacking < first.lacking
    assert result.chosen.row.num_anchors == 9
    assert result.chosen in result.candidates


def test_memory_limits_the_input_and_it_is_said():
    one = objects(300, (6, 30), image_hw=(250, 625))
    rich = found(one)
    assert rich.chosen.row.input_size == "640x256"
    poor = found(one, memory_gb=1.3, batch_size=2)
    assert poor.chosen.pixels * 4000 < 0.3 * 2**30 and poor.chosen.pixels < rich.chosen.pixels
    assert "The memory decides the input. One of 163,840 pixels" in " ".join(poor.notes)
    assert not [note for note in rich.notes if "memory" in note]
    text = "--memory_gb=1: efficientdet-d0 with 4 images needs more, whatever the input"
    with pytest.raises(UsageError, match=text):
        found(one, memory_gb=1)


def test_large_objects_need_no_large_input():
    result = found(objects(300, (80, 200), image_hw=(500, 1000)))
    assert result.chosen.pixels <= 500 * 1000 / 8


def test_inputs_that_are_named_are_the_ones_to_choose_from():
    result = found(objects(500, (6, 30)), sizes=["128", "192x96"])
    assert {*sizes(result)[1:]} <= {"128x128", "192x96"}


def test_few_objects_keep_the_shapes_and_it_is_said():
    result = found(objects(12, (6, 30)))
    assert not any(one.row.fitted for one in result.candidates)
    assert "Only 12 objects, where a fit needs 400" in result.yaml("train.record")


def test_a_finer_level_where_much_is_lost_and_the_memory_allows_it():
    tiny = objects(300, (4, 7))
    result = found(tiny)
    assert result.chosen.config.min_level == 2 and "min_level: 2" in result.yaml("x")
    dear = found(tiny, costs=lambda config: (1e6, 2e3 if config.min_level > 2 else 1e6))
    assert dear.chosen.config.min_level == 3
    assert any(one.config.min_level == 2 for one in dear.candidates)


def test_the_yaml_goes_into_hparams_and_trains_a_step(tmp_path: Path):
    result = found(objects(500, (6, 30)), CONFIG.override({"mixed_precision": True}))
    text = result.yaml("학습.record")
    assert max(map(len, text.splitlines())) <= 100
    assert "keeps all 9 rows of a COCO checkpoint's heads" in text and "학습.record" in text
    path = tmp_path / "own.yaml"
    path.write_text(text, encoding="utf-8")
    values = parse_hparams([str(path)])
    assert values["mixed_precision"] is True
    config = CONFIG.override({**values, "mixed_precision": False})
    assert config.image_hw == (128, 256)
    assert config.anchor_scale == result.chosen.config.anchor_scale
    batch = {
        "images": np.zeros((1, 128, 256, 3), np.float32),
        "boxes": np.float32([[[10, 20, 50, 90]]]),
        "classes": np.int32([[1]]),
    }
    metrics = TrainingEngine(config).update(batch, step=0, learning_rate=0.01)
    assert np.isfinite(metrics["det_loss"])
