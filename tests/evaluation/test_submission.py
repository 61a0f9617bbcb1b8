"""The zip for KITTI's server."""

import hashlib
import zipfile

import pytest

from efficientdet.dataset.kitti import parse_labels
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UserError
from efficientdet.evaluation.frames import FrameDetections
from efficientdet.evaluation.submission import NUM_TEST_IMAGES, require_ids, write_submission

MAP = LabelMap((("Car",), ("Pedestrian",), ("Cyclist",)))
CAR = FrameDetections("000001", [[1, 2, 3.25, 4]], [0.5], [1])


def test_one_file_for_each_image_in_the_root_with_official_fillers(tmp_path):
    write_submission(str(tmp_path / "out.zip"), [CAR, FrameDetections("000000")], MAP)
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["000000.txt", "000001.txt"]
        assert archive.read("000000.txt") == b""
        text = archive.read("000001.txt")
    assert text == (
        b"Car -1 -1 -10 1.0000 2.0000 3.2500 4.0000 -1 -1 -1 -1000 -1000 -1000 -10 0.5\n"
    )
    objects, errors = parse_labels(text, "x", scored=True)
    assert len(objects) == 1 and not errors


def test_the_same_detections_are_the_same_bytes_in_any_order(tmp_path):
    frames = [CAR, FrameDetections("000000")]
    for name, some in (("a", frames), ("b", frames[::-1])):
        write_submission(str(tmp_path / f"{name}.zip"), some, MAP)
    digests = {hashlib.sha256(p.read_bytes()).hexdigest() for p in tmp_path.glob("*.zip")}
    assert len(digests) == 1


def test_nothing_is_there_until_it_is_whole(tmp_path):
    before = tmp_path / "out.zip"
    before.write_bytes(b"old")
    broken = [CAR, FrameDetections("000002", [[1, 2, 3, 4]], [0.5], [9])]  # no such class
    with pytest.raises(KeyError):
        write_submission(str(before), broken, MAP)
    assert before.read_bytes() == b"old" and len([*tmp_path.iterdir()]) == 1


@pytest.mark.parametrize("name", ["7", "0000001", "img_000001", "city/000001", "00000a", "٠٠٠٠٠١"])
def test_other_ids_are_refused(name):
    with pytest.raises(UserError, match="1 image not named by six digits, first .*image_2") as e:
        require_ids(["000001", name])
    assert name in str(e.value)


def test_gaps_and_a_part_of_the_test_set_are_named(tmp_path):
    frames = [FrameDetections(name) for name in ("000000", "000002", "000004")]
    gap, part = write_submission(str(tmp_path / "out.zip"), frames, MAP)
    assert gap == "no file for 2 images among 000000 to 000004: 000001 and 000003"
    assert part.startswith("3 files: the test set has 7,518 images")
    all_of_them = [FrameDetections(f"{i:06d}") for i in range(NUM_TEST_IMAGES)]
    assert write_submission(str(tmp_path / "out.zip"), all_of_them, MAP) == []
    (line,) = write_submission(
        str(tmp_path / "out.zip"), [*all_of_them, FrameDetections("007518")], MAP
    )
    assert line == "007518 is none of KITTI's test images, which end at 007517"


def test_classes_that_the_server_does_not_know_are_named_and_left_out(tmp_path):
    label_map = LabelMap((("Car",), ("Wheelbarrow",)))
    frame = FrameDetections("000000", [[1, 2, 3, 4], [5, 6, 7, 8]], [0.5, 0.4], [2, 1])
    _, odd, absent = write_submission(str(tmp_path / "out.zip"), [frame], label_map)
    assert odd == "Wheelbarrow: no class of KITTI's, left out of the archive"
    assert absent == "no Pedestrian and Cyclist in the label map: the server will find none"
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.read("000000.txt").startswith(b"Car ")
        assert archive.read("000000.txt").count(b"\n") == 1
