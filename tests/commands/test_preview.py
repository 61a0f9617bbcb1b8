"""The preview command, as typed."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from efficientdet.commands import preview
from efficientdet.config import Config
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


def test_it_tells_what_fell_on_each_picture_and_what_was_pasted(tmp_path, monkeypatch):
    image = tf.io.encode_png(np.zeros((48, 128, 3), np.uint8)).numpy()
    walker = Annotation((10, 10, 20, 40), 1, "Pedestrian")
    record = tmp_path / "train.record"
    with tf.io.TFRecordWriter(str(record)) as writer:
        for name in ("000000", "000001"):
            writer.write(make_example(image, ImageHeader("png", 48, 128), name, [walker]))
    drawn, draw = [], preview.draw_boxes
    keep = lambda *a, **how: drawn.append((a[2], how["line_width"].tolist())) or draw(*a, **how)  # noqa: E731
    captions, sheet = [], preview.sheet
    monkeypatch.setattr(preview, "draw_boxes", keep)
    monkeypatch.setattr(preview, "sheet", lambda *a, **k: captions.extend(a[2]) or sheet(*a, **k))
    config = Config(
        image_size="128x48", copy_paste_prob=1.0, copy_paste_classes=["Pedestrian"],
        jitter_min=1.0, jitter_max=1.0, input_rand_hflip=False,
    )  # fmt: skip
    preview.draw_samples([record], config, num_images=2)
    assert {caption[6:] for caption in captions} == {"   copy_paste, scale 1.00"}
    assert drawn == [(["Car", "Car, pasted"], [1, 3])] * 2  # id 1 of KITTI's label map
    how = {"batch_size": 1, "training": True, "num_classes": 8, "max_instances": 9, "seed": 3}
    traced, bare = (
        next(kind([record], config, **how).batches())
        for kind in (preview._TracedPipeline, preview.InputPipeline)
    )
    np.testing.assert_array_equal(traced["images"], bare["images"])  # what training sees
    np.testing.assert_array_equal(traced["classes"] % preview.PASTED, bare["classes"])
    plain = config.override({"copy_paste_prob": 0.0})
    captions.clear()
    preview.draw_samples([record], plain, num_images=1)
    assert [caption[6:] for caption in captions] == ["   scale 1.00"]
