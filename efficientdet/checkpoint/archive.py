"""Unpacks a .tar.gz of anybody: plain files under clean names, and no more than fits."""

import gzip
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

# The largest published checkpoint has 5 files and 0.7 GB; a model_dir adds results of each frame.
MAX_FILES = 20_000
MAX_BYTES = 16 << 30
MAX_RATIO = 100  # unpacked over packed size: weights hardly shrink, a bomb of zeros does by 1000
_FREE_BYTES = 64 << 20  # so much is unpacked at whatever ratio
_HEADER_BYTES = 1 << 20  # of one entry: tarfile holds long names and comments in memory


class ArchiveError(ValueError):
    """An archive that is damaged or refused; the text says why, without the file's name."""


def unpack(archive: Path, folder: Path) -> None:
    """Writes the files of a .tar.gz below `folder`; owners, times and permissions are left behind.

    This does not lean on tarfile's `filter=`, which the first releases of Python 3.11 lack.

    Raises:
        ArchiveError: damaged or incomplete; a link, a device, a name that leads elsewhere or stands
            twice; too many files or bytes. What came before it is in `folder`.
        OSError: `archive` cannot be read or `folder` not written.
    """
    limit = min(MAX_BYTES, _FREE_BYTES + MAX_RATIO * archive.stat().st_size)
    with archive.open("rb") as packed:
        stream = _Stream(packed, limit)
        with _damage_named(), stream.at_most(_HEADER_BYTES):
            tar = tarfile.open(fileobj=stream, mode="r|")  # noqa: SIM115 (holds no file of its own)
        for _ in range(MAX_FILES + 1):
            with _damage_named(), stream.at_most(_HEADER_BYTES):
                member = tar.next()
            if member is None:
                break
            if not member.isdir():
                _write(tar, member, _place(member, folder))
        else:
            raise ArchiveError(f"more than {MAX_FILES:,} entries")
        with _damage_named():
            stream.read_to_the_end()  # there stands the checksum


class _Stream:
    """What gzip unpacks; refuses to go beyond `limit` bytes."""

    def __init__(self, packed: IO[bytes], limit: int):
        self._file = gzip.GzipFile(fileobj=packed)
        self._left = self._limit = limit

    def read(self, size: int) -> bytes:
        data = self._file.read(min(size, self._left + 1))
        if len(data) > self._left:
            raise ArchiveError(
                f"unpacks to more than {self._limit:,} bytes, or has a name of over a megabyte"
            )
        self._left -= len(data)
        return data

    @contextmanager
    def at_most(self, size: int) -> Iterator[None]:
        """Inside, only so many bytes can be read."""
        kept = max(0, self._left - size)
        self._left -= kept
        try:
            yield
        finally:
            self._left += kept

    def read_to_the_end(self) -> None:
        while self.read(1 << 20):
            pass


@contextmanager
def _damage_named() -> Iterator[None]:
    """Inside nothing is written, so that each error is one of the archive."""
    try:
        yield
    except ArchiveError:
        raise
    except (tarfile.TarError, zlib.error, EOFError, OSError, ValueError, RecursionError) as error:
        raise ArchiveError(f"not a readable .tar.gz ({error})") from None


def _place(member: tarfile.TarInfo, folder: Path) -> Path:
    """Where a plain file goes."""
    name = member.name.removeprefix("./")
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.issparse():
        raise ArchiveError(
            f"holds {name!r}, which is no plain file but a link, a device or the like"
        )
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    clean = name == str(posix) and len(windows.parts) == len(posix.parts) and not windows.anchor
    if not clean or ".." in posix.parts or not name.isprintable() or member.size < 0:
        raise ArchiveError(f"holds {member.name!r}, expected names such as efficientdet-d0/model")
    return folder / posix


def _write(tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("xb")
    except (FileExistsError, NotADirectoryError):
        raise ArchiveError(f"holds {member.name!r} twice") from None
    with file:
        source = tar.extractfile(member)
        while block := _read(source):
            file.write(block)


def _read(source: IO[bytes]) -> bytes:
    with _damage_named():
        return source.read(1 << 20)
