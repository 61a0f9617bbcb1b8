"""Random access reads what TensorFlow reads in sequence, and refuses what is no record."""

import numpy as np
import pytest
import tensorflow as tf

from efficientdet.dataset.example import Annotation, make_example
from efficientdet.dataset.image import ImageHeader
from efficientdet.errors import UserError
from efficientdet.input.donors import Donors
from efficientdet.input.record_index import RecordIndex, RecordObjects
from efficientdet.model.roles import IGNORE


@pytest.fixture
def files(tmp_path):
    """Records of 3 and 2, of different lengths; one is empty."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / "a.record", tmp_path / "b.record"]
    for path, lengths in zip(paths, ([10, 0, 5000], [77, 1]), strict=True):
        with tf.io.TFRecordWriter(str(path)) as writer:
            for length in lengths:
                writer.write(rng.bytes(length))
    return paths


def test_reads_what_tensorflow_reads(files):
    index = RecordIndex(files)
    expected = list(tf.data.TFRecordDataset([str(f) for f in files]).as_numpy_iterator())
    assert [index.read(i).numpy() for i in range(len(index))] == expected
    numbers = [4, 0, 2, 2, 1]
    mapped = tf.data.Dataset.from_tensor_slices(numbers).map(index.read, 3)
    assert list(mapped.as_numpy_iterator()) == [expected[i] for i in numbers]
    assert index.where(1).endswith("a.record record 1")
    assert index.where(3).endswith("b.record record 0")


@pytest.mark.parametrize("size", [3, 15, 5000])
def test_a_cut_file_is_named(files, size):
    data = files[0].read_bytes()
    files[0].write_bytes(data[:size])
    with pytest.raises(UserError, match="a.record.*cut off.*convert again"):
        RecordIndex(files)


def test_other_files_and_empty_ones_are_refused(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("these are no records at all")
    with pytest.raises(UserError, match="not a TFRecord"):
        RecordIndex([text])
    text.write_text("")
    with pytest.raises(UserError, match="no record inside"):
        RecordIndex([text])


def test_objects_of_every_record(tmp_path):
    items = [
        Annotation((0, 0, 10, 5), 2, "Cyclist"),
        Annotation((5, 5, 9, 9), 0, "DontCare", is_crowd=True),
    ]
    with tf.io.TFRecordWriter(str(tmp_path / "c.record")) as writer:
        for name, objects in (("a", items), ("b", [])):
            writer.write(make_example(b"x", ImageHeader("png", 10, 20), name, objects))
    first, second = RecordIndex([tmp_path / "c.record"]).objects()
    assert first.source_id == "a" and first.types == ("Cyclist", "DontCare")
    np.testing.assert_array_equal(first.classes, [2, IGNORE])
    np.testing.assert_allclose(first.boxes[0], [0, 0, 0.5, 0.5])
    assert second.boxes.shape == (0, 4) and second.types == ()


# --- donors of copy-paste ---


def record(*rows) -> RecordObjects:
    boxes, classes, types = zip(*rows, strict=True)
    return RecordObjects("x", np.array(boxes, np.float32), np.array(classes), types)


FREE, APART = (0.2, 0.2, 0.4, 0.3), (0.2, 0.6, 0.5, 0.8)


def numbered(number: tf.Tensor) -> tf.Tensor:
    """An image that shows the number of its record."""
    return tf.fill([100, 100, 3], tf.cast(number, tf.uint8))


def test_donors_are_whole_uncovered_and_of_the_wanted_class():
    donors = Donors(
        [
            record((FREE, 1, "Car"), (APART, 3, "Cyclist")),
            record((FREE, 3, "Cyclist"), ((0.1, 0.1, 0.5, 0.5), 1, "Car")),  # under a car
            record(((0.2, 0.9, 0.4, 1.0), 3, "Cyclist")),  # cut by the border
            record((FREE, IGNORE, "Cyclist")),  # filtered
        ],
        ["cyclist"],
    )
    assert len(donors) == 1
    patch = donors.draw(tf.constant([0, 0]), numbered)
    assert (int(patch.image[0, 0, 0]), int(patch.class_id)) == (0, 3)
    top, left, bottom, right = np.multiply(APART, 100)
    height, width = patch.box[2] - patch.box[0], patch.box[3] - patch.box[1]
    np.testing.assert_allclose([height, width], [bottom - top, right - left], rtol=1e-4)
    np.testing.assert_allclose(float(patch.top) + patch.box[0], top, rtol=1e-4)


def test_each_class_is_drawn_equally_often():
    records = [record((FREE, 2, "Pedestrian"))] * 9 + [record((FREE, 3, "Cyclist"))]
    donors = Donors(records, ["Pedestrian", "Cyclist"])
    draws = [donors.draw(tf.constant([seed, 0]), numbered) for seed in range(200)]
    labels = np.array([int(patch.class_id) for patch in draws])
    assert 70 < (labels == 3).sum() < 130
    assert len({int(patch.image[0, 0, 0]) for patch in draws}) == 10


def test_no_donor_is_none():
    assert not Donors([record((FREE, 1, "Car"))], ["Tram"])
    assert not Donors([record((FREE, 1, "Car"))], [])


def test_wanted_objects_are_learnt_ones_of_the_named_types():
    one = record((FREE, 1, "Car"), (APART, 3, "Cyclist"), (APART, IGNORE, "Cyclist"))
    np.testing.assert_array_equal(one.wanted(["cyclist", "Car"]), [2, 1, 0])
