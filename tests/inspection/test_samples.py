"""The sheet of training samples: what fell on each, and what was pasted."""

import numpy as np
import tensorflow as tf

from efficientdet.config import Config
from efficientdet.dataset.example import Annotation, make_example
from efficientdet.dataset.image import ImageHeader
from efficientdet.inspection import samples


def test_it_tells_what_fell_on_each_picture_and_what_was_pasted(tmp_path, monkeypatch):
    image = tf.io.encode_png(np.zeros((48, 128, 3), np.uint8)).numpy()
    walker = Annotation((10, 10, 20, 40), 1, "Pedestrian")
    record = tmp_path / "train.record"
    with tf.io.TFRecordWriter(str(record)) as writer:
        for name in ("000000", "000001"):
            writer.write(make_example(image, ImageHeader("png", 48, 128), name, [walker]))
    drawn, draw = [], samples.draw_boxes
    keep = lambda *a, **how: drawn.append((a[2], how["line_width"].tolist())) or draw(*a, **how)  # noqa: E731
    captions, sheet = [], samples.sheet
    monkeypatch.setattr(samples, "draw_boxes", keep)
    monkeypatch.setattr(samples, "sheet", lambda *a, **k: captions.extend(a[2]) or sheet(*a, **k))
    config = Config(
        image_size="128x48", copy_paste_prob=1.0, copy_paste_classes=["Pedestrian"],
        jitter_min=1.0, jitter_max=1.0, input_rand_hflip=False,
    )  # fmt: skip
    samples.draw_samples([record], config, num_images=2)
    assert {caption[6:] for caption in captions} == {"   copy_paste, scale 1.00"}
    assert drawn == [(["Car", "Car, pasted"], [1, 3])] * 2  # id 1 of KITTI's label map
    how = {"batch_size": 1, "training": True, "num_classes": 8, "max_instances": 9, "seed": 3}
    traced, bare = (
        next(kind([record], config, **how).batches())
        for kind in (samples._TracedPipeline, samples.InputPipeline)
    )
    np.testing.assert_array_equal(traced["images"], bare["images"])  # what training sees
    np.testing.assert_array_equal(traced["classes"] % samples.PASTED, bare["classes"])
    plain = config.override({"copy_paste_prob": 0.0})
    captions.clear()
    samples.draw_samples([record], plain, num_images=1)
    assert [caption[6:] for caption in captions] == ["   scale 1.00"]
