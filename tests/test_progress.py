"""The bar on a terminal, and nothing elsewhere."""

import io
import re

import pytest
from rich.console import Console

from efficientdet import progress
from efficientdet.commands.transfer import transfer


def plain(text: str) -> str:
    """Without what steers the terminal."""
    return re.sub("\x1b[^a-zA-Z]*[a-zA-Z]", "", text)


def test_rates_and_count_on_a_terminal(monkeypatch):
    text = io.StringIO()
    terminal = Console(file=text, force_terminal=True, width=100)
    monkeypatch.setattr(progress, "Console", lambda stderr: terminal)
    with progress.meter("train.record", 2) as bar:
        bar.add(1_000_000)
        bar.add(1_000_000)
    assert "train.record" in text.getvalue() and "2/2" in text.getvalue()
    assert "img/s" in text.getvalue() and "MB/s" in text.getvalue()


def test_silence_where_there_is_no_terminal(capfd):
    with progress.meter("train.record", 1) as bar:
        bar.add(1)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("width", [60, 80])
def test_count_and_time_left_are_seen_on_a_narrow_terminal(monkeypatch, width):
    text = io.StringIO()
    terminal = Console(file=text, force_terminal=True, width=width)
    monkeypatch.setattr(progress, "Console", lambda stderr: terminal)
    with progress.meter("validation.record", 7481) as bar:
        for _ in range(7481):
            bar.add(900_000)
    *_, line = re.split("[\r\n]+", plain(text.getvalue()).strip())
    assert line.startswith("validation.record ━━━━━━━━━━ 7481/7481 0:00:00 ")
    assert line.rstrip().endswith("img/s" if width < 80 else "MB/s") and len(line) <= width


def test_a_loop_s_bar_gives_the_items_and_goes(monkeypatch):
    text = io.StringIO()
    terminal = Console(file=text, force_terminal=True, width=60)
    monkeypatch.setattr(progress, "console", terminal)
    assert list(progress.track(iter("abc"), "evaluating", 3)) == ["a", "b", "c"]
    assert "evaluating ━━━━━━━━━━ 100% 0:00:00" in plain(text.getvalue())


@pytest.mark.parametrize("width", [60, 80])
def test_bytes_are_seen_on_a_narrow_terminal(monkeypatch, width):
    text = io.StringIO()
    terminal = Console(file=text, force_terminal=True, width=width)
    monkeypatch.setattr(progress, "Console", lambda stderr: terminal)
    with progress.byte_bar("fetching data_object_image_2.zip", 12_569_945_557) as show:
        show(12_569_945_557)
    line = next(line for line in re.split("[\r\n]+", plain(text.getvalue())) if "12.6/12.6" in line)
    assert len(line.rstrip()) <= width and "12.6/12.6 GB" in line and "0:00:00" in line
    assert ("image_2.zip" in line) == (width == 80) and line.startswith("fetching")


def test_what_came_before_says_nothing_of_the_speed(monkeypatch):
    text = io.StringIO()
    terminal = Console(file=text, force_terminal=True, width=100)
    monkeypatch.setattr(progress, "Console", lambda stderr: terminal)
    with progress.byte_bar("fetching a.zip", 10**10, 9 * 10**9) as show:
        show(9 * 10**9 + 1000)
    assert "9.0/10.0 GB" in plain(text.getvalue()) and "GB/s" not in text.getvalue()


def test_a_file_gets_a_line_now_and_then_of_what_is_large(capfd):
    for size in (10_000, 2_000_000_000):
        with transfer("fetching a.zip", size) as show:
            for done in range(0, size + 1, size // 100):
                show(done)
    out, err = capfd.readouterr()
    assert not out and err.splitlines() == [
        f"fetching a.zip: {share} % of 2.0 GB" for share in range(10, 101, 10)
    ]
