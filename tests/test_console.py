"""Lines on a terminal, and in a file."""

import io
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from efficientdet import console as of_project
from efficientdet.console import ConsoleHandler, wrapped

LINE = "warning: 92% of 55 objects at --image_size=1280x384 in /a/folder with spaces/" + "x" * 70


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_terminal_gets_whole_words_and_a_file_whole_lines(monkeypatch, is_terminal: bool) -> None:
    out = io.StringIO()
    monkeypatch.setattr(
        of_project, "console", Console(file=out, width=60, force_terminal=is_terminal)
    )
    ConsoleHandler().emit(
        logging.makeLogRecord({"msg": LINE[9:], "levelname": "WARNING", "levelno": logging.WARNING})
    )
    lines = out.getvalue().splitlines()
    assert " ".join(lines) == LINE and len(lines) == (3 if is_terminal else 1)
    assert "\x1b" not in out.getvalue()


@given(st.text("ab -=\n", max_size=200), st.integers(20, 80))
def test_no_word_is_cut_and_no_line_that_fits_is_changed(text: str, width: int) -> None:
    lines = wrapped(text, width)
    assert lines.split() == text.split()
    for line in lines.split("\n"):
        assert len(line) <= width or " " not in line.strip()
    if all(len(line) <= width for line in text.split("\n")):
        assert [line.rstrip() for line in lines.split("\n")] == [
            line.rstrip() for line in text.split("\n")
        ]
