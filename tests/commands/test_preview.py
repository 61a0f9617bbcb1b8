"""The preview command, as typed."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from efficientdet.dataset.example import Annotation, make_example
from efficientdet.dataset.image import ImageHeader
from efficientdet.visualize.drawing import IGNORED, class_colour


@pytest.fixture
def record(tmp_path):
    image = tf.io.encode_png(np.zeros((48, 128, 3), np.uint8)).numpy()
    objects = [
        Annotation((10, 10, 60, 40), 1, "Car"),
        Annotation((80, 5, 120, 30), 0, "DontCare", is_crowd=True),
    ]
    with tf.io.TFRecordWriter(str(tmp_path / "train.record")) as writer:
        for name in ("000000", "000001", "000002"):
            writer.write(make_example(image, ImageHeader("png", 48, 128), name, objects))
    return tmp_path / "train.record"


def run(root, folder, **knobs) -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHON": sys.executable, "RECORDS": str(folder)} | knobs
    return subprocess.run(
        ["bash", str(root / "scripts" / "preview_augment.sh"), "--num_images=4"],
        cwd=folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_draws_a_sheet_of_boxes(root, record):
    done = run(root, record.parent, HPARAMS="image_size=256x128,photometric=0.1")
    assert done.returncode == 0, done.stderr
    pixels = np.asarray(Image.open(record.parent / "augmented.png")).reshape(-1, 3)
    for colour in (class_colour(1), IGNORED):
        assert (pixels == colour).all(1).sum() > 50


def test_a_missing_record_is_one_line(root, tmp_path):
    done = run(root, tmp_path)
    assert done.returncode in (1, 2) and "train.record" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ")
