"""Crop, flip, resize and padding of an image with its boxes."""

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientdet.input import geometry
from efficientdet.input.geometry import Sample
from efficientdet.model.roles import IGNORE

RNG = np.random.default_rng(0)
IMAGE = tf.constant(RNG.integers(0, 256, (20, 40, 3), np.uint8))


def boxes(*rows):
    return tf.constant(rows, tf.float32, [len(rows), 4])


def classes(*ids):
    return tf.constant(ids, tf.int32, [len(ids)])


def test_crop_cuts_drops_and_ignores():
    rows = boxes((2, 2, 8, 8), (0, 30, 10, 40), (0, 9, 10, 19), (4, 4, 14, 14), (3, 5, 9, 11))
    ids = classes(1, 2, 3, 4, IGNORE)
    image, out, kept, whole, _ = geometry.crop(
        Sample.uncut(IMAGE, rows, ids), [0, 0], [10, 12], min_visible=0.5
    )
    np.testing.assert_array_equal(image, IMAGE[:10, :12])
    # Whole; outside: gone; 30 % left: ignored; 48 %: ignored; an ignore region stays one.
    np.testing.assert_array_equal(kept, [1, IGNORE, IGNORE, IGNORE])
    np.testing.assert_array_equal(
        out, [(2, 2, 8, 8), (0, 9, 10, 12), (4, 4, 10, 12), (3, 5, 9, 11)]
    )
    np.testing.assert_array_equal(whole, [36, 100, 100, 36])  # as before the crop


def test_a_second_crop_asks_for_the_share_of_the_whole_object():
    sample = Sample.uncut(IMAGE, boxes((0, 0, 10, 40)), classes(1))
    half = geometry.crop(sample, [0, 20], [20, 20], min_visible=0.3)
    assert half.classes == [1]
    quarter = geometry.crop(half, [0, 10], [20, 10], min_visible=0.3)
    np.testing.assert_array_equal(quarter.boxes, [(0, 0, 10, 10)])
    assert quarter.classes == [IGNORE]


def test_crop_keeps_classes_when_any_share_will_do():
    sample = Sample.uncut(IMAGE, boxes((0, 9, 10, 19)), classes(3))
    _, out, kept, *_ = geometry.crop(sample, [0, 0], [10, 10])
    np.testing.assert_array_equal(kept, [3])
    np.testing.assert_array_equal(out, [(0, 9, 10, 10)])


SIDE, PLACE = st.floats(0.5, 1.0), st.floats(0.0, 1.0)


@settings(max_examples=40, deadline=None)
@given(
    row=st.tuples(st.integers(0, 3), st.integers(0, 6), st.integers(17, 20), st.integers(34, 40)),
    ops=st.lists(
        st.sampled_from(["hflip", "resize"]) | st.tuples(SIDE, SIDE, PLACE, PLACE),
        min_size=2,
        max_size=5,
    ),
)
def test_whatever_was_done_a_positive_shows_its_share_of_the_whole(row, ops):
    """`full` follows the object uncut, in float64; the window of a crop is `corner` and `size`."""
    sample = Sample.uncut(IMAGE, boxes(row), classes(1))
    full = np.array(row, np.float64)
    for op in ops:
        height, width = sample.image.shape[:2]
        if op == "hflip":
            sample = geometry.hflip(sample)
            full = np.array([full[0], width - full[3], full[2], width - full[1]])
        elif op == "resize":
            sample = geometry.resize(sample, tf.constant([height + 7, width * 2]))
            full *= np.tile([(height + 7) / height, 2], 2)
        else:
            size = np.maximum(np.array([height, width]) * op[:2], 1).astype(int)
            corner = (np.array([height, width]) - size) * op[2:] // 1
            sample = geometry.crop(sample, corner, size, min_visible=0.3)
            full -= np.tile(corner, 2)
    area = (full[2] - full[0]) * (full[3] - full[1])
    np.testing.assert_allclose(sample.whole, area, rtol=1e-4)
    shown = geometry.area(sample.boxes).numpy() / area
    assert (shown[sample.classes.numpy() == 1] >= 0.3 - 1e-4).all()


@settings(max_examples=30, deadline=None)
@given(
    corner=st.tuples(st.integers(0, 19), st.integers(0, 39)),
    row=st.tuples(*[st.integers(0, 160).map(lambda i: i / 4)] * 4),
)
def test_crop_is_the_intersection(corner, row):
    row = np.array(
        [min(row[0], row[2]), min(row[1], row[3]), max(row[0], row[2]), max(row[1], row[3])]
    )
    size = np.array([20, 40]) - corner
    sample = Sample.uncut(IMAGE, boxes(row), classes(1))
    _, out, *_ = geometry.crop(sample, corner, size)
    first = np.maximum(row[:2], corner)
    last = np.minimum(row[2:], [20, 40])
    if (last > first).all():
        np.testing.assert_allclose(
            out[0], np.concatenate([first - corner, last - corner]), atol=1e-4
        )
    else:
        assert len(out) == 0


def test_two_flips_are_none():
    sample = Sample.uncut(IMAGE, boxes((2, 3, 8, 9), (0, 0, 20, 40)), classes(1, IGNORE))
    once = geometry.hflip(sample)
    np.testing.assert_array_equal(once[1], [(2, 31, 8, 37), (0, 0, 20, 40)])
    np.testing.assert_array_equal(once[0][:, 0], IMAGE[:, -1])
    for before, after in zip(sample, geometry.hflip(once), strict=True):
        np.testing.assert_array_equal(before, after)


def test_resize_scales_each_axis_by_itself():
    sample = Sample.uncut(IMAGE, boxes((2, 4, 10, 20)), classes(1))
    image, out, _, whole, scale = geometry.resize(sample, tf.constant([40, 20]))
    np.testing.assert_allclose(scale, [0.5, 2.0])
    assert image.shape == (40, 20, 3)
    np.testing.assert_allclose(out, [(4, 2, 20, 10)])
    np.testing.assert_allclose(whole, [16 * 8])


def test_pad_adds_zeros_below_and_right():
    out = geometry.pad(tf.ones([2, 3, 3]), (4, 5))
    assert out.shape == (4, 5, 3)
    assert float(tf.reduce_sum(out)) == 18 == float(tf.reduce_sum(out[:2, :3]))


def test_scale_channels_equals_broadcasting():
    image = RNG.uniform(0, 255, (5, 7, 3)).astype(np.float32)
    factor, offset = RNG.uniform(-1, 1, (2, 3)).astype(np.float32)
    out = geometry.scale_channels(tf.constant(image), factor, offset)
    np.testing.assert_allclose(out, image * factor + offset, rtol=1e-5, atol=1e-5)


def test_area_of_inverted_boxes_is_zero():
    np.testing.assert_array_equal(
        geometry.area(boxes((0, 0, 2, 3), (2, 3, 0, 0), (0, 5, 2, 3))), [6, 0, 0]
    )
