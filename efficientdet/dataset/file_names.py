"""What a frame's results and pictures are called, by its source_id."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from efficientdet.dataset.kitti import IMAGE_SUFFIXES
from efficientdet.errors import UserError

# File systems allow 255 in one part of a path; an ending and a temporary name come on top.
MAX_BYTES = 220


def file_name(source_id: str) -> str:
    """The path, without an ending, of what is written about a frame, relative to its folder.

    `drive0/000001` keeps its folder, so that `drive1/000001` is another file. The ending of an
    image goes; of an absolute path, which other tools store, only the last part stays.

    Raises:
        UserError: a source_id that cannot name a file inside a folder.
    """
    parts = source_id.replace("\\", "/").split("/")
    if len(parts) > 1 and re.fullmatch("([A-Za-z]:)?", parts[0]):
        parts = parts[-1:]
    last = PurePosixPath(parts[-1])
    if last.suffix.lower() in IMAGE_SUFFIXES:
        parts[-1] = last.stem
    name = "/".join(parts)
    if why := _what_is_wrong(name, parts):
        raise UserError(
            f"source_id {shown(source_id)!r} {why}; expected what can name a file, such as 000007 "
            "or drive0/000007"
        )
    return name


def shown(text: str, limit: int = 300) -> str:
    """A text of a record as it may stand in a message: one line, of at most `limit` characters."""
    start = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}"
                    for letter in text[:limit])  # fmt: skip
    return start + "..." * (len(text) > limit)


def _what_is_wrong(name: str, parts: Sequence[str]) -> str:
    if not name:
        return "is empty"
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        return "has a NUL or another control character"
    if not {"", ".", ".."}.isdisjoint(parts):
        return "leads out of its folder or names none"
    if len(name.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        return f"is longer than {MAX_BYTES} bytes"
    return ""
