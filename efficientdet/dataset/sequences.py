"""Which frames were recorded together, by their names: for data without KITTI's list of drives."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import PurePosixPath
from statistics import median

import numpy as np

from efficientdet.dataset.kitti import DONT_CARE, Frame, read_file
from efficientdet.dataset.splits import check_fraction, search_groups
from efficientdet.errors import UsageError, UserError
from efficientdet.wording import counted

FOLDER, TIME = "folder", "time"
_STEPS, _SECONDS = 10, 10.0  # a gap is longer than so many usual steps, and than so many seconds
_STAMP = re.compile(
    r"(?<!\d)((?:19|20)\d\d)[-_.]?(\d\d)[-_.]?(\d\d)[-_. T]*(\d\d)[-_.:h]?(\d\d)[-_.:m]?(\d\d)"
    r"(?:[-_.,]?(\d{1,9}))?(?!\d)"
)
_EPOCH = re.compile(r"(?<!\d)([12]\d{9})(?:\.?(\d{1,9}))?(?!\d)")  # 2001 to 2065, to nanoseconds
_NUMBER = re.compile(r"\d{1,18}(?!.*\d)", re.DOTALL)  # the last one
_BEFORE_NUMBERS = re.compile(r"\s+[-+]?\.?\d")  # a class's name may hold blanks
_MAX_CLASSES = 32
_FAR = 0.05


@dataclass(frozen=True)
class SequenceSplit:
    """Two sides, and a line that says how they were parted; ids are sorted."""

    training: list[str]
    validation: list[str]
    note: str


def split_sequences(
    frames: Sequence[Frame], group_by: str, *, val_fraction: float, seed: int
) -> SequenceSplit:
    """Whole groups of frames for validation, with `val_fraction` of the frames and of each class.

    Args:
        frames: all that are present; their labels are read.
        group_by: see `group`.
        val_fraction: in (0, 1).

    Raises:
        UsageError, UserError: see `group`.
    """
    check_fraction(val_fraction)
    groups = group([frame.source_id for frame in frames], group_by)
    classes = {frame.source_id: _classes(frame) for frame in frames}
    frequent = sum(classes.values(), Counter()).most_common(_MAX_CLASSES)
    names, rows = sorted(set(groups.values())), defaultdict(Counter)
    for source_id, name in groups.items():
        rows[name].update({None: 1}, **classes[source_id])
    keys = [None, *(name for name, _ in frequent)]
    counts = np.array([[rows[name][key] for key in keys] for name in names], np.int64)
    chosen = search_groups(counts, val_fraction, seed, by_share=True)
    inside = {name for name, one in zip(names, chosen, strict=True) if one}
    sides = [sorted(i for i, name in groups.items() if (name in inside) == x) for x in (0, 1)]
    return SequenceSplit(*sides, _note(counts, chosen, val_fraction, group_by))


def group(ids: Iterable[str], group_by: str) -> dict[str, str]:
    r"""Id -> name of its group, for two groups or more.

    Args:
        ids: at least one; folders in them are parted by `/`.
        group_by: `folder`: the folder that a frame lies in. `time`: a gap in the times or numbers
            of the names begins a new group, see `_by_time`. `time:60`: a gap of more than 60
            seconds, or numbers. Empty: `folder` where there are two at least, else `time`.
            Anything else is a regular expression that is searched in each id, as `^(\w+)/`; its
            groups name the group, without any the whole match does.

    Raises:
        UsageError: no regular expression, or one that does not match every id.
        UserError: all are one group; a name without a number.
    """
    ids = sorted(set(ids))
    by_folder = {i: str(PurePosixPath(i).parent) for i in ids}
    if not group_by:
        group_by = FOLDER if len(set(by_folder.values())) > 1 else TIME
    if group_by == FOLDER:
        groups = by_folder
    elif group_by == TIME or re.fullmatch(r"time:[\d.]+", group_by):
        groups = _by_time(ids, group_by)
    elif group_by.startswith(f"{TIME}:"):
        raise UsageError(f"--group_by={group_by}: expected seconds after the colon, as time:60")
    else:
        groups = _by_pattern(ids, group_by)
    if len(set(groups.values())) < 2:
        raise UserError(
            f"--group_by={group_by} makes one group of all "
            f"{counted(len(ids), 'frame')} (first {ids[0]}), which cannot be parted; expected "
            "folder, time, time:SECONDS or a regular expression that tells recordings apart, or "
            "--split=drive: KITTI's drives, of other data blocks"
        )
    return groups


def suggested(ids: Iterable[str]) -> str | None:
    """`folder` or `time` where that finds groups that can be balanced, else None."""
    ids = list(ids)
    for group_by in (FOLDER, TIME):
        try:
            if 5 <= len(set(group(ids, group_by).values())) < len(ids):
                return group_by
        except UserError:
            continue
    return None


def _by_pattern(ids: Sequence[str], pattern: str) -> dict[str, str]:
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise UsageError(
            f"--group_by={pattern!r}: no regular expression: {error}; expected one, folder or time"
        ) from None
    found = {i: compiled.search(i) for i in ids}
    if absent := [i for i, match in found.items() if match is None]:
        count = "none" if len(absent) == len(ids) else f"{len(ids) - len(absent):,}"
        raise UsageError(
            f"--group_by={pattern!r} matches {count} of {counted(len(ids), 'id')}; not, for "
            f"example, {absent[0]!r}; every frame needs a group"
        )
    return {i: "/".join(map(str, m.groups())) if m.groups() else m[0] for i, m in found.items()}


def _by_time(ids: Sequence[str], group_by: str) -> dict[str, str]:
    """Groups that end at gaps, each named by its first frame.

    Where every file name holds a time (2024-05-01_12-30-05, 20240501T123005.250, 1714566605.25, or
    seconds since 1970 with 3, 6 or 9 more digits), frames of one time are one group, whatever
    camera or folder they are of. Else the last number of a name counts, among the names that are
    alike but for it. A gap is longer than 10 usual (median) steps; of times, also than 10 seconds.
    """
    times = {i: _seconds(PurePosixPath(i).name) for i in ids}
    least, streams = _SECONDS, {"": times}
    if None in times.values():
        least, streams = 0.0, _numbered(ids)
    limit = float(group_by.partition(":")[2] or 0)
    groups: dict[str, str] = {}
    for stream in streams.values():
        ordered = sorted(stream, key=lambda i: (stream[i], i))
        steps = [stream[b] - stream[a] for a, b in pairwise(ordered)]
        usual = median([step for step in steps if step] or [1])
        gap, name = limit or max(least, _STEPS * usual), ordered[0]
        for source_id, step in zip(ordered, [0, *steps], strict=True):
            name = source_id if step > gap else name
            groups[source_id] = name
    return groups


def _numbered(ids: Sequence[str]) -> dict[str, dict[str, int]]:
    """Name without its last number -> id -> that number."""
    streams: dict[str, dict[str, int]] = defaultdict(dict)
    for source_id in ids:
        name = PurePosixPath(source_id).name
        if not (match := _NUMBER.search(name)):
            raise UserError(f"--group_by=time: {source_id!r} has no number in its name")
        prefix = source_id.removesuffix(name) + name[: match.start()]
        streams[f"{prefix}#{name[match.end() :]}"][source_id] = int(match[0])
    return streams


def _seconds(name: str) -> float | None:
    """The time in a file's name, or None."""
    if match := _STAMP.search(name):
        *parts, fraction = match.groups()
        try:
            whole = datetime(*map(int, parts), tzinfo=UTC).timestamp()
        except ValueError:  # month 13
            return None
        return whole + float(f"0.{fraction or 0}")
    match = _EPOCH.search(name)
    return float(f"{match[1]}.{match[2] or 0}") if match else None


def _classes(frame: Frame) -> Counter[str]:
    """Objects of each class; a label that cannot be read counts none, the conversion tells."""
    try:
        text = read_file(frame.label).decode("utf-8", "replace") if frame.label else ""
    except OSError:
        text = ""
    names = (_BEFORE_NUMBERS.split(line.strip())[0] for line in text.splitlines())
    return Counter(name for name in names if name not in ("", DONT_CARE))


def _note(counts: np.ndarray, chosen: np.ndarray, val_fraction: float, group_by: str) -> str:
    shares = counts[chosen].sum(0) / counts.sum(0).clip(1)
    text = (
        f"--split=sequence{f' --group_by={group_by}' if group_by else ''}: "
        f"{counted(len(counts), 'group')}, {chosen.sum():,} validate with {shares[0]:.1%} of the "
        f"frames ({val_fraction:.1%} asked)"
    )
    if len(shares) > 1:
        text += f" and {shares[1:].min():.1%} to {shares[1:].max():.1%} of each class's objects"
    if abs(shares[0] - val_fraction) > _FAR:
        text += "; the groups are too large to come nearer"
    if len(counts) == counts[:, 0].sum():
        text += "; each frame is a group of its own, which is no better than --split=random"
    return text
