"""KITTI's zips: what frames they hold, and these as folders that are complete or not there."""

import lzma
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

_FILE = re.compile(
    r"(?P<folder>(?:training|testing)/(?:image_2|label_2))/(?P<name>\w[\w-]{0,99}\.(?:png|jpe?g|txt))",
    re.ASCII,
)
_BLOCK = 4096  # bytes that a file takes of a disk at once
# What Python's zipfile raises while it reads what is no sound zip; OSError of a place before its
# start. LZMAError and struct.error are of no kind of these.
_DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError),
    *(RuntimeError, ValueError, OverflowError, MemoryError),
)

Members = dict[str, zipfile.ZipInfo]
Read = TypeVar("Read")


class ZipError(ValueError):
    """A zip that is damaged or of another kind; the text says why, without the file's name."""


def frames_of(archive: Path) -> dict[str, Members]:
    """Folder, such as `training/image_2` -> file name -> member. Whatever else is in it is left.

    Raises:
        ZipError: no zip, an incomplete one, or one that holds a file twice.
    """
    folders: dict[str, Members] = {}
    with _opened(archive) as packed:
        listed = packed.infolist()
    for member in listed:
        if match := _FILE.fullmatch(member.filename):
            members = folders.setdefault(match["folder"], {})
            if match["name"] in members:
                raise ZipError(f"holds {member.filename} twice")
            members[match["name"]] = member
    return folders


def room(members: Members) -> int:
    """Bytes that the files take of a disk."""
    return sum(-(-member.file_size // _BLOCK) * _BLOCK for member in members.values())


def unpacked(members: Members, target: Path) -> int:
    """Bytes of them that lie beside `target` already, by size."""
    half = _half(target)
    return room(
        {
            name: member
            for name, member in members.items()
            if (half / name).is_file() and (half / name).stat().st_size == member.file_size
        }
    )


def unpack(archive: Path, members: Members, target: Path, show: Callable[[int], None]) -> None:
    """Makes the folder `target` of `members`, under another name until it is complete.

    A call that was interrupted is gone on with: what it has left is held against the CRC-32.

    Args:
        show: is called with the bytes so far, of the files' sizes.

    Raises:
        ZipError: a member is damaged, encrypted, or packed in a way that Python does not know.
        OSError: the zip cannot be read or the folder not be written.
    """
    half = _half(target)
    half.mkdir(parents=True, exist_ok=True)
    for path in half.iterdir():
        if path.name not in members:  # of another zip
            path.unlink()
    done = 0
    with _opened(archive) as packed:
        for name, member in members.items():
            if not _is_whole(half / name, member):
                _write(packed, member, half / name)
            show(done := done + member.file_size)
    if hasattr(os, "sync"):  # a power cut after the renaming finds the files' bytes on the disk
        os.sync()
    half.rename(target)


def _half(target: Path) -> Path:
    return target.with_name(f".{target.name}.unpacking")


def _opened(archive: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(archive)
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.filename:  # it cannot be opened
            raise
        raise ZipError(f"no complete zip ({error})") from None


def _is_whole(path: Path, member: zipfile.ZipInfo) -> bool:
    if not path.is_file() or path.stat().st_size != member.file_size:
        return False
    return zlib.crc32(path.read_bytes()) == member.CRC


def _write(packed: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    source = _reading(member, lambda: packed.open(member))
    with source, path.open("wb") as file:
        while block := _reading(member, lambda: source.read(1 << 20)):
            file.write(block)


def _reading(member: zipfile.ZipInfo, read: Callable[[], Read]) -> Read:
    """What `read` gives; nothing is written in it, so that each error is one of the zip."""
    try:
        return read()
    except _DAMAGE as error:  # the CRC-32, too
        raise ZipError(f"{member.filename} is damaged ({error})") from None
