"""Every fault that the inspector knows, injected once."""

import io
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from efficientdet.dataset import rules as record_rules
from efficientdet.dataset.convert import convert
from efficientdet.dataset.example import Record
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.manifest import manifest_path
from efficientdet.dataset.options import Options
from efficientdet.dataset.selection import select_frames
from efficientdet.dataset.splits import drives
from efficientdet.dataset.tfrecord import expand_pattern
from efficientdet.inspection import checks
from efficientdet.inspection.checks import check_records
from efficientdet.inspection.report import facts

KITTI = LabelMap.kitti()
LINE = "image__object__kitti__label_line"


def png(width: int = 100, height: int = 40, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), (9, 90, 200)).save(buffer, kind)
    return buffer.getvalue()


# What the TF Object Detection API's KITTI script writes for a frame with one car.
GOOD = {
    "image/height": [40],
    "image/width": [100],
    "image/filename": [b"/kitti/image_2/000001.png"],
    "image/source_id": [b"/kitti/image_2/000001.png"],
    "image/key/sha256": [b""],
    "image/encoded": [png()],
    "image/format": [b"png"],
    "image/object/bbox/xmin": [0.1],
    "image/object/bbox/xmax": [0.5],
    "image/object/bbox/ymin": [0.2],
    "image/object/bbox/ymax": [0.75],
    "image/object/class/text": [b"car"],
    "image/object/class/label": [1],
    "image/object/difficult": [0],
    "image/object/truncated": [0.0],
}


def example(**changes) -> bytes:
    """`GOOD` with some features changed; None takes one away. Keys have _ for /."""
    values = dict(GOOD)
    for name, value in changes.items():
        key = next((key for key in GOOD if key.replace("/", "_") == name), None)
        key = key or name.replace("__", "/")
        values[key] = value
    features = {key: feature(value) for key, value in values.items() if value is not None}
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def feature(values: list) -> tf.train.Feature:
    if not values:
        return tf.train.Feature()
    if isinstance(values[0], bytes):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
    if isinstance(values[0], float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


@pytest.fixture
def report_on(tmp_path: Path):
    """Writes examples as one record and checks it."""

    def check(*examples: bytes, name: str = "x.record", **rules) -> checks.Report:
        with tf.io.TFRecordWriter(str(tmp_path / name)) as writer:
            for one in examples:
                writer.write(one)
        return check_records([tmp_path / name], **rules)

    return check


def test_records_of_the_object_detection_api_are_fine(report_on):
    report = report_on(example(), label_map=KITTI)
    assert report.ok and report.num_examples == 1
    assert report.class_texts == {1: {"car"}}


def test_truncation_may_be_a_whole_number_as_in_pascal(report_on):
    report = report_on(example(image_object_truncated=[1]))
    assert report.ok and report.sets[0].statistics.objects.truncated.tolist() == [1]


def test_records_of_automl_s_coco_script_are_fine(report_on):
    coco = {"image_source_id": [b"397133"], "image_filename": [b"000000397133.jpg"]}
    coco |= {"image_encoded": [png(kind="JPEG")], "image_format": [b"jpeg"]}
    coco |= {"image_object_class_text": [b"person"], "image_object_class_label": [44]}
    coco |= {"image_object_difficult": None, "image_object_truncated": None}
    crowd = {"image__object__is_crowd": [1], "image__object__area": [55.5]}
    report = report_on(
        example(**coco), example(**(coco | crowd | {"image_source_id": [b"397134"]}))
    )
    assert report.ok, report.text()
    assert report.sets[0].statistics.objects.trained.tolist() == [True, False]
    (warning,) = report.warnings
    assert warning.kind == checks.NO_MAP and warning.what.startswith("person has id 44: without a")


def test_a_class_has_one_id_also_where_no_map_tells_which(report_on):
    """A Car that is number 1 among cars of number 2, and a Van of KITTI's number."""

    def one(number: int, name: str, label: int) -> bytes:
        names = {"image_object_class_text": [name.encode()], "image_object_class_label": [label]}
        return example(**names, image_source_id=[f"00000{number}".encode()])

    same = report_on(one(1, "Car", 1), one(2, "Van", 2), one(3, "Rikscha", 3))
    assert same.ok and not same.warnings
    report = report_on(one(1, "Car", 2), one(2, "Car", 1), one(3, "Van", 2))
    assert [p.what for p in report.problems] == ["Car has the ids 1 and 2; a class has one"]
    (warning,) = report_on(one(1, "Car", 2), one(2, "Van", 1)).warnings
    assert warning.what.startswith("Van has id 1 and 1 class more: without a manifest ids are")


@pytest.mark.parametrize("side", ["xmin", "ymax"])
def test_pixel_coordinates_name_box_loss_and_what_they_should_be(report_on, side):
    boxes = {"xmin": [10.0], "ymin": [8.0], "xmax": [50.0], "ymax": [30.0]}
    report = report_on(example(**{f"image_object_bbox_{k}": v for k, v in boxes.items()}))
    (problem,) = report.problems
    assert problem.kind == record_rules.PIXELS
    assert "box_loss would stay at 0" in problem.kind
    assert problem.where == "x.record, record 0 (/kitti/image_2/000001.png)"
    assert "xmin 10 ymin 8 xmax 50 ymax 30" in problem.what
    assert "100x40" in problem.what and "xmin 0.1 ymin 0.2 xmax 0.5 ymax 0.75" in problem.what


FAULTS = {
    "outside": (record_rules.OUTSIDE, {"image_object_bbox_xmax": [1.01]}),
    "nan": (record_rules.OUTSIDE, {"image_object_bbox_xmax": [float("nan")]}),
    "negative": (record_rules.OUTSIDE, {"image_object_bbox_ymin": [-0.01]}),
    "inverted": (record_rules.ORDER, {"image_object_bbox_xmin": [0.6]}),
    "empty": (record_rules.ORDER, {"image_object_bbox_ymin": [0.75]}),
    "background": (record_rules.CLASS_ID, {"image_object_class_label": [0]}),
    "beyond the map": (record_rules.CLASS_ID, {"image_object_class_label": [9]}),
    "below": (record_rules.CLASS_ID, {"image_object_class_label": [-1]}),
    "another id": (record_rules.CLASS_ID, {"image_object_class_label": [2]}),
    "size": (record_rules.IMAGE, {"image_width": [1242]}),
    "format": (record_rules.IMAGE, {"image_format": [b"jpeg"]}),
    "hash": (record_rules.IMAGE, {"image_key_sha256": [b"0" * 64]}),
    "no image": (record_rules.IMAGE, {"image_encoded": [b"<html>"]}),
    "cut image": (record_rules.IMAGE, {"image_encoded": [png()[:-20]]}),
    "damaged image": (record_rules.IMAGE, {"image_encoded": [png()[:60] + b"!!!!" + png()[64:]]}),
    "missing key": (record_rules.SCHEMA, {"image_encoded": None}),
    "missing side": (record_rules.SCHEMA, {"image_object_bbox_xmin": None}),
    "wrong type": (record_rules.SCHEMA, {"image_height": [40.0]}),
    "lengths": (record_rules.SCHEMA, {"image_object_class_label": [1, 1]}),
    "line": (record_rules.LINE, {LINE: [b"Car 0 0 0 1 2 3 4 1 1 1 1 1 1 0"]}),
    "line class": (record_rules.LINE, {LINE: [b"Van 0 0 0 10 8 50 30 1 1 1 1 1 1 0"]}),
    "bad line": (record_rules.LINE, {LINE: [b"Car"]}),
    "text": (record_rules.SCHEMA, {"image_object_class_text": [b"\xff"]}),
    "long text": (record_rules.SCHEMA, {"image_object_class_text": [b"x" * 10_000_000]}),
    "crowd": (record_rules.SCHEMA, {"image__object__is_crowd": [2]}),
    "two images": (record_rules.SCHEMA, {"image_encoded": [png(), png()]}),
    "no value": (record_rules.SCHEMA, {"image_encoded": []}),
    "id beyond int32": (record_rules.CLASS_ID, {"image_object_class_label": [2**32 + 1]}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_has_its_message(report_on, name):
    kind, changes = FAULTS[name]
    report = report_on(example(), example(image_source_id=[b"2"], **changes), label_map=KITTI)
    assert kind in report.grouped(), report.problems
    assert all(", record 1 (2)" in one.where for one in report.problems if one.kind == kind)
    assert kind in report.text()


IDS = {
    b"": record_rules.NAME,
    b"a\0b": record_rules.NAME,
    b"a\nb": record_rules.NAME,
    b"../x": record_rules.NAME,
    b"a/../../x": record_rules.NAME,
    b"C:\\": record_rules.NAME,
    b"/": record_rules.NAME,
    b"x" * 300: record_rules.NAME,
    b"\xff\xfe": record_rules.SCHEMA,
}


@pytest.mark.parametrize("source_id", IDS)
def test_an_id_that_names_no_file_is_a_problem(report_on, source_id):
    (problem,) = report_on(example(image_source_id=[source_id])).problems
    assert problem.kind == IDS[source_id] and "source_id" in problem.what
    assert "\0" not in problem.what + problem.where and "\n" not in problem.what + problem.where


def test_folders_tell_frames_of_one_name_apart(report_on, tmp_path):
    first, second = (example(image_source_id=[name]) for name in (b"drive0/1", b"drive1/1"))
    assert report_on(first, second).ok
    report_on(first, name="a.record")
    report_on(second, name="b.record")
    assert check_records([tmp_path / "a.record", tmp_path / "b.record"]).ok
    names = (b"/data/drive0/1.png", b"/data/drive1/1.png")
    (problem,) = report_on(*(example(image_source_id=[name]) for name in names)).problems
    assert problem.kind == checks.SAME_FILE and problem.what == "first in x.record, record 0"


def test_sizes_are_held_against_the_manifest(make_kitti):
    path = converted(make_kitti(), "train", ["000000"])
    path.write_bytes(path.read_bytes() + path.read_bytes())
    problems = check_records([path]).grouped()[checks.MANIFEST]
    assert any("bytes, but train.record.manifest.json says" in problem.what for problem in problems)


def test_without_decoding_only_the_pixels_go_unseen(report_on):
    damaged = example(image_encoded=FAULTS["damaged image"][1]["image_encoded"])
    assert not report_on(damaged).ok
    assert report_on(damaged, decode_images=False).ok
    assert not report_on(example(image_encoded=[png()[:-20]]), decode_images=False).ok


def test_other_things_than_examples_do_not_end_in_a_traceback(report_on):
    report = report_on(b"\xff\xff\xff", b"", example())
    assert [one.kind for one in report.problems if "record 0" in one.where][
        0
    ] == record_rules.SCHEMA
    assert report.num_examples == 3


def test_duplicates_and_crowded_images(report_on):
    report = report_on(example(), example())
    (problem,) = report.problems
    assert problem.kind == checks.DUPLICATE and problem.what == "first in x.record, record 0"
    many = {key.replace("/", "_"): value * 3 for key, value in GOOD.items() if "object" in key}
    assert report_on(example(**many), max_instances=3).ok
    assert record_rules.CROWDED in report_on(example(**many), max_instances=2).grouped()
    many["image__object__is_crowd"] = [0, 0, 1]  # a region is no object
    assert record_rules.CROWDED not in report_on(example(**many), max_instances=2).grouped()


def test_sets_without_objects_and_boxes_divided_twice(report_on):
    empty = {key.replace("/", "_"): [] for key in GOOD if "object" in key}
    assert checks.NO_BOXES in report_on(example(**empty)).grouped()
    assert checks.NO_BOXES in report_on().grouped()
    assert report_on(example(), example(image_source_id=[b"2"], **empty)).ok
    boxes = {key: value for key, value in GOOD.items() if "bbox" in key}
    twice = {key.replace("/", "_"): [value[0] / 90] for key, value in boxes.items()}
    assert checks.TINY in report_on(example(**twice)).grouped()


def test_a_damaged_file_is_told_and_the_next_one_still_read(tmp_path, report_on):
    report_on(example(), example(image_source_id=[b"2"]), name="a.record")
    path = tmp_path / "a.record"
    path.write_bytes(path.read_bytes()[:-10])
    report_on(example(image_source_id=[b"3"]), name="b.record")
    report = check_records(expand_pattern(f"{tmp_path}/*.record"))
    (problem,) = report.problems
    assert problem.kind == checks.DAMAGED and problem.where == "a.record, record 1"
    assert report.num_examples == 2


def test_sample_looks_at_the_first_records_only(report_on):
    bad = example(image_source_id=[b"2"], image_object_class_label=[0])
    assert report_on(example(), bad, sample=1).ok
    assert not report_on(example(), bad).ok


def converted(root: Path, name: str, frames: list[str], **flags) -> Path:
    path = root / f"{name}.txt"
    path.write_text("\n".join(frames))
    options = Options("training", "file", split_file=path, **flags)
    convert(select_frames(root, options), root / f"{name}.record", KITTI, options, overwrite=True)
    return root / f"{name}.record"


CAR = "Car 0.00 0 -1.57 10.00 8.00 50.00 30.00 1.5 1.6 3.9 1.0 1.7 20.0 0.01"


def two_drives() -> list[str]:
    """Three frames of one drive, one of another."""
    first, second = (drive.frames for drive in drives()[:2])
    return [f"{frame:06d}" for frame in (*first[:3], second[0])]


def test_train_and_val_share_neither_frames_nor_drives(make_kitti):
    names = two_drives()
    root = make_kitti({name: [CAR] for name in names}, size=None)
    train = converted(root, "train", names[:2])
    report = check_records([train, converted(root, "val", names[3:])])
    assert report.ok and [facts(one)["drives"] for one in report.sets] == ["1", "1"]
    shared = [train, converted(root, "val", names[2:])]
    (problem,) = check_records(shared).problems
    assert problem.kind == checks.DRIVES and "1 of 2 frames of val.record" in problem.what
    assert check_records(shared, allow_shared_drives=True).ok
    kinds = check_records([train, converted(root, "val", names[1:])]).grouped()
    assert checks.LEAK in kinds and kinds[checks.LEAK][0].what == f"1 frame, first {names[1]}"


@pytest.mark.parametrize("manifest", [True, False])
def test_numbers_alone_name_no_drive(make_kitti, manifest):
    names = two_drives()
    root = make_kitti({name: [CAR] for name in names})  # of 100 x 40 pixels
    both = [converted(root, "train", names[:2]), converted(root, "val", names[2:])]
    if not manifest:
        for path in both:
            manifest_path(path).unlink()
    report = check_records(both)
    assert report.ok and not any("drives" in facts(one) for one in report.sets)


def test_testing_images_share_their_numbers_with_training_images_and_nothing_else(make_kitti):
    names = two_drives()
    root = make_kitti({name: [CAR] for name in names}, size=None)
    train = converted(root, "train", names)
    (root / "training").rename(root / "testing")
    options = Options("testing")
    manifest = convert(select_frames(root, options), root / "test.record", KITTI, options)
    assert manifest.drives == {}
    assert check_records([train, root / "test.record"]).ok


def test_the_manifest_gives_the_label_map_and_the_number_of_records(make_kitti):
    root = make_kitti()
    path = converted(root, "train", ["000000", "000001"], num_shards=2)
    files = expand_pattern(path)
    report = check_records(files)
    assert report.ok and report.label_map == KITTI
    assert [one.path.name for one in report.sets] == ["train.record"]
    files[1].write_bytes(files[1].read_bytes() + files[0].read_bytes())
    kinds = check_records(files).grouped()
    assert "3 records, the manifest says 2" in kinds[checks.MANIFEST][0].what
    assert checks.DUPLICATE in kinds


def test_nominal_image_sizes_show_against_the_raw_lines(make_kitti):
    """Boxes divided by 1242 x 375 whatever the image: in [0, 1], and wrong."""
    root = make_kitti()
    path = converted(root, "train", ["000000"])
    serialized = tf.data.TFRecordDataset(str(path)).as_numpy_iterator().next()
    broken = tf.train.Example.FromString(serialized)
    for side in ("xmin", "xmax"):
        values = broken.features.feature[f"image/object/bbox/{side}"].float_list.value
        values[:] = [value * 100 / 124.2 for value in values]
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(broken.SerializeToString())
    (problem,) = check_records([path]).problems
    assert problem.kind == record_rules.LINE and "the box is 8.05" in problem.what


def test_places_and_statistics_stay_side_by_side(report_on):
    sizeless = example(image_encoded=[b"no image"], image_width=None, image_height=None)
    report = report_on(sizeless, example(image_source_id=[b"2"]))
    (one,) = report.sets
    assert one.num_examples == 2 and one.statistics.source_ids == ["2"]
    assert [place.index for place in one.places] == [1]


def test_pixel_boxes_do_not_reach_the_statistics(report_on):
    report = report_on(example(image_object_bbox_xmax=[500.0]))
    assert len(report.sets[0].statistics.objects) == 0


def test_the_text_is_short(report_on):
    bad = [example(image_source_id=[b"%d" % i], image_object_class_label=[0]) for i in range(9)]
    lines = report_on(*bad).text(limit=3).splitlines()
    class_lines = lines[lines.index("class id (9 times)") :]
    assert class_lines[4] == "  ... and 6 more"


def test_record_boxes_are_left_top_right_bottom():
    record = Record.parse(example())
    np.testing.assert_allclose(record.boxes, [[0.1, 0.2, 0.5, 0.75]], rtol=1e-6)
