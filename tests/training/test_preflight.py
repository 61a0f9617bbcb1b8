"""The picture of the first batch."""

import numpy as np
from PIL import Image

from efficientdet.config import Config
from efficientdet.dataset.label_map import LabelMap
from efficientdet.model.roles import IGNORE
from efficientdet.training.preflight import draw_batch
from efficientdet.visualize.drawing import IGNORED, WHITE, class_colour


def test_objects_anchors_and_ignore_regions_can_be_told_apart(tmp_path):
    config = Config(image_size=128, num_classes=2)
    batch = {
        "images": np.zeros((1, 128, 128, 3), np.float32),
        "boxes": np.array([[[20, 10, 60, 50], [80, 70, 110, 120]]], np.float32),
        "classes": np.array([[2, IGNORE]], np.int32),
        "source_id": np.array([b"000007"]),
    }
    label_map = LabelMap((("Car",), ("Cyclist",)))
    draw_batch(batch, tmp_path / "a.png", config=config, label_map=label_map)
    pixels = np.asarray(Image.open(tmp_path / "a.png"))
    picture = [
        (pixels[-170:] == colour).all(-1).sum() for colour in (class_colour(2), WHITE, IGNORED)
    ]
    legend = [
        (pixels[:-180] == colour).all(-1).sum() for colour in (class_colour(2), WHITE, IGNORED)
    ]
    assert min(picture) > 30 and min(legend) > 10
    assert not (pixels == class_colour(1)).all(-1).any()  # no car, no key
