"""The whole of it learns: eight images by heart, and not when a target is wrong."""

import numpy as np
import pytest
from keras import ops

from efficientdet.config import Config
from efficientdet.dataset.kitti import parse_line
from efficientdet.dataset.label_map import LabelMap
from efficientdet.evaluation.evaluate import evaluate
from efficientdet.evaluation.frames import FrameTruth
from efficientdet.inference.detector import Detector
from efficientdet.model import targets
from efficientdet.training.engine import TrainingEngine

HEIGHT, WIDTH = 96, 192
LABEL_MAP = LabelMap((("Car",), ("Pedestrian",)))
COLOURS = {1: (2.0, -1.0, -1.0), 2: (-1.0, 2.0, 0.0)}
STEPS = 90


def _config() -> Config:
    return Config.for_model("efficientdet-d0").override(
        {
            "image_size": f"{WIDTH}x{HEIGHT}",
            "num_classes": 2,
            "fpn_cell_repeats": 1,
            "box_class_repeats": 1,
            "optimizer": "adam",
            "batch_norm_momentum": 0.8,
            "moving_average_decay": 0.9,
            "weight_decay": 0.0,
        }
    )


def _scenes() -> tuple[dict[str, np.ndarray], list[FrameTruth]]:
    """Eight images with one to two striped boxes, at least 60 pixels high."""
    rng = np.random.default_rng(7)
    images = rng.normal(0, 0.3, (8, HEIGHT, WIDTH, 3)).astype(np.float32)
    boxes, classes = np.zeros((8, 2, 4), np.float32), np.zeros((8, 2), np.int32)
    truths = []
    for number, image in enumerate(images):
        lines = []
        for place in range(1 + number % 2):
            label = 1 + (number // 2 + place) % 2
            height, width = rng.integers(60, 80), rng.integers(50, 80) if label == 1 else 32
            top = rng.integers(2, HEIGHT - height - 2)
            left = 96 * place + rng.integers(2, 94 - width)
            image[top : top + height, left : left + width] += COLOURS[label]
            image[top : top + height : 6, left : left + width] -= 1.5
            boxes[number, place] = top, left, top + height, left + width
            classes[number, place] = label
            edges = f"{left} {top} {left + width} {top + height}"
            lines.append(f"{LABEL_MAP.names[label]} 0 0 0 {edges} 1 1 1 0 0 9 0")
        truths.append(FrameTruth(f"{number:06d}", WIDTH, HEIGHT, [parse_line(x) for x in lines]))
    batch = {
        "images": images,
        "boxes": boxes,
        "classes": classes,
        "source_id": np.array([truth.source_id for truth in truths]),
        "image_scale": np.ones((8, 2), np.float32),
        "original_hw": np.tile([HEIGHT, WIDTH], (8, 1)),
        "valid": np.ones(8, bool),
    }
    return batch, truths


def _ap50(steps: int = STEPS) -> float:
    """AP50 on the eight images after `steps` on just them."""
    engine = TrainingEngine(_config())
    batch, truths = _scenes()
    for step in range(steps):
        rate = 0.003 * min(1.0, (step + 1) / 10) * (0.3 if step > 0.8 * steps else 1.0)
        logs = engine.update(batch, step=step, learning_rate=rate)
        assert logs["finite"]
    detector = Detector(engine.model, engine.config)
    detector.values = engine.state.evaluation_values()
    return evaluate(truths, detector.detect(batch), LABEL_MAP).metrics["AP50"]


def test_eight_images_are_learnt_by_heart() -> None:
    assert _ap50() > 0.9


@pytest.mark.parametrize("fault", ["boxes", "classes"])
def test_a_wrong_target_is_noticed(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The check above can fail: each kind of target is broken once."""
    right = targets.assign

    def broken(*args, **kwargs):
        found = right(*args, **kwargs)
        if fault == "boxes":
            return found._replace(boxes=found.boxes + 1.0)
        return found._replace(classes=ops.where(found.classes >= 0, 1 - found.classes, -1))

    monkeypatch.setattr(targets, "assign", broken)
    assert _ap50() < 0.5
