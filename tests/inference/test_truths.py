import io

import pytest
import tensorflow as tf
from PIL import Image

from efficientdet.dataset.example import Annotation, make_example
from efficientdet.dataset.image import read_header
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UserError
from efficientdet.inference.truths import read_truths

VAN_LINE = "Van 0.25 1 -1.5 -1.0 20.0 110.0 70.0 1.5 1.6 4.0 0.0 1.7 20.0 0.1"
LABEL_MAP = LabelMap((("Car", "Van"), ("Pedestrian",)))


def png():
    buffer = io.BytesIO()
    Image.new("RGB", (200, 80)).save(buffer, "PNG")
    return buffer.getvalue()


def write_record(path, *examples):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for example in examples:
            writer.write(example)
    return path


def example(source_id, *annotations):
    encoded = png()
    return make_example(encoded, read_header(encoded), source_id, annotations)


def without(serialized, *features):
    """The example without some of its features, as other tools write it."""
    message = tf.train.Example.FromString(serialized)
    for feature in features:
        del message.features.feature[feature]
    return message.SerializeToString()


def test_objects_are_what_their_raw_lines_say(tmp_path):
    """Unclipped, of the type before merging, and also where a filter made them ignored."""
    kept = Annotation((0, 20, 110, 70), 1, "Van", line=VAN_LINE)
    filtered = Annotation((0, 20, 110, 70), 0, "Van", is_crowd=True, line=VAN_LINE)
    record = write_record(tmp_path / "a.record", example("000003", kept, filtered), example("x"))
    one, two = read_truths([record], LABEL_MAP)
    assert (one.source_id, one.width, one.height) == ("000003", 200, 80)
    assert [(o.type, o.left, o.occluded, o.truncated) for o in one.objects] == [
        ("Van", -1.0, 1, 0.25)
    ] * 2
    assert (two.source_id, two.objects) == ("x", [])


def test_records_without_lines_and_sizes(tmp_path):
    serialized = example(
        "7",
        Annotation((10, 20, 110, 70), 1, "van"),
        Annotation((0, 0, 50, 40), 2, "person"),
        Annotation((0, 0, 200, 80), 0, "DontCare", is_crowd=True),
    )
    serialized = without(serialized, "image/object/kitti/label_line", "image/height", "image/width")
    (truth,) = read_truths([write_record(tmp_path / "a.record", serialized)], LABEL_MAP)
    assert (truth.width, truth.height) == (200, 80)
    assert [o.type for o in truth.objects] == ["Van", "Pedestrian", "DontCare"]
    first = truth.objects[0]
    assert first.box == pytest.approx((10, 20, 110, 70))


def test_an_id_that_the_label_map_lacks_is_named(tmp_path):
    serialized = without(
        example("7", Annotation((10, 20, 110, 70), 3, "Tram")), "image/object/kitti/label_line"
    )
    record = write_record(tmp_path / "a.record", serialized)
    with pytest.raises(UserError, match=r"record 0 \(7\): .* \(Tram\) has id 3; .*ends at 2"):
        read_truths([record], LABEL_MAP)


def test_what_training_refuses_evaluation_refuses(tmp_path):
    line = VAN_LINE.replace("-1.0", "30.0")  # the box says 0
    odd = example("7", Annotation((0, 20, 110, 70), 1, "Van", line=line))
    record = write_record(tmp_path / "a.record", example("1"), odd)
    with pytest.raises(UserError, match=r"a.record, record 1 \(7\): box or class contradicts"):
        read_truths([record], LABEL_MAP)
    assert len(read_truths([record], LABEL_MAP, num_images=1)) == 1
    frame = read_truths([record], LABEL_MAP, strict=False)[1]
    assert frame.objects[0].left == 30


@pytest.mark.parametrize("names", [("7", "7"), ("/a/7.png", "/b/7.png"), ("a/7", "a/7.jpg")])
def test_two_frames_of_one_result_file_are_refused(tmp_path, names):
    record = write_record(tmp_path / "a.record", *map(example, names))
    with pytest.raises(UserError, match="record 1 .*: its results .* of a.record, record 0"):
        read_truths([record], LABEL_MAP)


def test_a_stated_size_of_half_is_none(tmp_path):
    serialized = without(
        example("7", Annotation((10, 20, 110, 70), 1, "Van")),
        "image/height", "image/object/kitti/label_line",
    )  # fmt: skip
    (truth,) = read_truths([write_record(tmp_path / "a.record", serialized)], LABEL_MAP)
    assert (truth.width, truth.height) == (200, 80)
    assert truth.objects[0].box == pytest.approx((10, 20, 110, 70))
