"""KITTI's text and folders."""

import string

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from efficientdet.dataset import kitti, text_file
from efficientdet.errors import UserError

LINE = "Car 0.10 1 -1.57 10.00 8.00 50.00 30.00 1.5 1.6 3.9 1.0 1.7 20.0 0.01"


def test_every_column_arrives():
    item = kitti.parse_line(LINE)
    assert (item.type, item.truncated, item.occluded, item.alpha) == ("Car", 0.1, 1, -1.57)
    assert (item.left, item.top, item.right, item.bottom) == (10, 8, 50, 30)
    assert (item.height, item.width, item.length) == (1.5, 1.6, 3.9)
    assert (item.x, item.y, item.z, item.rotation_y) == (1, 1.7, 20, 0.01)
    assert item.score is None and item.line == LINE and not item.is_dont_care


@pytest.mark.parametrize(
    "line",
    [LINE.replace(" ", "\t"), f"  {LINE}  ", LINE.replace("Car", "cAR"), LINE + "\r\n"],
    ids=["tabs", "blanks", "case", "windows"],
)
def test_forms_that_people_have(line):
    assert kitti.parse_line(line).type == "Car"
    assert kitti.parse_line(line).bottom == 30


def test_a_score_is_the_sixteenth_column():
    assert kitti.parse_line(LINE + " -3.5").score == -3.5


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (LINE + " 1 2", "17 columns"),
        (LINE.rpartition(" ")[0], "14 columns"),
        (LINE.replace("Car", '""'), "'' is no name of a class"),
        (LINE.replace("-1.57", "nan"), "'nan' is not a finite number"),
        (LINE.replace("-1.57", "1e999"), "not a finite number"),
        (LINE.replace("-1.57", "1_000"), "'1_000' is not a finite number"),
        (LINE.replace("-1.57", "１２"), "'１２' is not a finite number"),
        (LINE.replace("-1.57", "٣"), "is not a finite number"),
        (LINE.replace("-1.57", "infinity"), "'infinity' is not a finite number"),
        (LINE.replace("-1.57", "9" * 5000), "99'... (5000 letters) is not a finite number"),
        (LINE.replace("-1.57", "1e10"), "'1e10' is beyond 1e+09"),
        (LINE.replace("Car", "C" * 10**7), "CC'... (10000000 letters) is no name of a class"),
        (LINE.replace("Car", "Car\0"), "'Car\\x00' is no name of a class"),
        ("Car 0.5 0.5 0.1 0.2", "this looks like YOLO's"),
        ("0 0.5 0.5 0.1 0.2", "this looks like YOLO's"),
        ("Car 1 2 3 4 0.9", "6 columns, expected 15, or 5, 8 or 16"),
        (LINE + " 1" * 10**6, "1000015 columns"),
        (LINE.replace("-1.57", "left"), "'left' is not a finite number"),
        (LINE.replace("10.00", "60.00"), "left > right"),
        (LINE.replace("0.10 1 ", "0.10 1.5 "), "occluded is '1.5'"),
    ],
)
def test_a_bad_line_names_file_line_and_fault(line, what):
    with pytest.raises(kitti.LabelError) as error:
        kitti.parse_line(line, "label_2/000007.txt:3")
    assert str(error.value).startswith("label_2/000007.txt:3: ")
    assert len(str(error.value)) < 250 and "\n" not in str(error.value)
    assert what in str(error.value)


@settings(deadline=None)
@given(st.data())
def test_mutated_lines_parse_or_give_a_label_error(data):
    columns = LINE.split()
    for _ in range(data.draw(st.integers(1, 3))):
        index = data.draw(st.integers(0, len(columns) - 1))
        text = st.text(string.printable + "é\u2028\x00٣", max_size=8)
        columns[index] = data.draw(text | st.floats().map(str) | st.integers().map(str))
    try:
        kitti.parse_line(data.draw(st.sampled_from([" ", "\t"])).join(columns))
    except kitti.LabelError as error:
        assert str(error).startswith("<line>: ")


@settings(deadline=None)
@given(st.binary(max_size=200))
@example(b"\x1c")
def test_any_bytes_give_objects_or_placed_errors(data):
    objects, errors = kitti.parse_labels(data, "x.txt")
    assert all(error.startswith("x.txt:") for error in errors)
    assert objects or errors or not data.decode("utf-8-sig").strip()


def test_results_are_not_taken_for_ground_truth():
    found = f"{LINE} 0.9"
    objects, errors = kitti.parse_labels(f"{LINE}\n{found}\n".encode(), "x.txt")
    assert list(objects) == [1]
    assert errors == ["x.txt:2: 16 columns: a score, as in a detector's results; expected ground "
                      "truth, which has 15"]  # fmt: skip
    objects, errors = kitti.parse_labels(f"{LINE}\n{found}\n".encode(), "x.txt", scored=True)
    assert objects[2].score == 0.9
    assert errors == ["x.txt:1: 15 columns, expected a 16th, the score"]


def test_a_name_that_cannot_be_written_is_told_before(make_kitti):
    root = make_kitti()
    (root / "training/label_2/\udcff1.txt").write_bytes(b"")
    with pytest.raises(UserError, match=r"label_2: rename '\\udcff1.txt'"):
        kitti.find_frames(root, "training")


def test_all_bad_lines_of_a_file_are_told():
    objects, errors = kitti.parse_labels(f"{LINE}\n\nBus\n{LINE}\nCar 1\n".encode(), "x.txt")
    assert list(objects) == [1, 4]
    assert [error.partition(" ")[0] for error in errors] == ["x.txt:3:", "x.txt:5:"]


def test_bytes_that_are_no_utf8_name_their_line():
    _, errors = kitti.parse_labels(f"{LINE}\n".encode() + b"Car \xff", "x.txt")
    assert errors == [f"x.txt:2: not UTF-8 text (byte {len(LINE) + 5} of the file)"]


def test_a_byte_order_mark_and_windows_lines_are_fine():
    objects, errors = kitti.parse_labels(b"\xef\xbb\xbf" + f"{LINE}\r\n{LINE}\r\n".encode(), "x")
    assert len(objects) == 2 and not errors


@pytest.mark.parametrize(
    ("height", "occluded", "truncated", "level"),
    [
        (40, 0, 0.15, "easy"),
        (39.9, 0, 0.15, "moderate"),
        (40, 1, 0.15, "moderate"),
        (40, 0, 0.16, "moderate"),
        (25, 2, 0.50, "hard"),
        (24.9, 0, 0.0, None),
        (100, 3, 0.0, None),
        (100, 0, 0.51, None),
    ],
)
def test_difficulty_is_the_easiest_level(height, occluded, truncated, level):
    assert kitti.difficulty(height, occluded, truncated) == level


@pytest.mark.parametrize("given_root", [".", "training", "../above"])
def test_the_root_may_be_named_in_three_ways(make_kitti, given_root):
    root = make_kitti(root="above/object")
    path = {".": root, "training": root / "training", "../above": root.parent}[given_root]
    frames = kitti.find_frames(path, "training")
    assert [frame.source_id for frame in frames] == ["000000", "000001", "000002", "000003"]
    assert all(frame.image and frame.label for frame in frames)


def test_testing_needs_no_labels_and_lies_beside_training(make_kitti):
    root = make_kitti()
    (root / "testing" / "image_2").mkdir(parents=True)
    (root / "testing" / "image_2" / "000000.png").write_bytes(b"")
    for path in (root, root / "training"):
        (frame,) = kitti.find_frames(path, "testing")
        assert frame.label is None and frame.image.parent.parent.name == "testing"


def test_missing_halves_show_and_hidden_files_do_not(make_kitti):
    root = make_kitti()
    (root / "training" / "image_2" / "000001.png").unlink()
    (root / "training" / "label_2" / "000002.txt").unlink()
    (root / "training" / "image_2" / "._000000.png").write_bytes(b"")
    frames = {frame.source_id: frame for frame in kitti.find_frames(root, "training")}
    assert len(frames) == 4
    assert frames["000001"].image is None and frames["000002"].label is None


def test_two_images_of_one_id_are_refused(make_kitti):
    root = make_kitti()
    make_kitti({"000000": []}, suffix=".jpg")
    with pytest.raises(UserError, match=r"000000.png and 000000.jpg are of one frame; keep one"):
        kitti.find_frames(root, "training")


def test_a_wrong_root_says_what_was_expected(tmp_path):
    with pytest.raises(UserError, match="no such folder; --kitti_root"):
        kitti.find_frames(tmp_path / "nowhere", "training")
    with pytest.raises(UserError, match="no training/image_2 in it"):
        kitti.find_frames(tmp_path, "training")


@pytest.mark.parametrize("column", range(1, 15))
@pytest.mark.parametrize("odd", ["nan", "-inf", "1e10", "1_0", "\u0661", "x"])
def test_one_odd_number_among_good_ones_is_named(column, odd):
    columns = LINE.split()
    columns[column] = odd
    with pytest.raises(kitti.LabelError, match="is not a finite number|is beyond 1e.09|columns"):
        kitti.parse_line(" ".join(columns))


@pytest.mark.parametrize("size", [0, 65_535, 65_536, 65_537, 200_000])
def test_a_file_is_read_whole_up_to_the_bound(tmp_path, size):
    path, content = tmp_path / "a.txt", bytes(i % 251 for i in range(size))
    path.write_bytes(content)
    assert text_file.read_bytes(path, "text") == content
    assert text_file.read_bytes(path, "text", size) == content
    if size:
        with pytest.raises(UserError, match=f"over {size - 1} bytes"):
            text_file.read_bytes(path, "text", size - 1)
