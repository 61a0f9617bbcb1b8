"""Donors: cut out once, the same from then on, and no more of them kept than is said."""

import numpy as np
import pytest
import tensorflow as tf

from efficientdet.input import donors
from efficientdet.input.record_index import RecordObjects

BOXES = np.float32([[0.2, 0.1, 0.6, 0.3], [0.2, 0.6, 0.8, 0.7]])  # of 40x120 pixels


@pytest.fixture
def drawn():
    """Draws donors of two frames; and how often a frame was decoded."""
    records = [
        RecordObjects(f"{i:06d}", BOXES, np.array([1, 2]), ("Pedestrian", "Car")) for i in range(2)
    ]
    found = donors.Donors(records, ["Pedestrian", "Car"])
    pixels = np.random.default_rng(0).integers(0, 256, (2, 40, 120, 3), np.uint8)
    decoded = tf.Variable(0)

    def decode(number):
        with tf.control_dependencies([decoded.assign_add(1)]):
            return tf.constant(pixels)[number]

    return lambda seed: found.draw(seed, decode), decoded, pixels


SEEDS = np.stack([np.arange(24), np.arange(24)], 1).astype(np.int32)


def test_each_donor_is_decoded_once_and_is_the_same_in_eager_mode_and_in_a_dataset(drawn):
    draw, decoded, _ = drawn
    first = [draw(seed) for seed in SEEDS]
    assert int(decoded) == 4
    for calls in (1, 3):
        mapped = tf.data.Dataset.from_tensor_slices(SEEDS).map(draw, calls)
        for one, other in zip(first, mapped, strict=True):
            for a, b in zip(one, other, strict=True):
                np.testing.assert_array_equal(a, b)
    assert int(decoded) == 4


def test_a_patch_is_what_stands_in_its_image(drawn):
    draw, _, pixels = drawn
    for patch in map(draw, [*SEEDS[:6], *SEEDS[:6]]):
        height = float(patch.box[2] - patch.box[0])
        box = BOXES[int(patch.class_id) - 1] * [40, 120, 40, 120]
        np.testing.assert_allclose(height, box[2] - box[0], rtol=1e-5)
        top, left = np.round(box[:2] - np.asarray(patch.box[:2])).astype(int)
        assert top == int(patch.top)
        rows, columns, _ = patch.image.shape
        window = pixels[:, top : top + rows, left : left + columns]
        assert (window == np.asarray(patch.image)).all((1, 2, 3)).any()


@pytest.mark.parametrize("limit, some", [({"_MOST_KEPT": 2}, True), ({"_LARGEST_KEPT": 10}, False)])
def test_what_is_not_kept_is_cut_again(drawn, monkeypatch, limit, some):
    for name, value in limit.items():
        monkeypatch.setattr(donors, name, value)
    draw, decoded, _ = drawn
    first = [draw(seed) for seed in SEEDS]
    before = int(decoded)
    again = [draw(seed) for seed in SEEDS]
    kept = len(SEEDS) - (int(decoded) - before)
    assert (kept > 0) == some and before > 4
    for one, other in zip(first, again, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
