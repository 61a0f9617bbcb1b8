"""The bar on a terminal, and nothing elsewhere."""

import io

from rich.console import Console

from efficientdet import progress


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
