"""Examples there and back, as bytes, tensors and values."""

import hashlib

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientdet.dataset.example import (
    Annotation,
    Record,
    make_example,
    make_examples,
    parse_example,
    without_pixels,
)
from efficientdet.dataset.example_message import Example, size_with
from efficientdet.dataset.image import ImageHeader

HEADER = ImageHeader("png", 40, 100)
CAR = Annotation((10, 8, 50, 30), 1, "Car", truncated=0.25, occluded=2, line="Car 0.25 2 ...")
REGION = Annotation((70, 0, 100, 40), 0, "DontCare", is_crowd=True, line="DontCare -1 ...")


def test_boxes_are_shares_of_the_image_and_come_back_as_y_x():
    example = parse_example(make_example(b"image", HEADER, "000007", [CAR, REGION]))
    expected = [[0.2, 0.1, 0.75, 0.5], [0.0, 0.7, 1.0, 1.0]]
    np.testing.assert_allclose(example["boxes"], expected, rtol=1e-6)
    assert example["image"] == b"image" and example["source_id"] == b"000007"
    assert (int(example["height"]), int(example["width"])) == (40, 100)
    assert example["classes"].numpy().tolist() == [1, 0]
    assert example["is_crowd"].numpy().tolist() == [0, 1]
    assert example["class_text"].numpy().tolist() == [b"Car", b"DontCare"]
    assert example["label_lines"].numpy().tolist() == [b"Car 0.25 2 ...", b"DontCare -1 ..."]


def test_the_empty_image_has_empty_tensors():
    example = parse_example(make_example(b"image", HEADER, "000007", []))
    assert example["boxes"].shape == (0, 4)
    for key in ("classes", "is_crowd", "class_text", "label_lines"):
        assert example[key].shape == (0,)


def test_plain_tensorflow_reads_the_standard_keys():
    serialized = make_example(b"image", HEADER, "000007", [CAR, REGION], "000007.png")
    keys = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "image/format": tf.io.FixedLenFeature([], tf.string),
        "image/height": tf.io.FixedLenFeature([], tf.int64),
        "image/width": tf.io.FixedLenFeature([], tf.int64),
        "image/filename": tf.io.FixedLenFeature([], tf.string),
        "image/source_id": tf.io.FixedLenFeature([], tf.string),
        "image/key/sha256": tf.io.FixedLenFeature([], tf.string),
        "image/object/class/text": tf.io.VarLenFeature(tf.string),
        "image/object/class/label": tf.io.VarLenFeature(tf.int64),
        "image/object/kitti/label_line": tf.io.VarLenFeature(tf.string),
    }
    keys |= {
        f"image/object/{name}": tf.io.VarLenFeature(tf.float32)
        for name in ("bbox/xmin", "bbox/xmax", "bbox/ymin", "bbox/ymax", "area", "truncated")
    }
    keys |= {
        f"image/object/{name}": tf.io.VarLenFeature(tf.int64)
        for name in ("is_crowd", "difficult", "occluded")
    }
    parsed = tf.io.parse_single_example(serialized, keys)
    assert parsed["image/format"] == b"png" and parsed["image/filename"] == b"000007.png"
    assert parsed["image/key/sha256"] == hashlib.sha256(b"image").hexdigest().encode()
    np.testing.assert_allclose(parsed["image/object/bbox/xmax"].values, [0.5, 1.0])
    np.testing.assert_allclose(parsed["image/object/area"].values, [880, 1200])
    assert parsed["image/object/occluded"].values.numpy().tolist() == [2, 0]


@pytest.mark.parametrize("size", [0, 1, 60, 80, 110, 127, 128, 16_300, 16_383, 16_384, 2_097_152])
def test_an_image_is_put_in_as_protobuf_does_it(size):
    encoded = bytes(size)
    parts, frame = make_examples(encoded, HEADER, "000007", [CAR, REGION], "000007.png")
    whole = b"".join(parts)
    message = Example.FromString(frame)
    message.features.feature["image/encoded"].bytes_list.value.append(encoded)
    assert whole == message.SerializeToString(deterministic=True)
    assert frame == without_pixels(whole) and len(frame) < 2000
    assert size_with("image/encoded", encoded, Example.FromString(frame)) == len(whole)


def test_records_of_other_scripts_have_defaults():
    def feature(**kind):
        return tf.train.Feature(**kind)

    floats = feature(float_list=tf.train.FloatList(value=[0.5]))
    features = {f"image/object/bbox/{side}": floats for side in ("xmin", "xmax", "ymin", "ymax")}
    features["image/encoded"] = feature(bytes_list=tf.train.BytesList(value=[b"x"]))
    features["image/object/class/label"] = feature(int64_list=tf.train.Int64List(value=[3]))
    example = tf.train.Example(features=tf.train.Features(feature=features))
    parsed = parse_example(example.SerializeToString())
    assert parsed["is_crowd"].numpy().tolist() == [0]
    assert parsed["label_lines"].numpy().tolist() == [b""]
    assert parsed["class_text"].numpy().tolist() == [b""]
    assert int(parsed["height"]) == 0 and parsed["source_id"] == b""


LISTS = st.one_of(
    st.lists(st.binary(max_size=9), max_size=3).map(lambda some: ("bytes_list", some)),
    st.lists(st.floats(width=32), max_size=3).map(lambda some: ("float_list", some)),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3).map(lambda some: ("int64_list", some)),
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), LISTS, max_size=4))
def test_the_message_is_that_of_tensorflow(features):
    serialized = []
    for kind in (Example, tf.train.Example):
        example = kind()
        for key, (name, values) in features.items():
            stored = getattr(example.features.feature[key], name)
            stored.SetInParent()
            stored.value.extend(values)
        serialized.append(example.SerializeToString(deterministic=True))
    assert serialized[0] == serialized[1]
    again = Example.FromString(serialized[0]).SerializeToString(deterministic=True)
    assert again == serialized[0]


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=40), st.integers(0, 60))
def test_what_is_no_example_for_tensorflow_is_none_here(noise, place):
    data = make_example(b"x", HEADER, "1", [])
    data = data[:place] + noise + data[place + len(noise) :]
    read = []
    for kind in (Example, tf.train.Example):
        try:
            read.append(kind.FromString(data).SerializeToString(deterministic=True))
        except DecodeError:
            read.append(None)
    assert read[0] == read[1]


def test_parse_example_works_inside_tf_data():
    dataset = tf.data.Dataset.from_tensors(make_example(b"x", HEADER, "1", [CAR]))
    dataset = dataset.map(parse_example)
    assert dataset.element_spec["boxes"].shape.as_list() == [None, 4]
    assert next(iter(dataset))["boxes"].shape == (1, 4)


@pytest.mark.parametrize(
    "bad",
    [
        Annotation((10, 8, 101, 30), 1, "Car"),
        Annotation((-1, 8, 50, 30), 1, "Car"),
        Annotation((50, 8, 50, 30), 1, "Car"),
        Annotation((float("nan"), 8, 50, 30), 1, "Car"),
        Annotation((10, 8, 50, 30), 0, "Car"),
    ],
)
def test_nonsense_cannot_be_written(bad):
    with pytest.raises(ValueError, match="000007"):
        make_example(b"x", HEADER, "000007", [bad])


SIDES = st.lists(st.floats(0, 1, width=32), min_size=2, max_size=2, unique=True).map(sorted)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(SIDES, SIDES, TEXT, st.integers(1, 99)), max_size=5))
def test_example_and_record_are_inverse(objects):
    annotations = [
        Annotation((x[0] * 100, y[0] * 40, x[1] * 100, y[1] * 40), label, text, line=text)
        for x, y, text, label in objects
        if x[0] * 100 < x[1] * 100 and y[0] * 40 < y[1] * 40
    ]
    record = Record.parse(make_example(b"image", HEADER, "id", annotations))
    assert record.problems == []
    assert (record.labels, record.texts) == (
        [item.label for item in annotations],
        [item.text for item in annotations],
    )
    assert record.lines == [item.line for item in annotations]
    boxes = np.array([item.box for item in annotations]).reshape(-1, 4)
    np.testing.assert_allclose(record.boxes * [100, 40, 100, 40], boxes, atol=1e-4)


def test_the_bytes_are_always_the_same():
    assert make_example(b"x", HEADER, "1", [CAR]) == make_example(b"x", HEADER, "1", [CAR])
