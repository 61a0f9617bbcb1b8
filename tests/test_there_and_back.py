"""Boxes of the records, through the training pipeline and back as the detector decodes them."""

import tarfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from efficientdet.config import Config
from efficientdet.dataset.example import Annotation, make_example
from efficientdet.dataset.image import ImageHeader
from efficientdet.dataset.kitti import parse_labels
from efficientdet.input.pipeline import InputPipeline
from efficientdet.model.anchors import Anchors, decode, encode
from efficientdet.model.postprocess import to_original

SIZES = ("512", "640x192", "448x144", "768x256", "1280x384")
Boxes = dict[tuple[int, int], np.ndarray]  # (height, width) -> [N, 4] left, top, right, bottom


def write_record(path: Path, boxes: Boxes) -> Path:
    """A record that has one black image of each size, with all boxes on images of that size."""
    with tf.io.TFRecordWriter(str(path)) as writer:
        for (height, width), rows in boxes.items():
            image = tf.io.encode_png(np.zeros((height, width, 3), np.uint8)).numpy()
            header = ImageHeader("png", height, width)
            objects = [Annotation(tuple(row), 1, "Car") for row in rows]
            writer.write(make_example(image, header, f"{width}x{height}", objects))
    return path


def there_and_back(record: Path, boxes: Boxes, size: str, **augmentation) -> list[np.ndarray]:
    """For each image size [N, 4]: what the pipeline makes of the boxes, encoded and decoded."""
    config = Config.for_model("efficientdet-d0").override(
        {"image_size": size, "jitter_min": 1.0, "jitter_max": 1.0, "input_rand_hflip": False}
    )
    pipeline = InputPipeline(
        [record],
        config.override(augmentation),
        batch_size=1,
        training=bool(augmentation),
        num_classes=1,
        max_instances=max(map(len, boxes.values())),
    )
    anchors = Anchors(config).boxes
    found = {}
    for batch in pipeline.batches():
        count = int((batch["classes"] > 0).sum())
        near = anchors[np.arange(count) % len(anchors)]  # any anchor: the code is exact
        decoded = decode(encode(batch["boxes"][0, :count], near), near)[None]
        original = ops.convert_to_numpy(to_original(decoded, batch["image_scale"]))
        found[batch["source_id"][0].decode()] = original[0][:, [1, 0, 3, 2]]
    return [found[f"{width}x{height}"] for height, width in boxes]


@pytest.fixture(scope="module")
def all_of_kitti(shared) -> Boxes:
    """Every box of every label file, DontCare included."""
    sizes = {}
    for line in (shared / "kitti" / "image_sizes.txt").read_text().splitlines():
        first, last, width, height = map(int, line.split())
        sizes |= dict.fromkeys(range(first, last + 1), (height, width))
    boxes = defaultdict(list)
    with tarfile.open(shared / "kitti" / "label_2_all.tar.gz") as archive:
        for member in filter(lambda member: member.isfile(), archive):
            labels, _ = parse_labels(archive.extractfile(member).read(), member.name)
            rows = [(o.left, o.top, o.right, o.bottom) for o in labels.values()]
            boxes[sizes[int(member.name[-10:-4])]] += rows
    return {size: np.array(rows) for size, rows in boxes.items()}


@pytest.fixture(scope="module")
def kitti_record(all_of_kitti, tmp_path_factory) -> Path:
    return write_record(tmp_path_factory.mktemp("kitti") / "all.record", all_of_kitti)


@pytest.mark.parametrize("size", SIZES)
def test_every_box_of_kitti_comes_back(all_of_kitti, kitti_record, size):
    assert sum(map(len, all_of_kitti.values())) > 50_000
    found = there_and_back(kitti_record, all_of_kitti, size)
    for boxes, rows in zip(all_of_kitti.values(), found, strict=True):
        np.testing.assert_allclose(rows, boxes, rtol=0, atol=1e-3)


# Sides that a resize truncates by much of a pixel; objects in the middle and at the last pixel.
ODD: Boxes = {
    hw: np.array([(3, 4, 20, 15), (0, 0, hw[1] - 1, hw[0] - 1), (hw[1] - 9.5, 2, hw[1] - 1, 30.25)])
    for hw in ((37, 124), (41, 130), (150, 61))
}


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", ["64", "96x32", "320x128"])
def test_boxes_come_back_from_odd_sizes(tmp_path, size, training):
    record = write_record(tmp_path / "odd.record", ODD)
    found = there_and_back(record, ODD, size, **({"jitter_max": 1.0} if training else {}))
    for boxes, rows in zip(ODD.values(), found, strict=True):
        np.testing.assert_allclose(rows, boxes, rtol=0, atol=1e-3)


def test_each_axis_has_its_own_scale():
    boxes = ops.convert_to_tensor(np.float32([[[1, 2, 3, 4]], [[1, 2, 3, 4]]]))
    moved = to_original(boxes, ops.convert_to_tensor(np.float32([[10, 100], [1, 2]])))
    np.testing.assert_array_equal(moved, [[[10, 200, 30, 400]], [[1, 4, 3, 8]]])
