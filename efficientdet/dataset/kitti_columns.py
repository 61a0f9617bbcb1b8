"""Many label or result files at once, as columns, which is all that a metric reads of them.

Files as KITTI and its detectors write them are converted together, some hundreds at a time. Where
one of them is written otherwise, `kitti.read_labels` reads them line by line, to the same numbers,
and says what is wrong.
"""

import os
import stat
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from efficientdet.dataset.kitti import MAX_NUMBER, read_labels

_AT_ONCE = 256  # files
_MOST_BYTES = 1 << 20  # of one that is read at once
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_NUMBERS = 14  # behind the type, and then the score

Columns = tuple[Sequence[str], np.ndarray]


def read_columns(
    paths: Sequence[str], *, scored: bool, names: Collection[str]
) -> Iterator[Columns]:
    """Of each file its N types, and float [N, 14], with the score [N, 15]: what stands behind them.

    Args:
        scored: files of results, with a score in every line.
        names: the classes that may stand there.

    Raises:
        UserError: unreadable, or a bad line; the first of them.
    """
    for start in range(0, len(paths), _AT_ONCE):
        some = paths[start : start + _AT_ONCE]
        plain = _plain([_content(path) for path in some], _NUMBERS + scored, names)
        yield from plain or (_by_lines(path, scored, names) for path in some)


def _content(path: str) -> bytes | None:
    """The bytes of a small ordinary file; a pipe is not waited for."""
    try:
        file = os.open(path, _FLAGS)
    except (OSError, ValueError):
        return None
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_BYTES:
            return None
        data = os.read(file, status.st_size + 1)
    except OSError:
        return None
    finally:
        os.close(file)
    return data if len(data) == status.st_size else None


def _plain(
    files: Sequence[bytes | None], width: int, names: Collection[str]
) -> list[Columns] | None:
    """The columns of all files, if each line of each is a known name and so many sane numbers."""
    if None in files:
        return None
    bare = (data.strip() for data in files)  # some end in an empty line
    ended = [data and data + b"\n" for data in bare]
    text, known = b"\n" + b"".join(ended), {name.encode(): name for name in names}
    words = text.split()
    kinds = words[:: width + 1]
    del words[:: width + 1]
    is_plain = (
        text.isascii()
        and known.keys() >= set(kinds)
        and len(words) == width * len(kinds)
        # Each line begins with a name, and there are as many lines as names.
        and text.count(b"\n") - 1 == len(kinds)
        and sum(text.count(b"\n" + name + b" ") for name in set(kinds)) == len(kinds)
        and b"_" not in b"".join(words)  # which Python reads over: 1_000
    )
    if not is_plain:
        return None
    try:
        numbers = np.array(list(map(float, words)), float).reshape(-1, width)
    except ValueError:
        return None
    _, occluded, _, left, top, right, bottom = numbers[:, :7].T
    is_sane = np.abs(numbers).max(initial=0) <= MAX_NUMBER and (occluded % 1 == 0).all()
    if not is_sane or (left > right).any() or (top > bottom).any():
        return None
    types = list(map(known.__getitem__, kinds))
    ends = np.cumsum([data.count(b"\n") for data in ended]).tolist()
    return [
        (types[start:end], numbers[start:end]) for start, end in zip([0, *ends], ends, strict=False)
    ]


def _by_lines(path: str, scored: bool, names: Collection[str]) -> Columns:
    objects = read_labels(path, scored=scored, names=names)
    rows = [
        (o.truncated, o.occluded, o.alpha, *o.box, o.height, o.width, o.length, o.x, o.y, o.z)
        + ((o.rotation_y, o.score) if scored else (o.rotation_y,))
        for o in objects
    ]
    numbers = np.array(rows, float).reshape(-1, _NUMBERS + scored)
    return [o.type for o in objects], numbers
