"""The command that compares runs, as it is typed."""

import subprocess
import sys
from pathlib import Path

import pytest
from compared_runs import EVERY_OTHER, write_frames, write_run


def run(folder: Path, *flags: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "efficientdet.commands.report", *flags]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_two_runs_make_a_page(tmp_path: Path) -> None:
    records = write_frames(tmp_path / "val.record")
    write_run(tmp_path / "a", records, [1] * 6)
    write_run(tmp_path / "b", records, EVERY_OTHER)
    done = run(tmp_path, "--model_dir=a,b,a/", "--output=out/한글.html", "--bootstrap=10")
    assert done.returncode == 0, done.stderr
    assert "intervals: 10 resamples of 6 single frames" in done.stdout + done.stderr
    assert "a/ was named twice, or leads to a: it stands here once" in done.stdout + done.stderr
    assert "<title>Comparison of 2 runs" in (tmp_path / "out/한글.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ([], "--model_dir is missing"),
        (["--model_dir=none"], "--model_dir=none: no such folder"),
        (["--model_dir=.", "--output=."], "--output=.: a folder"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, flags: list[str], told: str) -> None:
    done = run(tmp_path, *flags)
    assert done.returncode == 2 and told in done.stderr and len(done.stderr.splitlines()) == 1


def test_help(tmp_path: Path) -> None:
    done = run(tmp_path, "--help")
    assert done.returncode == 0 and "--model_dir" in done.stdout and "--bootstrap" in done.stdout
