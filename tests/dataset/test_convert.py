"""The converter's rules, one by one, on a folder of four small frames."""

import dataclasses
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from efficientdet.dataset import conversion
from efficientdet.dataset.convert import convert, dry_run
from efficientdet.dataset.example import Record, make_example
from efficientdet.dataset.frame_conversion import annotate, clip_box, convert_frame
from efficientdet.dataset.image import ImageHeader
from efficientdet.dataset.kitti import CLASSES, Frame, find_frames, parse_labels
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.manifest import Manifest, manifest_path
from efficientdet.dataset.options import Options, parse_classes
from efficientdet.dataset.selection import Selection, select_frames
from efficientdet.dataset.tfrecord import read_records
from efficientdet.errors import UsageError, UserError

KITTI = LabelMap.kitti()
ALL = Options(subset="all")
CAR = "Car 0.00 0 -1.57 10.00 8.00 50.00 30.00 1.5 1.6 3.9 1.0 1.7 20.0 0.01"


def records(output: Path) -> dict[str, Record]:
    shards = [output] if output.exists() else sorted(output.parent.glob(f"{output.name}-*-of-*"))
    parsed = [Record.parse(data) for path in shards for _, data in read_records(path)]
    return {record.source_id: record for record in parsed}


def run(root: Path, options: Options = ALL, label_map: LabelMap = KITTI, **how) -> Manifest | None:
    return convert(select_frames(root, options), root / "out.record", label_map, options, **how)


def test_every_field_of_a_frame(make_kitti):
    root = make_kitti()
    run(root)
    record = records(root / "out.record")["000000"]
    image = root / "training" / "image_2" / "000000.png"
    assert record.encoded == image.read_bytes() and record.format == "png"
    assert (record.width, record.height) == (100, 40)
    assert record.texts == ["Car", "Van", "DontCare"]
    assert record.labels == [1, 2, 0] and record.is_crowd == [0, 0, 1]
    np.testing.assert_allclose(
        record.boxes,
        [[0.1, 0.2, 0.5, 0.75], [0.6025, 0.2, 0.9, 0.7625], [0.7, 0.05, 0.8, 0.15]],
        rtol=1e-6,
    )
    lines = (root / "training" / "label_2" / "000000.txt").read_text().splitlines()
    assert record.lines == lines
    assert not records(root / "out.record")["000003"].labels


def test_the_manifest_counts(make_kitti):
    root = make_kitti()
    manifest = run(root)
    assert manifest == Manifest.read(root / "out.record")
    assert manifest.num_examples == 4 and manifest.max_objects_per_image == 3
    assert manifest.class_counts == {"Car": 2, "Van": 1, "Pedestrian": 1, "DontCare": 1}
    assert manifest.difficulty_counts["Van"] == {"easy": 0, "moderate": 0, "hard": 0, "beyond": 1}
    assert manifest.size_counts["Car"] == {"small": 2, "medium": 0, "large": 0}
    assert manifest.image_sizes == {"100x40": 4} and len(manifest.source_ids) == 4
    assert manifest.drives == {} and manifest.options["subset"] == "all"
    assert manifest.shards_exist(root) and len(manifest.shards[0].sha256) == 64
    assert "4 images" in manifest.summary()


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (Options(subset="all", classes=("Car",)), ["Car"]),
        (Options(subset="all", min_box_height=22.2), ["Van"]),
        (Options(subset="all", max_occlusion=0), ["Car"]),
        (Options(subset="all", max_truncation=0.1), ["Car"]),
    ],
)
def test_what_a_filter_takes_out_is_ignored_not_deleted(make_kitti, options, kept):
    root = make_kitti()
    manifest = run(root, options)
    record = records(root / "out.record")["000000"]
    assert record.texts == ["Car", "Van", "DontCare"] and all(record.lines)
    for text, label, crowd in zip(record.texts, record.labels, record.is_crowd, strict=True):
        assert (label > 0, crowd) == ((True, 0) if text in kept else (False, 1))
    assert sum(manifest.ignored_counts.values()) >= 1
    assert manifest.class_counts["Van"] == 1


def test_what_the_label_map_does_not_name_is_ignored_and_merged_classes_share_an_id(make_kitti):
    root = make_kitti()
    manifest = run(root, label_map=LabelMap((("Car", "Van"),)))
    made = records(root / "out.record")
    assert made["000000"].labels == [1, 1, 0] and made["000000"].texts[1] == "Van"
    assert made["000001"].labels == [0] and made["000001"].is_crowd == [1]
    assert manifest.ignored_counts == {"Pedestrian": 1}


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_bytes_do_not_depend_on_the_number_of_workers(make_kitti, workers):
    root = make_kitti()
    run(root, num_workers=3)
    expected = (root / "out.record").read_bytes(), manifest_path(root / "out.record").read_bytes()
    run(root, num_workers=workers, overwrite=True)
    found = (root / "out.record").read_bytes(), manifest_path(root / "out.record").read_bytes()
    assert found == expected


def test_shards_hold_the_frames_in_order(make_kitti):
    root = make_kitti()
    run(root)
    manifest = run(root, dataclasses.replace(ALL, num_shards=3), overwrite=True)
    assert [shard.num_examples for shard in manifest.shards] == [1, 1, 2]
    assert list(records(root / "out.record")) == ["000000", "000001", "000002", "000003"]
    assert not (root / "out.record").exists(), "the single file of the run before is gone"
    run(root, overwrite=True)
    assert not list(root.glob("out.record-*"))
    with pytest.raises(UsageError, match="--num_shards=5: expected 1 to 4"):
        run(root, dataclasses.replace(ALL, num_shards=5), overwrite=True)


def test_a_second_run_is_up_to_date_or_asks_for_overwrite(make_kitti):
    root = make_kitti()
    assert run(root) is not None
    assert run(root) is None
    with pytest.raises(UserError, match="--min_box_height was 0.0.*--overwrite replaces it"):
        run(root, dataclasses.replace(ALL, min_box_height=9.0))
    label = root / "training" / "label_2" / "000003.txt"
    label.write_text(f"{CAR}\n")
    with pytest.raises(UserError, match="made from other input"):
        run(root)
    assert run(root, overwrite=True).class_counts["Car"] == 3
    (root / "out.record").write_bytes(b"")
    with pytest.raises(UserError, match="--overwrite"):
        run(root)
    manifest_path(root / "out.record").unlink()
    with pytest.raises(UserError, match="--overwrite"):
        run(root)


def test_a_run_that_dies_leaves_nothing_under_the_final_name(make_kitti, monkeypatch):
    root = make_kitti()

    def power_cut(frame, *_):
        if frame.source_id == "000002":
            raise KeyboardInterrupt
        return convert_frame(frame, KITTI, ALL)

    monkeypatch.setattr(conversion, "convert_frame", power_cut)
    with pytest.raises(KeyboardInterrupt):
        run(root)
    assert [path.name for path in root.iterdir()] == ["training"]


def test_a_failed_overwrite_keeps_the_old_record(make_kitti):
    root = make_kitti()
    run(root)
    old = (root / "out.record").read_bytes()
    (root / "training" / "label_2" / "000002.txt").write_text("Bus\n")
    with pytest.raises(UserError):
        run(root, overwrite=True)
    assert (root / "out.record").read_bytes() == old
    assert Manifest.read(root / "out.record").num_examples == 4


def test_an_output_that_cannot_be_written_is_one_line(make_kitti):
    root = make_kitti()
    (root / "file").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be written"):
        convert(select_frames(root, ALL), root / "file" / "out.record", KITTI, ALL)


def test_dry_run_writes_nothing(make_kitti):
    root = make_kitti()
    manifest = dry_run(select_frames(root, ALL), KITTI, ALL)
    assert manifest.num_examples == 4 and not (root / "out.record").exists()


def break_image(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "truncated":
        path.write_bytes(data[: len(data) // 2])
    elif how == "text":
        path.write_bytes(b"<html>404</html>")


@pytest.mark.parametrize(
    ("how", "what"),
    [
        ("missing", "000001.txt: no image 000001.png or .jpg for this label"),
        ("empty", "000001.png: empty file"),
        ("truncated", "000001.png: truncated PNG"),
        ("text", "000001.png: neither a PNG nor a JPEG"),
    ],
)
def test_bad_images_are_named(make_kitti, how, what):
    root = make_kitti()
    break_image(root / "training" / "image_2" / "000001.png", how)
    with pytest.raises(UserError) as error:
        run(root)
    assert what in str(error.value) and "1 problem " in str(error.value)
    assert not (root / "out.record").exists()


LABEL_FAULTS = {
    "Car 0 0 0 1 2 3": ":2: 7 columns, expected 15",
    CAR.replace("10.00", "nan"): ":2: 'nan' is not a finite number",
    CAR.replace("10.00", "50.00"): ":2: box 50 8 50 30 is empty",
    CAR.replace("50.00", "101.5"): ":2: box 10 8 101.5 30 is 1.5 px outside the image of 100x40",
    CAR.replace("10.00 8.00 50.00", "-2 8 50"): "2 px outside",
    CAR.replace("0.00 0", "0.00 4"): ":2: occluded is 4",
    CAR.replace("0.00 0", "1.50 0"): ":2: truncated is 1.5",
}


@pytest.mark.parametrize("line", LABEL_FAULTS)
def test_bad_labels_name_file_and_line(make_kitti, line):
    root = make_kitti()
    path = root / "training" / "label_2" / "000001.txt"
    path.write_text(f"{CAR}\n{line}\n")
    with pytest.raises(UserError) as error:
        run(root)
    assert f"{path}" in str(error.value) and LABEL_FAULTS[line] in str(error.value)


def test_a_missing_label_and_bytes_that_are_no_text(make_kitti):
    root = make_kitti()
    (root / "training" / "label_2" / "000001.txt").unlink()
    (root / "training" / "label_2" / "000002.txt").write_bytes(b"Car \xff\xfe\n")
    with pytest.raises(UserError) as error:
        run(root)
    assert "000001.png: no label 000001.txt for this image" in str(error.value)
    assert "000002.txt:1: not UTF-8" in str(error.value)


def test_all_errors_are_counted_and_twenty_printed(make_kitti):
    root = make_kitti({f"{i:06d}": ["Bus"] * 3 for i in range(9)})
    with pytest.raises(UserError) as error:
        run(root)
    message = str(error.value)
    assert message.startswith("27 problems") and message.endswith("... and 7 more")
    assert message.count("\n") == 21


def test_skip_bad_goes_on_and_lists_what_is_left_out(make_kitti):
    root = make_kitti()
    break_image(root / "training" / "image_2" / "000001.png", "truncated")
    manifest = run(root, dataclasses.replace(ALL, skip_bad=True, num_shards=2))
    assert manifest.num_examples == 3 and "000001" not in records(root / "out.record")
    assert len(manifest.left_out) == 1 and "truncated" in manifest.left_out[0]
    assert "left out: 1 problem;" in manifest.summary()
    for name in ("000000", "000002", "000003"):
        break_image(root / "training" / "image_2" / f"{name}.png", "empty")
    with pytest.raises(UserError, match="not one good frame"):
        run(root, dataclasses.replace(ALL, skip_bad=True), overwrite=True)


def test_only_verify_images_finds_damaged_pixels(make_kitti):
    root = make_kitti()
    path = root / "training" / "image_2" / "000001.png"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(UserError, match="000001.png: does not decode"):
        run(root, dataclasses.replace(ALL, verify_images=True))
    assert run(root).num_examples == 4


def test_jpeg_under_either_name_is_taken_for_what_it_is(make_kitti):
    root = make_kitti({"000000": [CAR]}, suffix=".jpg")
    image = root / "training" / "image_2"
    Image.new("RGB", (100, 40)).save(image / "x.jpg")
    (image / "x.jpg").rename(image / "000001.png")
    (root / "training" / "label_2" / "000001.txt").write_text("")
    run(root)
    assert {record.format for record in records(root / "out.record").values()} == {"jpeg"}


@pytest.mark.parametrize("box", ["-0.5 0 40 40.9", "99 1 101 20"])
def test_a_box_may_leave_the_image_by_a_pixel(make_kitti, box):
    root = make_kitti({"000000": [CAR.replace("10.00 8.00 50.00 30.00", box)]})
    run(root)
    record = records(root / "out.record")["000000"]
    assert record.boxes.min() >= 0 and record.boxes.max() <= 1
    assert f" {box} " in record.lines[0], "the raw line keeps the box as it was"


def test_testing_images_have_no_objects(make_kitti):
    root = make_kitti()
    (root / "testing" / "image_2").mkdir(parents=True)
    Image.new("RGB", (90, 30)).save(root / "testing" / "image_2" / "000000.png")
    manifest = run(root, Options(subset="testing"))
    assert manifest.num_examples == 1 and manifest.class_counts == {}


def test_an_empty_side_is_an_error(make_kitti):
    with pytest.raises(UserError, match="puts none of the 1 frames present into validation"):
        select_frames(make_kitti({"000000": []}), Options("validation", "drive"))


def test_a_list_names_the_frames(make_kitti, tmp_path):
    root = make_kitti()
    path = tmp_path / "some.txt"
    path.write_text("000002\n000000\n")
    options = Options("training", "file", split_file=path)
    assert run(root, options).source_ids == ["000000", "000002"]
    path.write_text("000002\n000009\n")
    with pytest.raises(UserError, match="1 of its 2 frames are absent, first 000009"):
        select_frames(root, options)
    with pytest.raises(UsageError, match="--split=file needs --split_file"):
        select_frames(root, Options(split="file"))


def test_classes_are_named_in_any_case():
    assert parse_classes("car, PEDESTRIAN") == ("Car", "Pedestrian")
    assert parse_classes("") is None
    assert parse_classes("버스, cyclist, 버스,Car") == ("Car", "Cyclist", "버스")


NUMBER = st.floats(-1000, 1000).map(lambda value: f"{value:.2f}")
EDGES = st.lists(st.integers(0, 10000), min_size=2, max_size=2, unique=True).map(sorted)


@st.composite
def label_lines(draw) -> str:
    """A line as label files have it, its box inside 1242 x 375."""
    x, y = draw(EDGES), draw(EDGES)
    box = (x[0] * 0.1242, y[0] * 0.0375, x[1] * 0.1242, y[1] * 0.0375)
    columns = [
        draw(st.sampled_from([*CLASSES, "DontCare"])),
        f"{draw(st.integers(0, 100)) / 100:.2f}",
        str(draw(st.integers(0, 3))),
        draw(NUMBER),
        *(f"{edge:.4f}" for edge in box),
        *(draw(NUMBER) for _ in range(7)),
    ]
    return draw(st.sampled_from([" ", "  ", "\t"])).join(columns) + draw(
        st.sampled_from(["", "\r"])
    )


def through_a_record(label: bytes, header: ImageHeader) -> bytes:
    objects, errors = parse_labels(label, "x.txt")
    assert errors == []
    annotations = [annotate(item, clip_box(item, header), KITTI, ALL) for item in objects.values()]
    record = Record.parse(make_example(b"", header, "x", annotations))
    pixels = record.boxes * [header.width, header.height, header.width, header.height]
    stated = [(o.left, o.top, o.right, o.bottom) for o in objects.values()]
    np.testing.assert_allclose(pixels, np.reshape(stated, (-1, 4)), atol=1.001 if stated else 0)
    return "".join(f"{line}\n" for line in record.lines).encode()


@settings(max_examples=60, deadline=None)
@given(st.lists(label_lines(), max_size=6))
def test_label_to_record_to_label_is_the_identity(lines):
    label = "".join(f"{line}\n" for line in lines).encode()
    assert through_a_record(label, ImageHeader("png", 375, 1242)) == label


def test_all_real_label_files_come_back_byte_for_byte(shared):
    sizes = {}
    for line in (shared / "kitti" / "image_sizes.txt").read_text().splitlines():
        first, last, width, height = map(int, line.split())
        sizes |= {f"{i:06d}": ImageHeader("png", height, width) for i in range(first, last + 1)}
    count = 0
    with tarfile.open(shared / "kitti" / "label_2_all.tar.gz") as archive:
        for member in archive:
            if member.isfile():
                label = archive.extractfile(member).read()
                assert through_a_record(label, sizes[Path(member.name).stem]) == label
                count += 1
    assert count == 7481


def test_real_frames(shared, tmp_path):
    root, output = shared / "kitti" / "png", tmp_path / "out.record"
    manifest = convert(select_frames(root, ALL), output, KITTI, ALL)
    assert manifest.num_examples == 20
    for frame in find_frames(root, "training"):
        record = records(output)[frame.source_id] if frame.source_id == "000007" else None
        if record:
            assert record.encoded == frame.image.read_bytes()
            assert "".join(f"{line}\n" for line in record.lines) == frame.label.read_text()
    assert json.loads(manifest_path(output).read_text())["num_examples"] == 20


def test_a_frame_whose_file_vanishes_is_an_error_not_a_traceback(tmp_path):
    frame = Frame("000000", tmp_path / "000000.png", tmp_path / "000000.txt")
    with pytest.raises(UserError, match="2 problems"):
        convert(Selection([frame]), tmp_path / "out.record", KITTI, ALL)
