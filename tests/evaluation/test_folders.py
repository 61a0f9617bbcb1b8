import os
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientdet.dataset.kitti import parse_line
from efficientdet.errors import UserError
from efficientdet.evaluation import kitti
from efficientdet.evaluation.folders import CLASS_NAMES, read_label_folder, read_result_folder
from efficientdet.evaluation.frames import FrameTruth

LINE = "Car 0 0 -1.5 10.0 20.0 110.0 70.0 1.5 1.6 4.0 0.0 1.7 20.0 0.1"
FOUND = f"{LINE} 0.75"


@pytest.fixture
def folder(tmp_path):
    for number in range(3):
        (tmp_path / f"00000{number}.txt").write_text(FOUND + "\n")
    return tmp_path


def test_labels_of_every_file_or_of_a_list(folder):
    for path in folder.iterdir():
        path.write_text(LINE + "\n")
    assert [t.source_id for t in read_label_folder(folder)] == ["000000", "000001", "000002"]
    (truth,) = read_label_folder(folder, ["000001"])
    assert (truth.source_id, truth.objects[0].bottom) == ("000001", 70)


def test_objects_made_of_columns_are_those_of_the_lines(folder):
    lines = [LINE, LINE.replace("Car", "DontCare").replace(" 20.0 0.1", " -1000 -10"), LINE]
    for path in folder.iterdir():
        path.write_text("\n".join(lines))
    (truth,) = read_label_folder(folder, ["000001"])
    plain = [replace(parse_line(line), line="") for line in lines]
    assert list(truth.objects) == truth.objects[:] == plain and truth.objects[-1] == plain[-1]
    assert [o.distance for o in truth.objects] == [20, None, 20]


def test_results_are_no_ground_truth(folder):
    (folder / "000000.txt").write_text(f"{LINE}\n{FOUND}\n")
    with pytest.raises(UserError, match="000000.txt:2: 16 columns: a score, as in a detector's"):
        read_label_folder(folder)


def test_a_pipe_among_the_files_is_not_waited_for(folder):
    os.mkfifo(folder / "000003.txt")
    for read in (read_label_folder, read_result_folder):
        with pytest.raises(UserError, match="000003.txt: this is no ordinary file"):
            read(folder, ["000003"])


def test_no_labels_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no label file"):
        read_label_folder(tmp_path)
    with pytest.raises(UserError, match="000007.txt"):
        read_label_folder(tmp_path, ["000007"])


@pytest.mark.parametrize(
    "text",
    [
        FOUND + "\n",
        FOUND,
        FOUND + "\r\n",
        "\ufeff" + FOUND + "\n",
        "\n" + FOUND + "   \n \t\n",
        FOUND.replace(" ", "\t"),
        FOUND.lower(),
    ],
    ids=["plain", "no end", "windows", "mark", "blanks", "tabs", "lower case"],
)
def test_forms_of_result_files(tmp_path, text):
    (tmp_path / "000000.txt").write_bytes(text.encode())
    (frame,) = read_result_folder(tmp_path, ["000000"]).detections
    assert frame.boxes.tolist() == [[10, 20, 110, 70]]
    assert (frame.scores.tolist(), frame.classes.tolist()) == ([0.75], [1])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (LINE, "15 columns, expected a 16th, the score"),
        (FOUND + " 1", "17 columns"),
        (FOUND.replace("20.0 110", "nan 110"), "'nan' is not a finite number"),
        (FOUND.replace("0.75", "inf"), "'inf' is not a finite number"),
        (FOUND.replace("0.75", "high"), "'high' is not a finite number"),
        (FOUND.replace("110.0", "1e308"), "'1e308' is beyond 1e"),
        (FOUND.replace("10.0 20.0", "-1e308 20.0"), "'-1e308' is beyond 1e"),
        (FOUND.replace("110.0", "1_100"), "'1_100' is not a finite number"),
        (FOUND.replace("Car", "Auto"), "unknown class 'Auto'"),
        (FOUND.replace("10.0 20.0 110.0", "110.0 20.0 10.0"), "left > right"),
    ],
)
def test_a_bad_result_line_is_named(folder, line, message):
    (folder / "000001.txt").write_text(f"{FOUND}\n\n{line}\n")
    with pytest.raises(UserError, match=message) as error:
        read_result_folder(folder, ["000000", "000001", "000002"])
    assert "000001.txt:3:" in str(error.value)


def test_missing_and_unwanted_files_are_told(folder):
    (folder / "notes.txt").write_text("not a result")
    results = read_result_folder(folder, ["000001", "000005"])
    assert [frame.source_id for frame in results.detections] == ["000001"]
    assert results.missing == ["000005"]
    assert results.unwanted == ["000000.txt", "000002.txt", "notes.txt"]


def test_an_empty_folder_is_a_result_without_detections(tmp_path):
    results = read_result_folder(tmp_path, ["000001", "000005"])
    assert (results.detections, results.missing) == ([], ["000001", "000005"])


def test_an_empty_file_is_a_frame_without_detections(folder):
    (folder / "000001.txt").write_text("")
    assert len(read_result_folder(folder, ["000001"]).detections[0].scores) == 0


def test_results_of_other_frames_are_an_error(folder):
    with pytest.raises(UserError, match="no file for any of the 1 frames, such as 000009.txt"):
        read_result_folder(folder, ["000009"])


def test_no_folder_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        read_result_folder(tmp_path / "nowhere", ["000000"])


PIECES = [
    "Car",
    "Van ",
    "DontCare",
    " ",
    " ",
    "\n",
    "\r\n",
    "1",
    "1e308",
    "-1e308",
    "nan",
    "1_0",
    "٣",
]
PIECES += [LINE, f"{LINE} ", f"{FOUND}\n", "0.5", "\0", "\ufeff", "\t", "-", "9" * 400]


@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=6).map("".join), st.booleans())
def test_any_text_is_judged_or_an_error_of_its_user(text, is_truth):
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "000000.txt").write_text(text, encoding="utf-8", newline="")
        try:
            if is_truth:
                read_label_folder(Path(name))
                return
            found = read_result_folder(Path(name), ["000000"]).detections
        except UserError as error:
            assert "000000.txt:" in str(error) and "\n" not in str(error)
            return
        truths = [FrameTruth("000000", 0, 0, [parse_line(LINE)])]
        with np.errstate(over="raise", invalid="raise"):
            kitti.evaluate(truths, found, CLASS_NAMES)
