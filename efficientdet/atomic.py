"""Write beside the target, then rename: a reader never sees half a file."""

import contextlib
import errno
import glob
import hashlib
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any

_OWNER = re.compile(r"\..*\.(?:(?P<host>[0-9a-f]{8})-)?(?P<pid>\d{1,9})\.tmp")
_OLD = ".old"  # a folder that was to be replaced
_swept: set[Path] = set()  # folders that this process has looked through


@contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path in the target's folder; renames it to `target` on success.

    The folder is made if it is missing; a symbolic link is written through. On an exception the
    temporary file is removed and `target` stays as it was. What dead processes left in the folder
    is removed when a process first writes there.

    Raises:
        OSError: names the target, also where the error itself named no file (a full disk), or the
            temporary one; at once where the target is a folder, a pipe or a device.
    """
    target = temporary = Path(target)
    try:
        target = _writable(target)
        temporary = temporary_beside(target)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.parent not in _swept:
            _swept.add(target.parent)
            remove_stale(target.parent)
        try:
            yield temporary
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        if error.errno is None:  # numpy's, on a full disk: a text alone
            raise OSError(errno.EIO, str(error), str(target)) from error
        if error.filename in (None, str(temporary)):
            error.filename = str(target)
        raise


@contextmanager
def atomic_open(target: str | os.PathLike[str], mode: str = "w") -> Iterator[IO[Any]]:
    """Like `open(target, mode)` for writing, through `atomic_path`; text is UTF-8 with `\\n`."""
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    with atomic_path(target) as temporary, temporary.open(mode, **text) as file:
        yield file


@contextmanager
def atomic_folder(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary folder beside `target`; on success it takes the place of what is there.

    No system renames a folder over another that has files: the old one is set aside first. Whoever
    is killed between the two renames leaves no `target`; the next one puts the old folder back.
    """
    target = Path(os.path.realpath(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    restore_folder(target)
    temporary = temporary_beside(target)
    aside = temporary.with_suffix(_OLD)
    try:
        temporary.mkdir()
        yield temporary
        if target.exists():
            target.rename(aside)
        temporary.rename(target)
    finally:
        if aside.exists() and not target.exists():
            aside.rename(target)
        for left in (temporary, aside):
            shutil.rmtree(left, ignore_errors=True)


def restore_folder(target: Path) -> None:
    """Puts back, or removes, what processes that are dead left beside `target` in `atomic_folder`.

    Temporary folders go; one that was set aside comes back where `target` is missing.
    """
    for path in sorted(target.parent.glob(f".{glob.escape(target.name)}.*")):
        owner = _OWNER.fullmatch(path.with_suffix(".tmp").name)
        if path.is_dir() and owner and owner["host"] == _host() and _is_dead(int(owner["pid"])):
            if path.suffix == _OLD and not target.exists():
                path.rename(target)
            elif path.suffix in (_OLD, ".tmp"):
                shutil.rmtree(path, ignore_errors=True)


def temporary_beside(target: Path) -> Path:
    """`.NAME.HOST-PID.tmp`: two runs never share one, on one host or on a network disk."""
    return target.with_name(f".{target.name}.{_host()}-{os.getpid()}.tmp")


def remove_stale(folder: Path) -> None:
    """Removes the temporary files in `folder` whose process is dead; never raises.

    Those of other hosts stay, and those of processes that live. Names without a host
    (`.NAME.PID.tmp`, from before it was told) are taken for this host's.
    """
    with contextlib.suppress(OSError):
        for path in folder.glob(".*.tmp"):
            owner = _OWNER.fullmatch(path.name)
            if owner and owner["host"] in (None, _host()) and _is_dead(int(owner["pid"])):
                with contextlib.suppress(OSError):  # a folder, or another user's
                    path.unlink()


def _writable(target: Path) -> Path:
    """The file behind a link; raises OSError where it is none and cannot become one."""
    if target.is_symlink():
        target = Path(os.path.realpath(target))
        if target.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(target))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    if target.exists() and not target.is_file():
        raise OSError(errno.EINVAL, "not a regular file, so it is not replaced", str(target))
    return target


@cache
def _host() -> str:
    """Eight hexadecimal digits: of the host's name, and of its namespace of process ids.

    Containers may share the name, but not the processes.
    """
    name = socket.gethostname()
    with contextlib.suppress(OSError):  # no /proc
        name += os.readlink("/proc/self/ns/pid")  # noqa: PTH115 (no path, `pid:[4026531836]`)
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def _is_dead(pid: int) -> bool:
    if os.name == "nt":  # there, signal 0 would end it
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's
        pass
    return False
