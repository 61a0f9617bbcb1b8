"""One process at a time trains in a model_dir, and one at a time writes down an evaluation.

The locks are the operating system's: they end with their process, however that ends. Their files
only tell who it is. A network disk that knows no such locks is told in a line; there a process that
lives on the same host keeps others out, and one of another host is only warned of.
"""

import errno
import json
import logging
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

from efficientdet.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
    import msvcrt

logger = logging.getLogger(__name__)

TRAINING, WRITING = "train.lock", "write.lock"
_HELD = (errno.EAGAIN, errno.EACCES)
_BYTE = 1 << 30  # that Windows locks: none of the text, which others are to read


@dataclass(frozen=True)
class Holder:
    """The process that a lock's file names."""

    pid: int
    host: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} (since {self.since})"

    @classmethod
    def this(cls) -> "Holder":
        """This process."""
        return cls(os.getpid(), socket.gethostname(), f"{datetime.now():%Y-%m-%d %H:%M:%S}")

    @classmethod
    def read(cls, file: IO[bytes]) -> "Holder | None":
        """Who has written `file`; None where it does not say."""
        file.seek(0)
        try:
            values = json.loads(file.read(1000))
            return cls(int(values["pid"]), str(values["host"]), str(values["since"]))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return None

    @property
    def is_here(self) -> bool:
        """Whether it is of this host."""
        return self.host == socket.gethostname()

    @property
    def is_alive(self) -> bool:
        """Whether another process of its id lives on this host."""
        if fcntl is None or self.pid == os.getpid():  # on Windows, signal 0 would end it
            return False
        try:
            os.kill(self.pid, 0)
        except (ProcessLookupError, OverflowError):
            return False
        except PermissionError:
            pass
        return True


@contextmanager
def training_alone(model_dir: Path) -> Iterator[None]:
    """While entered, no other process can train in `model_dir`, which is made if it is missing.

    A folder that was made and is empty in the end goes again.

    Raises:
        UserError: another one does, or the folder cannot be written.
    """
    missing = [path for path in (model_dir, *model_dir.parents) if not path.exists()]
    try:
        require_writable(model_dir)
        path = model_dir / TRAINING
        file, ours = _acquire(path, wait=False)
        with file:
            holder = Holder.read(file)
            if ours is None:
                ours = _decide_by_name(path, holder)
            if not ours:
                raise UserError(
                    f"{model_dir}: {holder or 'another process'} is training here; let it end, "
                    "stop it, or take another --model_dir"
                )
            with _signed(file, path):
                yield
    finally:
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()


@contextmanager
def writing_alone(folder: Path) -> Iterator[None]:
    """Waits until no other process is so entered; for files in `folder` that belong together."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / WRITING
    file, ours = _acquire(path, wait=False)
    if ours is False:
        logger.info(f"{folder}: {Holder.read(file) or 'another process'} is writing here; waiting")
        file.close()
        file, ours = _acquire(path, wait=True)
    with file, _signed(file, path):
        yield


def require_writable(folder: Path) -> None:
    """Makes `folder` if it is missing; raises UserError if no file can be made in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")  # on a full disk a file can be made, and not be written
    except OSError as error:
        what = error.strerror
        if isinstance(error, FileExistsError):
            is_dangling = folder.is_symlink() and not folder.exists()
            what = "a link to what is not there" if is_dangling else "a file, not a folder"
        raise UserError(f"{folder}: cannot write there: {what}; name another folder") from None


def _acquire(path: Path, *, wait: bool) -> tuple[IO[bytes], bool | None]:
    """The opened file, and whether its lock is ours; None: this disk has no locks."""
    while True:
        file = path.open("ab+", buffering=0)
        ours = _lock(file, wait=wait)
        if not ours or _lies_at(file, path):
            return file, ours
        file.close()  # whoever held it has just ended and removed it


def _lock(file: IO[bytes], *, wait: bool) -> bool | None:
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        else:
            os.lseek(file.fileno(), _BYTE, os.SEEK_SET)
            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
    except OSError as error:
        return False if error.errno in _HELD else None
    return True


def _lies_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _decide_by_name(path: Path, holder: Holder | None) -> bool:
    """Where there are no locks, whether the name in the file leaves the way free."""
    if holder and holder.is_here and holder.is_alive:
        return False
    line = f"{path}: this disk has no locks, so start no second training on this folder"
    if holder and not holder.is_here:
        line += f"; {holder} was training here, and whether it still is cannot be seen from here"
    logger.warning(line)
    return True


@contextmanager
def _signed(file: IO[bytes], path: Path) -> Iterator[None]:
    """The file names this process; in the end it goes, before its lock does."""
    try:
        file.truncate(0)
        with suppress(OSError):  # on a full disk it locks all the same
            file.write(json.dumps(asdict(Holder.this())).encode())
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file; who finds it can lock it
            path.unlink(missing_ok=True)
