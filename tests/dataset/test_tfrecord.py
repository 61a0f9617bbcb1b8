"""Record files: patterns, shards, places, damage."""

import io

import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientdet.dataset import tfrecord
from efficientdet.dataset.example import Annotation, make_example
from efficientdet.dataset.image import ImageHeader
from efficientdet.errors import UserError

HEADER = ImageHeader("png", 40, 100)
CAR = Annotation((10, 8, 50, 30), 1, "Car", truncated=0.25, occluded=2, line="Car 0.25 2 ...")


def write(path, *examples):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for example in examples:
            writer.write(example)
    return path


def test_records_come_with_the_place_to_read_them_again(tmp_path):
    examples = [make_example(b"x" * n, HEADER, str(n), [CAR]) for n in (10, 3000, 1)]
    path = write(tmp_path / "a.record", *examples)
    places, read = zip(*tfrecord.read_records(path), strict=True)
    assert list(read) == examples
    assert [place.read() for place in places] == examples
    assert str(places[1]) == "a.record, record 1"
    assert len(list(tfrecord.read_records(path, limit=2))) == 2


def test_a_damaged_record_is_named_by_number(tmp_path):
    examples = [make_example(b"x" * 400, HEADER, "1", [CAR])] * 3
    path = write(tmp_path / "a.record", *examples)
    data = bytearray(path.read_bytes())
    path.write_bytes(data[:-3])
    with pytest.raises(UserError, match="a.record, record 2: the file ends inside it"):
        list(tfrecord.read_records(path))
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match="a.record, record 1: its checksum does not match"):
        list(tfrecord.read_records(path))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=200), max_size=4))
def test_tensorflow_writes_the_same_bytes(tmp_path_factory, records):
    file = io.BytesIO()
    for record in records:
        tfrecord.write_record(file, record)
    path = write(tmp_path_factory.mktemp("tf") / "a.record", *records)
    assert path.read_bytes() == file.getvalue()


def read_by_tensorflow(path):
    """Its records up to the damage, and whether there was some."""
    found = []
    try:
        found.extend(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    except tf.errors.DataLossError:
        return found, True
    return found, False


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_tensorflow_refuses_the_same_files(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("damage") / "a.record"
    whole = bytearray(write(path, b"one", b"", b"three").read_bytes())
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(0, 255))
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    found = []
    try:
        found.extend(record for _, record in tfrecord.read_records(path))
    except UserError as error:
        # TensorFlow takes a record that is cut off within its first bytes for the end; the index
        # of the input pipeline does not.
        assert read_by_tensorflow(path)[1] or "the file ends inside it" in str(error)
    else:
        assert read_by_tensorflow(path) == (found, False)


def touch(folder, *names):
    for name in names:
        (folder / name).write_bytes(b"")
    return folder


def test_bytes_after_the_last_record_are_told(tmp_path):
    path = write(tmp_path / "a.record", make_example(b"x", HEADER, "1", [CAR]))
    path.write_bytes(path.read_bytes() + b"12345678")
    with pytest.raises(UserError, match="a.record, record 1: the file ends inside it"):
        list(tfrecord.read_records(path))


def test_patterns_are_globs_lists_and_shards(tmp_path):
    touch(tmp_path, "b.record", "a.record", "a.record.manifest.json", "c[1].record")
    touch(tmp_path, *(f"t.record-0000{i}-of-00003" for i in range(3)))
    touch(tmp_path, *(f"coco-0000{i}-of-00002.tfrecord" for i in range(2)))

    def names(pattern):
        return [path.name for path in tfrecord.expand_pattern(pattern)]

    assert names(f"{tmp_path}/a.record*") == ["a.record"]
    assert names(f"{tmp_path}/b.record, {tmp_path}/a.*") == ["b.record", "a.record"]
    assert names(f"{tmp_path}/c[1].record") == ["c[1].record"]
    assert names(f"{tmp_path}/t.record") == [f"t.record-0000{i}-of-00003" for i in range(3)]
    assert len(names(f"{tmp_path}/coco*")) == 2
    assert names([tmp_path / "a.record", tmp_path / "a.record"]) == ["a.record"]


@pytest.mark.parametrize("pattern", ["nothing", "*.record", ""])
def test_an_empty_pattern_is_an_error_that_quotes_it(tmp_path, pattern, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as error:
        tfrecord.expand_pattern(pattern)
    assert str(error.value).startswith(f"{pattern or 'empty pattern'}: ")


@pytest.mark.parametrize("form", ["t.record-{:05d}-of-00003", "t-{:05d}-of-00003.tfrecord"])
def test_a_missing_shard_is_an_error(tmp_path, form):
    touch(tmp_path, form.format(0), form.format(2))
    with pytest.raises(UserError, match="00001-of-00003.*: this shard is missing"):
        tfrecord.expand_pattern(f"{tmp_path}/t*")
