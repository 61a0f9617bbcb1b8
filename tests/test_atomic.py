"""A reader sees the old file or the new one, never half of it."""

import contextlib
import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from efficientdet import atomic
from efficientdet.atomic import atomic_open, atomic_path, remove_stale, temporary_beside


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


@pytest.fixture(scope="module")
def dead() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def _name(text: str, pid: int) -> str:
    """The temporary name of another process of this host."""
    return temporary_beside(Path(text)).name.replace(f"-{os.getpid()}.", f"-{pid}.")


def test_what_dead_processes_left_goes_and_nothing_else(tmp_path: Path, dead: int) -> None:
    left = [_name("a.record", dead), _name("한국.json", dead), f".a.record.{dead}.tmp"]
    kept = [
        _name("a.record", os.getpid()),
        _name("a.record", os.getppid()),
        _name("a.record", 1),  # alive, and perhaps another user's
        f".a.record.{os.getpid()}.tmp",
        f".a.record.0123abcd-{dead}.tmp",  # another host's
        f"a.record.{dead}.tmp",  # not hidden
        ".a.record.tmp",
        f".a.{'9' * 30}.tmp",
        f".a.{dead}.tmp.txt",
    ]
    for name in left + kept:
        (tmp_path / name).write_bytes(b"half")
    deeper = tmp_path / "folder" / left[0]
    deeper.parent.mkdir()
    deeper.write_bytes(b"half")
    (tmp_path / _name("folder", dead)).mkdir()
    remove_stale(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [*kept, "folder", _name("folder", dead)]
    )
    assert deeper.exists()
    remove_stale(tmp_path / "no such folder")


def test_the_first_write_into_a_folder_sweeps_it(tmp_path: Path, dead: int) -> None:
    left = tmp_path / _name("other.txt", dead)
    left.write_bytes(b"half")
    with atomic_open(tmp_path / "a.txt") as file:
        file.write("x")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_hosts_and_process_namespaces_have_names_of_their_own(monkeypatch) -> None:
    names = set()
    for host, namespace in (("a", "pid:[1]"), ("b", "pid:[1]"), ("a", "pid:[2]")):
        monkeypatch.setattr(atomic.socket, "gethostname", lambda host=host: host)
        monkeypatch.setattr(atomic.os, "readlink", lambda _, namespace=namespace: namespace)
        names.add(atomic._host.__wrapped__())
    assert len(names) == 3


def test_a_symbolic_link_is_written_through(tmp_path: Path) -> None:
    real, link = tmp_path / "disk" / "real.txt", tmp_path / "link.txt"
    real.parent.mkdir()
    link.symlink_to("disk/real.txt")
    for text in ("made", "replaced"):
        with atomic_path(link) as temporary:
            assert temporary.parent == real.parent  # a rename does not cross file systems
            temporary.write_text(text)
        assert link.is_symlink() and not real.is_symlink() and real.read_text() == text


def test_what_is_no_file_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for name in ("folder", "pipe", "loop"):
        with pytest.raises(OSError) as caught, atomic_path(tmp_path / name):
            pytest.fail("the work began")
        assert caught.value.filename == str(tmp_path / name) and caught.value.strerror
    assert len(list(tmp_path.iterdir())) == 3


@contextlib.contextmanager
def full_after(num_bytes: int) -> Iterator[None]:
    """Files end at so many bytes, by an error as that of a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_told_with_the_file_s_name(tmp_path: Path) -> None:
    target = tmp_path / "big.txt"
    with full_after(100), pytest.raises(OSError) as caught, atomic_open(target) as file:
        file.write("x" * 100_000)
    assert (caught.value.errno, caught.value.filename) == (errno.EFBIG, str(target))
    with pytest.raises(OSError) as caught, atomic_open(target) as file:
        raise OSError("25 requested and 0 written")  # numpy's
    assert caught.value.filename == str(target)
    assert caught.value.strerror == "25 requested and 0 written"
    with pytest.raises(OSError) as caught, atomic_open(target, "rb") as file:  # the temporary one
        pass
    assert caught.value.filename == str(target)
    assert not list(tmp_path.iterdir())


def test_another_file_s_error_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught, atomic_open(tmp_path / "a.txt"):
        (tmp_path / "source").read_bytes()
    assert caught.value.filename == str(tmp_path / "source")


def test_a_folder_takes_the_place_of_another(tmp_path):
    target = tmp_path / "model"
    for text in ("old", "new"):
        with atomic.atomic_folder(target) as folder:
            (folder / "file").write_text(text)
            assert not target.exists() or (target / "file").read_text() == "old"
    assert (target / "file").read_text() == "new"
    with pytest.raises(RuntimeError), atomic.atomic_folder(target) as folder:
        (folder / "file").write_text("half")
        raise RuntimeError
    assert (target / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_kill_between_the_two_renames_of_a_folder_is_undone(tmp_path, monkeypatch):
    """What died first had set the old one aside, with the new one beside it; another one lives."""
    target = tmp_path / "model"
    dead, alive = 2**22 - 1, os.getppid()
    monkeypatch.setattr(atomic, "_is_dead", lambda pid: pid == dead)
    host = atomic._host()
    for name in (f"{host}-{dead}.old", f"{host}-{dead}.tmp", f"{host}-{alive}.tmp"):
        (tmp_path / f".model.{name}").mkdir()
        (tmp_path / f".model.{name}" / "file").write_text(name)
    (tmp_path / ".model.onnx.tmp").mkdir()
    atomic.restore_folder(target)
    assert (target / "file").read_text() == f"{host}-{dead}.old"
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"model", f".model.{host}-{alive}.tmp", ".model.onnx.tmp"}
    (tmp_path / f".model.{host}-{dead}.old").mkdir()
    with atomic.atomic_folder(target) as folder:
        (folder / "file").write_text("new")
    assert (target / "file").read_text() == "new"
    assert not list(tmp_path.glob("*.old"))
