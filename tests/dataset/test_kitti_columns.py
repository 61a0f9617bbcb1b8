"""Columns read at once are those that are read line by line, or the same error."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientdet.dataset import kitti_columns
from efficientdet.dataset.kitti import CLASSES, DONT_CARE
from efficientdet.dataset.kitti_columns import read_columns
from efficientdet.errors import UserError

NAMES = (*CLASSES, DONT_CARE)
LINE = "Person_sitting 0.00 1 -1.5 10.0 20.0 110.0 70.0 1.5 1.6 4.0 0.0 1.7 20.0 0.1"
FOUND = f"{LINE} 0.75"
PIECES = [
    "Car", "Car ", "car", "Tram\n", "\n", "\r\n", " ", "\t", "\x0b", "\x1c", "1", "-1", "1_0",
    "nan", "inf", "1e10", "0x1", "٣", "\ufeff", "\0", LINE, FOUND, f"{LINE}\n", f"{FOUND}\n",
    f"{FOUND} \r\n", f"{FOUND}-3\n", FOUND.replace(" 1 ", " 1.5 "), LINE.replace(" ", "\n", 1),
    FOUND.replace("10.0 20.0 110.0", "110.0 20.0 10.0"), f"{FOUND} {FOUND}\n",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES), max_size=4).map("".join)


def values(found):
    return [(list(types), numbers.shape, numbers.tolist()) for types, numbers in found]


def told(call):
    try:
        return values(call())
    except UserError as error:
        return str(error)


@settings(derandomize=True, max_examples=400, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(PIECES), max_size=4).map("".join), max_size=3), st.booleans()
)
def test_any_text_is_read_as_line_by_line(texts, scored):
    with tempfile.TemporaryDirectory() as folder:
        paths = [f"{folder}/{number}.txt" for number in range(len(texts))]
        for path, text in zip(paths, texts, strict=True):
            Path(path).write_text(text, encoding="utf-8", newline="")
        how = {"scored": scored, "names": NAMES}
        slow = told(lambda: [kitti_columns._by_lines(path, scored, NAMES) for path in paths])
        assert told(lambda: list(read_columns(paths, **how))) == slow


@pytest.mark.parametrize("end", ["", "\n", " \n", "\r\n", " \n\n"])
def test_files_as_they_mostly_are_need_no_reading_by_lines(tmp_path, monkeypatch, end):
    """The last is how Point-GNN ends its files."""
    monkeypatch.setattr(kitti_columns, "_by_lines", None)
    paths = [f"{tmp_path}/{number}.txt" for number in range(600)]
    for number, path in enumerate(paths):
        Path(path).write_bytes("\n".join([FOUND] * (number % 3)).encode() + end.encode())
    found = list(read_columns(paths, scored=True, names=NAMES))
    assert [len(types) for types, _ in found] == [number % 3 for number in range(600)]
    assert found[599][1].shape == (2, 15) and found[1][1][0, -1] == 0.75
    assert list(read_columns([], scored=True, names=NAMES)) == []


def test_the_first_bad_file_of_many_is_named(tmp_path):
    paths = [f"{tmp_path}/{number}.txt" for number in range(700)]
    for path in paths:
        Path(path).write_text(f"{LINE}\n")
    Path(paths[500]).write_text(f"{LINE}\nCar 1\n")
    Path(paths[501]).unlink()
    with pytest.raises(UserError, match=r"/500.txt:2: 2 columns"):
        list(read_columns(paths, scored=False, names=NAMES))
    Path(paths[500]).write_text("")
    with pytest.raises(UserError, match=r"/501.txt: No such file"):
        list(read_columns(paths, scored=False, names=NAMES))
    os.mkfifo(paths[501])
    with pytest.raises(UserError, match=r"/501.txt: this is no ordinary file"):
        list(read_columns(paths, scored=False, names=NAMES))
