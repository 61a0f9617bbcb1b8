"""The bar on a terminal, and nothing elsewhere."""

import io
import re

import pytest
from rich.console import Console

from efficientdet import progress


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
