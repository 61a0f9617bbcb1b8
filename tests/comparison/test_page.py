"""The page: what it says of which runs, and that no name breaks out of it."""

import re
from pathlib import Path

import numpy as np
import pytest
from compared_runs import EVERY_OTHER, write_frames, write_run

from efficientdet.comparison import page
from efficientdet.comparison.runs import read_runs
from efficientdet.comparison.scores import judge
from efficientdet.run import journal

HOSTILE = "<script>alert('$x_1$')</script>&\"한글"


def page_of(*folders: Path, resamples: int = 20, num_frames: int = 2) -> str:
    runs, notes = read_runs([str(folder) for folder in folders])
    scores = judge(runs, None, newest=False, resamples=resamples)
    return page.to_html(runs, scores, notes, num_frames=num_frames)


def section(text: str, name: str) -> str:
    """Without tags and line breaks."""
    found = re.search(rf'<section id="{name}">.*?</section>', text, re.S)[0]
    return " ".join(re.sub(r"<svg.*?</svg>|<[^>]*>", " ", found, flags=re.S).split())


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of `a`, which finds every car, and of one with a hostile name that finds half."""
    folder = tmp_path_factory.mktemp("two")
    records = write_frames(folder / "val.record")
    a = write_run(folder / "a", records, [1] * 6)
    b = write_run(folder / HOSTILE.replace("/", "_"), records, EVERY_OTHER, learning_rate=0.5)
    journal.write(a, "start", journal.this_command() | {"argv": ["python", "m.py", HOSTILE]})
    journal.write(a, "memory", {"changes": {"grad_accum_steps": 4}})
    journal.write(a, "end", {"how": "done"})
    (b / "bad_batches").mkdir()
    np.savez(b / "bad_batches/step-7.npz", source_id=np.array([b"<i>x"]))
    return page_of(a, b)


def test_one_file_without_outside_links(two: str) -> None:
    assert not re.search(r"(src|href)=\"(?!data:|#)", two)
    assert "http" not in re.sub(r'xmlns(:\w+)?="http[^"]*"', "", two)
    assert "url(" not in re.sub(r"url\(#\w+\)", "", two)


def test_no_name_breaks_out(two: str) -> None:
    assert "<script" not in two and "<i>x" not in two
    assert "&lt;script&gt;alert(" in two and "한글" in two


def test_the_verdict_and_the_differences(two: str) -> None:
    assert '<p class="verdict error"><b>' in two  # the interval lies below 0
    assert "is worse than a: -49.50 points of AP, 95" in section(two, "summary")
    assert "AP 100.00 [100.0, 100.0] 50.50 [" in section(two, "scores")
    config = section(two, "config")
    assert "learning_ rate" in config and "0.5" in config.partition("What is not")[0]
    assert "num_ epochs 300 3" in config  # the same in both, and not the default


def test_data_curves_frames_guards_and_commands(two: str) -> None:
    assert "val.record" in section(two, "data")
    for title in ("training: detection loss", "validation: detection loss", "AP, %", "AP Car, %"):
        assert f"<figcaption>{title}</figcaption>" in two
    assert "<figcaption>Car, IoU 0.5</figcaption>" in two
    assert two.count('src="data:image/jpeg') == 6  # two frames: the truth, and two runs
    assert "Frame f1 truth a : 0 missed, 0 false, 1 found" in section(two, "frames")
    guards = section(two, "guards")
    assert "grad_accum_steps=4" in guards and "1 update skipped: step 7 (&lt;i&gt;x)" in guards
    commands = section(two, "commands")
    assert "python m.py" in commands and "ended: done" in commands
    assert "does not say how it was started" in commands  # the other one


def test_printing_cuts_nothing(two: str) -> None:
    printed = two.partition("@media print")[2]
    assert ".scroll, pre { overflow: visible; }" in printed
    assert "tr, pre, .verdict { break-inside: avoid; }" in printed
    assert 'loading="lazy"' not in two  # such pictures are blank on paper


def test_one_run_alone(tmp_path: Path) -> None:
    text = page_of(write_run(tmp_path / "a", write_frames(tmp_path / "val.record"), EVERY_OTHER))
    assert "<title>Run a</title>" in text and "What differs" not in text
    assert 'class="verdict' not in text.partition("<main>")[2]
    assert "Those with most mistakes" in section(text, "frames")


def test_runs_without_an_evaluation(tmp_path: Path) -> None:
    text = page_of(write_run(tmp_path / "x/exp"), write_run(tmp_path / "y/exp"))
    assert "Not compared." in section(text, "summary")
    assert "Nothing: the runs have the same settings." in text
    assert "x/exp has no evaluation yet" in section(text, "summary")
    assert 'id="scores"' not in text and 'id="precision"' not in text and 'id="frames"' not in text
    assert "There is no <code>" not in text and "They do not tell" in section(text, "data")


def test_a_run_that_is_not_judged_shows_what_it_logged(tmp_path: Path) -> None:
    records = write_frames(tmp_path / "val.record")
    a = write_run(tmp_path / "a", records, [1] * 6)
    b = write_run(tmp_path / "b", write_frames(tmp_path / "other.record"), [1] * 6)
    text = page_of(a, b, resamples=0, num_frames=0)
    assert "b was evaluated on other records" in section(text, "summary")
    assert "AP 100.00 8.00 *" in section(text, "scores")
    assert "from the run's own log" in text
