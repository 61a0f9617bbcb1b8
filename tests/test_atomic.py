"""A reader sees the old file or the new one, never half of it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from efficientdet.atomic import atomic_open, atomic_path


def test_the_folder_is_made_and_only_the_target_is_left(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "file.txt"
    with atomic_open(target) as file:
        file.write("grün\n")
        file.flush()
        assert not target.exists()
    assert target.read_bytes() == "grün\n".encode()
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_after_an_exception_the_old_file_stands(tmp_path: Path, error: type) -> None:
    target = tmp_path / "file.bin"
    target.write_bytes(b"old")
    with pytest.raises(error), atomic_open(target, "wb") as file:
        file.write(b"half of the ne")
        raise error
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_temporary_file_lies_beside_the_target(tmp_path: Path) -> None:
    """Only within one file system is a rename atomic; the process id keeps two runs apart."""
    with atomic_path(tmp_path / "a.npz") as temporary:
        assert temporary.parent == tmp_path and str(os.getpid()) in temporary.name
        temporary.write_bytes(b"x")


def test_a_target_that_cannot_be_replaced_leaves_no_rubbish(tmp_path: Path) -> None:
    (tmp_path / "taken" / "by").mkdir(parents=True)
    with pytest.raises(OSError), atomic_open(tmp_path / "taken") as file:
        file.write("x")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_kill_9_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")
    code = (
        "import os, signal\nfrom efficientdet.atomic import atomic_open\n"
        f"with atomic_open({str(target)!r}) as file:\n"
        "    file.write('half'), file.flush(), os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], check=False)
    assert result.returncode == -signal.SIGKILL
    assert target.read_text() == "old"
