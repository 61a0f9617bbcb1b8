"""Two processes never train in one model_dir; what a dead one left never stands in the way."""

import errno
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from efficientdet.errors import UserError
from efficientdet.run import lock
from efficientdet.run.lock import TRAINING, WRITING, require_writable, training_alone, writing_alone

HOST, NOBODY = socket.gethostname(), 999_999_999  # no process has this id
HOLD = """
import sys
from pathlib import Path
from efficientdet.run.lock import {0}
with {0}(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another(folder: Path, how: Callable = training_alone) -> Iterator[subprocess.Popen]:
    """A process that holds the lock until its stdin is closed."""
    command = [sys.executable, "-c", HOLD.format(how.__name__), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_second_process_is_told_who_trains(tmp_path: Path) -> None:
    with another(tmp_path) as process:
        with pytest.raises(UserError, match="let it end, stop it, or take another") as caught:
            training_alone(tmp_path).__enter__()
        who = f"process {process.pid} on {re.escape(HOST)} "
        assert re.search(
            who + r"\(since [-0-9]{10} [:0-9]{8}\) is training here", str(caught.value)
        )
        assert "\n" not in str(caught.value)
        process.communicate()
    assert not list(tmp_path.iterdir())
    with training_alone(tmp_path):
        assert (tmp_path / TRAINING).exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_lock_of_a_killed_process_is_free(tmp_path: Path, number: signal.Signals) -> None:
    with another(tmp_path) as process:
        process.send_signal(number)
        process.wait()
    assert json.loads((tmp_path / TRAINING).read_text())["pid"] == process.pid
    with training_alone(tmp_path):
        assert json.loads((tmp_path / TRAINING).read_text())["pid"] == os.getpid()
    assert not list(tmp_path.iterdir())


def test_two_in_one_process_exclude_each_other_and_an_error_frees(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(KeyError), training_alone(tmp_path):
            with pytest.raises(UserError, match="is training here"):
                training_alone(tmp_path).__enter__()
            assert (tmp_path / TRAINING).exists()
            raise KeyError


@pytest.mark.parametrize("text", ["", "5", "{}", "[" * 3000, '{"pid": "x", "host": 1}', "\xff"])
def test_a_file_that_names_nobody_is_no_hindrance(tmp_path: Path, text: str) -> None:
    (tmp_path / TRAINING).write_text(text, encoding="latin-1")
    with training_alone(tmp_path):
        pass
    (tmp_path / TRAINING).write_text(text, encoding="latin-1")
    with (tmp_path / TRAINING).open("rb") as file:
        assert lock._lock(file, wait=False)
        with pytest.raises(UserError, match=": another process is training here"):
            training_alone(tmp_path).__enter__()


def test_the_file_of_one_that_just_ended_is_not_mistaken_for_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its holder removed it after we had opened it: a lock on it would keep nobody out."""
    take, path = lock._lock, tmp_path / TRAINING

    def gone_meanwhile(file, *, wait: bool) -> bool | None:
        monkeypatch.setattr(lock, "_lock", take)
        path.unlink()
        return take(file, wait=wait)

    monkeypatch.setattr(lock, "_lock", gone_meanwhile)
    with training_alone(tmp_path):
        assert path.exists()
        with pytest.raises(UserError, match="is training here"):
            training_alone(tmp_path).__enter__()


def test_a_folder_that_was_made_for_nothing_goes_again(tmp_path: Path) -> None:
    with pytest.raises(KeyError), training_alone(tmp_path / "new" / "run"):
        raise KeyError
    assert not (tmp_path / "new").exists()
    with training_alone(tmp_path / "new" / "run"):
        (tmp_path / "new" / "run" / "config.yaml").touch()
    assert [path.name for path in (tmp_path / "new" / "run").iterdir()] == ["config.yaml"]


# --- a disk without locks


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*args: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "flock", flock)


@pytest.mark.parametrize(
    ("pid", "host", "told"),
    [
        (NOBODY, HOST, "this disk has no locks, so start no second training on this folder"),
        (None, HOST, "no second training on this folder"),  # this one: a container's pid 1, again
        (NOBODY, "far", f"; process {NOBODY} on far (since then) was training here, and whether"),
        (1, "far", "cannot be seen from here"),
    ],
)
def test_without_locks_it_starts_and_says_so(
    tmp_path: Path, no_locks: None, said: list[str], pid: int | None, host: str, told: str
) -> None:
    pid = pid or os.getpid()
    (tmp_path / TRAINING).write_text(json.dumps({"pid": pid, "host": host, "since": "then"}))
    with training_alone(tmp_path):
        assert json.loads((tmp_path / TRAINING).read_text())["pid"] == os.getpid()
    assert len(said) == 1 and told in said[0] and not list(tmp_path.iterdir())


def test_without_locks_a_live_process_of_this_host_keeps_others_out(
    tmp_path: Path, no_locks: None, said: list[str]
) -> None:
    parent = {"pid": os.getppid(), "host": HOST, "since": "then"}
    (tmp_path / TRAINING).write_text(json.dumps(parent))
    with pytest.raises(UserError, match=f"process {os.getppid()} on .* is training here"):
        training_alone(tmp_path).__enter__()
    assert not said and (tmp_path / TRAINING).exists()


def test_windows_locks_in_its_own_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held: set[int] = set()

    class Msvcrt:
        LK_NBLCK, LK_LOCK = 2, 1

        @staticmethod
        def locking(descriptor: int, mode: int, count: int) -> None:
            assert os.lseek(descriptor, 0, os.SEEK_CUR) > 1000 and count == 1  # none of the text
            if held:
                raise PermissionError(errno.EACCES, "Permission denied")
            held.add(descriptor)

    monkeypatch.setattr(lock, "fcntl", None)
    monkeypatch.setattr(lock, "msvcrt", Msvcrt, raising=False)
    with training_alone(tmp_path), pytest.raises(UserError, match=f"process {os.getpid()} on "):
        training_alone(tmp_path).__enter__()


# --- evaluations


def test_evaluations_are_written_one_after_the_other(tmp_path: Path, said: list[str]) -> None:
    with another(tmp_path, writing_alone) as process:
        done = threading.Event()

        def write() -> None:
            with writing_alone(tmp_path):
                done.set()

        waiting = threading.Thread(target=write)
        waiting.start()
        while not said:
            os.sched_yield()
        assert not done.is_set()
        process.kill()
        waiting.join(60)
    assert done.is_set() and not list(tmp_path.iterdir())
    who = f"process {process.pid} on {HOST} (since "
    assert said[0].startswith(f"{tmp_path}: {who}") and said[0].endswith("is writing here; waiting")


def test_training_and_an_evaluation_do_not_wait_for_each_other(tmp_path: Path) -> None:
    with training_alone(tmp_path), writing_alone(tmp_path / "eval"):
        assert (tmp_path / "eval" / WRITING).exists()


# --- folders that cannot be written


def test_a_folder_that_is_none_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    (tmp_path / "good").symlink_to(tmp_path / "there")
    (tmp_path / "there").mkdir()
    for name, what in (
        ("file", "a file, not a folder"),
        ("link", "a link to what is not there"),
        ("file/run", "Not a directory"),
    ):
        with pytest.raises(UserError, match=f"{name}: cannot write there: {what}; name another"):
            training_alone(tmp_path / name).__enter__()
    with training_alone(tmp_path / "good"):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"file", "link", "good", "there"}


def test_on_a_full_disk_an_evaluation_is_locked_all_the_same(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(UserError, match="cannot write there: File too large"):
            require_writable(tmp_path)
        with writing_alone(tmp_path):
            assert lock._acquire(tmp_path / WRITING, wait=False)[1] is False
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_a_read_only_or_full_folder_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refused(**where: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(lock.tempfile, "TemporaryFile", refused)
    with pytest.raises(UserError, match=f"run: cannot write there: {os.strerror(code)}; name"):
        require_writable(tmp_path / "run")
