"""Augmentation: a painted rectangle stays under its box, whatever is done to the picture."""

import functools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientdet.config import Config
from efficientdet.input import augmentation, geometry, photometric
from efficientdet.input.chance import with_probability
from efficientdet.input.donors import cut_out
from efficientdet.input.geometry import Sample
from efficientdet.model.roles import IGNORE

HEIGHT, WIDTH = 60, 180
NOTHING = (tf.zeros([0, 4]), tf.zeros([0], tf.int32))
SEEDS = st.integers(0, 2**31 - 1)


def sample(*boxes, classes=None, size=(HEIGHT, WIDTH), colour=0):
    """A grey frame with a bright rectangle for each box: class c in channel c - 1."""
    classes = classes or list(range(1, len(boxes) + 1))
    image = np.full((*size, 3), 40, np.uint8)
    for (top, left, bottom, right), number in zip(boxes, classes, strict=True):
        image[top:bottom, left:right, (number - 1 + colour) % 3] = 240
    return Sample.uncut(
        tf.constant(image),
        tf.constant(np.reshape(boxes, (-1, 4)), tf.float32),
        tf.constant(classes, tf.int32, [len(boxes)]),
    )


def seen(image, channel) -> np.ndarray:
    """The box around the bright pixels of a channel."""
    rows, columns = np.nonzero(np.asarray(image)[..., channel] > 140)
    return np.array([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1])


def assert_painted(result, tolerance=1.0):
    """Each box, ignored or not, lies around the rectangle of its class."""
    image, boxes, classes, *_ = (np.asarray(part) for part in result)
    assert boxes.shape == (len(classes), 4)
    for box, number in zip(boxes, classes, strict=True):
        if number != IGNORE:
            np.testing.assert_allclose(box, seen(image, number - 1), atol=tolerance)


def random_hflip(frame, seed):
    return with_probability(0.5, lambda frame, _: geometry.hflip(frame), frame, seed)


def donor(box=(15, 50, 45, 70), image=None):
    image = sample(box, classes=[3])[0] if image is None else image
    return cut_out(image, tf.constant(box, tf.float32), tf.constant(3))


TWO = ((12, 20, 40, 60), (20, 100, 35, 115))
OPS = {
    "hflip": random_hflip,
    "crop": augmentation.random_crop,
    "scale": functools.partial(
        augmentation.random_scale, output_size=(64, 192), scale_min=0.5, scale_max=2.0
    ),
    "photometric": functools.partial(photometric.photometric, strength=0.3),
    "mosaic": lambda *args: augmentation.mosaic(
        [args[0], sample(TWO[1]), sample(TWO[0]), sample(TWO[1])], args[1]
    ),
    "copy_paste": lambda *args: augmentation.copy_paste(
        *args,
        donor(),
    ),
}
FOLLOWED = ["hflip", "crop", "scale", "photometric"]  # mosaic and copy-paste: see below


@pytest.mark.parametrize("name", OPS)
def test_the_same_in_eager_mode_and_in_a_dataset_on_any_number_of_threads(name):
    op, frame = OPS[name], sample(*TWO)
    seeds = np.stack([np.arange(8), np.arange(8) + 5], 1).astype(np.int32)
    eager = [op(frame, tf.constant(seed)) for seed in seeds]
    for calls in (1, 3):
        mapped = tf.data.Dataset.from_tensor_slices(seeds).map(lambda s: op(frame, s), calls)
        for first, second in zip(eager, mapped, strict=True):
            for a, b in zip(first, second, strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", FOLLOWED)
@settings(max_examples=12, deadline=None)
@given(seed=SEEDS)
def test_boxes_follow_the_paint(name, seed):
    result = OPS[name](sample(*TWO), tf.constant([seed, 1]))
    assert_painted(result, tolerance=2.5)


@pytest.mark.parametrize("name", OPS)
def test_frames_without_objects_pass(name):
    image, boxes, classes, *_ = OPS[name](sample(), tf.constant([3, 4]))
    assert len(boxes) == len(classes) and boxes.shape[1] == 4
    assert np.isfinite(np.asarray(image, np.float32)).all()


@pytest.mark.parametrize("name", ["hflip", "crop", "scale"])
def test_ignore_regions_move_with_the_picture_and_stay_ignored(name):
    frame = sample(TWO[0], TWO[1])
    frame = frame._replace(classes=tf.constant([1, IGNORE]))
    for seed in range(6):
        moved = OPS[name](frame, tf.constant([seed, 0]))
        image, boxes, classes, *_ = (np.asarray(part) for part in moved)
        assert 2 not in classes
        if (classes == IGNORE).sum() == 1 and 1 in classes:
            np.testing.assert_allclose(boxes[classes == IGNORE][0], seen(image, 1), atol=2.5)


def test_hflip_mirrors_half_of_the_seeds():
    frame = sample(TWO[0])
    flipped = [
        float(random_hflip(frame, tf.constant([seed, 0])).boxes[0, 1]) == WIDTH - 60
        for seed in range(200)
    ]
    assert 70 < sum(flipped) < 130


# --- several in a row ---


def coordinates(box):
    """A frame whose red is each pixel's row and whose green is its column.

    Small objects of class 2 in the corners draw windows away from `box`, of class 1.
    """
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    image = tf.constant(np.stack([rows, columns, 0 * rows], -1), tf.uint8)
    corners = [(y, x, y + 4, x + 4) for y in (0, HEIGHT - 4) for x in (0, WIDTH - 4)]
    boxes = tf.constant([box, *corners], tf.float32)
    return Sample.uncut(image, boxes, tf.constant([1, 2, 2, 2, 2]))


def zoom(image, box) -> float | None:
    """How many times larger than in the source frame the inside of `box` shows, by its pixels."""
    top, left, bottom, right = np.asarray(box).round().astype(int) + (2, 2, -2, -2)
    inside = np.asarray(image, np.float32)[top:bottom, left:right]
    if min(inside.shape[:2]) < 6:
        return None  # too few pixels to measure
    down = abs(inside[-1, 0, 0] - inside[0, 0, 0]) / (len(inside) - 1)
    along = abs(inside[0, -1, 1] - inside[0, 0, 1]) / (inside.shape[1] - 1)
    return 1 / (down * along)


CHAINED = {
    "hflip": random_hflip,
    "crop": augmentation.random_crop,
    "scale": OPS["scale"],
    "mosaic": lambda frame, seed: augmentation.mosaic(
        [frame._replace(image=tf.cast(tf.round(frame.image), tf.uint8)), *OTHERS], seed
    ),
}
OTHERS = [sample(TWO[1], classes=[2])] * 3


@pytest.mark.parametrize("chain", [("crop", "scale"), ("mosaic", "hflip", "crop")])
@settings(max_examples=12, deadline=None)
@given(seed=SEEDS)
def test_after_several_an_object_shows_its_least_share_or_is_ignored(chain, seed):
    box = (10, 30, 50, 150)
    frame = coordinates(box)
    for place, name in enumerate(chain):
        frame = CHAINED[name](frame, tf.constant([seed, place]))
    for box_now, number, whole in zip(frame.boxes, frame.classes, frame.whole, strict=True):
        if int(number) == 1 and (times := zoom(frame.image, box_now)):
            share = float(geometry.area(box_now)) / (40 * 120 * times)  # by the pixels alone
            assert share > 0.9 * augmentation.MIN_VISIBLE
            assert float(whole) == pytest.approx(40 * 120 * times, rel=0.25)


# --- scale ---


@pytest.mark.parametrize("scale, size", [(0.5, (32, 96)), (1.0, (64, 192)), (2.0, (64, 192))])
def test_scale_gives_the_size_and_the_factor(scale, size):
    image, boxes, *_, image_scale = augmentation.random_scale(
        sample(TWO[0]), [1, 2], output_size=(64, 192), scale_min=scale, scale_max=scale
    )
    assert tuple(image.shape[:2]) == size and image.dtype == tf.float32
    np.testing.assert_allclose(image_scale, 60 / 64 / scale, rtol=1e-6)
    if scale <= 1:
        np.testing.assert_allclose(boxes[0] * np.tile(image_scale, 2), TWO[0], rtol=1e-5)


def test_scale_covers_its_range():
    factors = [
        1
        / augmentation.random_scale(
            sample(), [seed, 2], output_size=(60, 180), scale_min=0.8, scale_max=1.5
        ).scale[1]
        for seed in range(60)
    ]
    assert 0.8 <= min(factors) < 0.9 and 1.4 < max(factors) <= 1.5


# --- crop ---


@settings(max_examples=25, deadline=None)
@given(
    seed=SEEDS,
    top=st.integers(0, HEIGHT - 8),
    left=st.integers(0, WIDTH - 8),
    height=st.integers(4, 25),
    width=st.integers(4, 80),
)
def test_crop_keeps_its_object_whole(seed, top, left, height, width):
    box = (top, left, min(top + height, HEIGHT), min(left + width, WIDTH))
    cropped = augmentation.random_crop(sample(box), tf.constant([seed, 0]))
    image, boxes, classes, *_ = cropped
    assert classes.numpy().tolist() == [1]
    side = boxes[0, 2:] - boxes[0, :2]
    np.testing.assert_allclose(side, [box[2] - box[0], box[3] - box[1]])
    assert HEIGHT // 2 <= image.shape[0] <= HEIGHT and WIDTH // 2 <= image.shape[1] <= WIDTH
    assert_painted(cropped)


def test_crop_goes_for_small_objects_more_often():
    large, small = (5, 0, 55, 80), (25, 150, 31, 156)
    whole = np.zeros(2)
    for seed in range(80):
        _, boxes, classes, *_ = augmentation.random_crop(
            sample(large, small), tf.constant([seed, 0])
        )
        sides = np.asarray(boxes[:, 2:] - boxes[:, :2])[np.asarray(classes) > 0]
        whole += [(sides == (50, 80)).all(1).any(), (sides == (6, 6)).all(1).any()]
    assert whole[1] > 70 > whole[0]


# --- light ---


def test_photometric_keeps_boxes_shape_and_range():
    for seed in range(10):
        image, boxes, classes, *_ = photometric.photometric(
            sample(*TWO), tf.constant([seed, 0]), strength=1.0
        )
        assert image.shape == (HEIGHT, WIDTH, 3) and image.dtype == tf.float32
        assert float(tf.reduce_min(image)) >= 0 and float(tf.reduce_max(image)) <= 255
        np.testing.assert_array_equal(boxes, np.array(TWO))
        np.testing.assert_array_equal(classes, [1, 2])


def test_photometric_strength_zero_changes_nothing_and_one_changes_light_and_colour():
    rng = np.random.default_rng(0)
    image = tf.constant(rng.integers(0, 256, (32, 48, 3), np.uint8))
    frame = Sample.uncut(image, *NOTHING)
    same, *_ = photometric.photometric(frame, [1, 1], strength=0.0)
    np.testing.assert_allclose(same, image, atol=1e-3)
    levels = [
        np.asarray(photometric.photometric(frame, [seed, 1], strength=1.0)[0]).mean((0, 1))
        for seed in range(30)
    ]
    light = np.mean(levels, 1)
    assert np.std(light) > 8 and np.std(np.array(levels) - light[:, None]) > 0.5


@pytest.mark.parametrize("factor", ["brightness", "contrast", "saturation", "hue"])
def test_colours_shift_as_they_should(factor, monkeypatch):
    """One factor at a time; saturation and hue leave the luminance as it is."""
    draws = {"brightness": 0, "contrast": 1, "saturation": 2, "hue": 3}
    chosen = np.zeros(4, np.float32)
    chosen[draws[factor]] = 0.5
    monkeypatch.setattr(tf.random, "stateless_uniform", lambda *args: tf.constant(chosen))
    rng = np.random.default_rng(0)
    image = tf.constant(rng.uniform(90, 160, (8, 8, 3)), tf.float32)
    out = photometric._shift_colours(image, tf.constant([0, 0]), 1.0)
    if factor == "brightness":
        np.testing.assert_allclose(out, image + 16, atol=1e-3)
    elif factor == "contrast":
        np.testing.assert_allclose(out, tf.image.adjust_contrast(image, 1.25), atol=1e-2)
    else:
        weights = np.array([0.299, 0.587, 0.114], np.float32)
        np.testing.assert_allclose(np.dot(out, weights), np.dot(image, weights), atol=0.1)
        assert float(tf.reduce_max(tf.abs(out - image))) > 3


def test_blur_softens_an_edge_and_keeps_flat_ground():
    image = np.zeros((20, 20, 3), np.float32)
    image[:, 10:] = 200
    frame = Sample.uncut(tf.constant(image), *NOTHING)
    out = np.asarray(photometric._blur(frame, tf.constant([1, 2])).image)
    np.testing.assert_allclose(out[:, 0], 0, atol=1e-3)
    np.testing.assert_allclose(out[:, -1], 200, rtol=1e-4)
    assert 20 < out[10, 9, 0] < 100 < out[10, 10, 0] < 180


def test_light_and_colour_cost_three_passes_over_the_pixels():
    """The matrix, the offset (which is part of it on the CPU), the clip; the mean only reads."""
    frame = tf.TensorSpec([None, None, 3], tf.float32)
    traced = tf.function(photometric._shift_colours, autograph=False)
    graph = traced.get_concrete_function(frame, tf.TensorSpec([2], tf.int32), 0.5).graph
    large = {"Conv2D", "BiasAdd", "ClipByValue", "Mul", "AddV2", "Minimum", "Maximum"}
    written = [op.type for op in graph.get_operations() if op.type in large
               and op.outputs[0].shape.rank in (None, 3, 4)]  # fmt: skip
    assert written == ["Conv2D", "BiasAdd", "ClipByValue"]


def test_colours_are_the_matrix_of_the_formula():
    """As written out: YIQ turned, contrast around the mean, brightness added, clipped."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (21, 34, 3)).astype(np.float32)
    draws = np.asarray(tf.random.stateless_uniform([4], [5, 6], -1.0, 1.0), np.float64)
    saturation, angle = 1 + 0.5 * draws[2], np.radians(20 * draws[3])
    turn = np.eye(3)
    turn[1:, 1:] = saturation * np.array(
        [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    )
    pixels = image @ (photometric._TO_RGB @ turn @ photometric._TO_YIQ).T
    mean = pixels.mean((0, 1))
    expected = np.clip((1 + 0.5 * draws[1]) * (pixels - mean) + mean + 32 * draws[0], 0, 255)
    out = photometric._shift_colours(tf.constant(image), tf.constant([5, 6]), 1.0)
    np.testing.assert_allclose(out, expected, atol=0.02)


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (30, 17)])
def test_blur_takes_images_of_any_size(size):
    image = np.random.default_rng(1).uniform(0, 255, (*size, 3)).astype(np.float32)
    blurred = photometric._blur(Sample.uncut(tf.constant(image), *NOTHING), tf.constant([1, 2]))
    assert blurred.image.shape == image.shape
    if min(size) >= 3:
        for axis in (0, 1):
            border = np.pad(
                image, [(3 * (axis == i), 3 * (axis == i)) for i in range(3)], "symmetric"
            )
            np.testing.assert_array_equal(photometric._repeat_edges(image, axis), border)


# --- mosaic ---


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_mosaic_shows_four_frames_with_their_boxes(seed):
    box = (25, 80, 40, 100)
    frames = [sample(box, classes=[1], colour=i) for i in range(3)]
    frames.append(sample(box, classes=[1], size=(50, 150)))
    mixed = augmentation.mosaic(frames, tf.constant([seed, 7]))
    image, boxes, classes, *_ = (np.asarray(part) for part in mixed)
    assert image.shape == (HEIGHT, WIDTH, 3) and image.dtype == np.uint8
    assert len(classes) == 4
    for i, (top, left, bottom, right) in enumerate(np.round(boxes).astype(int)):
        inside = image[top + 1 : bottom - 1, left + 1 : right - 1, i % 3]
        assert classes[i] == 1 and inside.size and inside.min() > 200
    sides = boxes[:, 2:] - boxes[:, :2]
    assert (sides >= 0.45 * np.array([15, 20])).all() and (sides <= 1.6 * np.array([15, 20])).all()


# --- copy-paste ---


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_pasted_object_keeps_its_rows_and_hides_nobody(seed):
    frame = sample(*TWO)
    image, boxes, classes, *_ = augmentation.copy_paste(frame, tf.constant([seed, 3]), donor())
    assert classes.numpy().tolist() in ([1, 2, 3], [1, 2])
    np.testing.assert_array_equal(boxes[:2], TWO)
    if len(classes) == 3:
        assert boxes[2, 0] == 15 and boxes[2, 2] == 45 and boxes[2, 3] - boxes[2, 1] == 20
        np.testing.assert_allclose(seen(image, 2), boxes[2], atol=2)
        assert float(tf.reduce_max(augmentation._hidden(boxes[2:], boxes[:2]))) <= 0.1


def test_the_border_of_a_paste_fades():
    flat = sample()
    image = np.full((HEIGHT, WIDTH, 3), 200, np.uint8)
    patch = donor(image=tf.constant(image))
    out, boxes, *_ = augmentation.copy_paste(flat, tf.constant([0, 0]), patch)
    top, left, bottom, right = np.asarray(boxes[0], int)
    row = np.asarray(out)[(top + bottom) // 2, :, 0].astype(int)
    assert (row[left:right] == 200).all()
    assert (np.diff(row[max(left - 5, 0) : left + 1]) >= 0).all() and row[left - 2] < 200
    np.testing.assert_array_equal(np.asarray(out)[: top - 5], np.asarray(flat.image)[: top - 5])


def test_nothing_is_pasted_where_there_is_no_room():
    full = sample((0, 0, HEIGHT, WIDTH))
    tall = sample((0, 5, 20, 15), size=(20, 60))
    for frame in (full, tall):
        for seed in range(5):
            result = augmentation.copy_paste(frame, tf.constant([seed, 0]), donor())
            for before, after in zip(frame, result, strict=True):
                np.testing.assert_array_equal(before, after)


# --- the list ---


class Others:
    """Other records: the first frame, and the object of `donor`."""

    def draw_sample(self, seed):
        return sample(TWO[1])

    def draw_donor(self, seed):
        return donor()


ALL = {
    "crop_prob": 1.0, "photometric": 0.5, "mosaic_prob": 1.0, "copy_paste_prob": 1.0,
    "image_size": "192x64",
}  # fmt: skip


def test_operations_are_those_of_the_config_in_one_order():
    names = [one.name for one in augmentation.operations(Config(**ALL), Others())]
    assert names == ["copy_paste", "mosaic", "crop", "hflip", "scale", "photometric"]
    config = Config(image_size="192x64", input_rand_hflip=False)
    assert [one.name for one in augmentation.operations(config, Others())] == ["scale"]


def test_a_further_operation_changes_no_other_s_random_numbers():
    todo = augmentation.operations(Config(**ALL | {"mosaic_prob": 0.0}), Others())
    nothing = augmentation.Operation("nothing", lambda frame, seed: frame, 0.5)
    seed = tf.constant([3, 4])
    before = augmentation.augment(sample(*TWO), seed, todo, closed=False)
    after = augmentation.augment(sample(*TWO), seed, [nothing, *todo], closed=False)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_closes_is_left_out_in_the_end():
    todo = augmentation.operations(Config(**ALL | {"copy_paste_prob": 0.0}), Others())
    mosaics = [one for one in todo if one.closes]
    assert [one.name for one in mosaics] == ["mosaic"]
    frame = sample(TWO[0])
    same = augmentation.augment(frame, [1, 2], mosaics, closed=True)
    np.testing.assert_array_equal(same.image, frame.image)
    mixed = augmentation.augment(frame, [1, 2], mosaics, closed=False)
    assert np.any(mixed.image != frame.image)


def test_what_has_fallen_is_what_was_applied():
    """Two that keep a tally in the picture: a certain one and one that closes among them."""

    def mark(place):
        row = tf.one_hot([place], WIDTH, 200, 40, dtype=tf.uint8)[..., tf.newaxis]

        def apply(frame, seed):
            return frame._replace(image=tf.maximum(frame.image, row))

        return apply

    plan = ((0.5, False), (1.0, False), (0.5, True), (0.3, False))
    todo = [
        augmentation.Operation(f"op{i}", mark(i), share, closes)
        for i, (share, closes) in enumerate(plan)
    ]
    for closed in (False, True):
        tallies = []
        for number in range(20):
            seed = tf.constant([number, 7])
            image = augmentation.augment(sample(), seed, todo, closed=closed).image
            tallies.append(np.asarray(image)[0, : len(todo), 0] == 200)
            fell = augmentation.fallen(seed, todo, closed=closed)
            np.testing.assert_array_equal(fell, tallies[-1])
        assert np.all(tallies, 0).tolist() == [False, True, False, False]
        assert np.any(tallies, 0).tolist() == [True, True, not closed, True]
    assert augmentation.fallen(seed, [], closed=False).shape == (0,)
