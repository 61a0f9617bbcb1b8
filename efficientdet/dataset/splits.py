"""Which frames train and which validate.

KITTI's frames are pictures of 141 drives (recordings), shuffled. Two frames of one drive are often
a tenth of a second apart, so a split that parts a drive measures memory, not skill.
"""

import codecs
import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path, PureWindowsPath
from random import Random
from typing import Literal

import numpy as np

from efficientdet.dataset.kitti import IMAGE_SUFFIXES
from efficientdet.dataset.text_file import read_bytes
from efficientdet.errors import UsageError, UserError, shown

Split = Literal["drive", "chen", "sequence", "random", "file"]
SPLITS = ("drive", "chen", "sequence", "random", "file")
_TABLE = Path(__file__).with_name("kitti_drives.txt")
_KICKS, _KICKED = 1000, 5
_MAX_PAIRS = 500_000  # groups to exchange that are looked at
_BLOCKS = 5
_MAX_ID = 200  # letters; with a suffix it must be a file's name
# Width and height of the images of a day's drives.
_SIZES = {
    "2011_09_26": (1242, 375),
    "2011_09_28": (1224, 370),
    "2011_09_29": (1238, 374),
    "2011_10_03": (1241, 376),
}
_KITTI_SHARE = 0.95  # 81 % of KITTI is 1242x375, as all of another set may be


@dataclass(frozen=True)
class Drive:
    """One recording.

    Attributes:
        name: `2011_09_26_drive_0005`.
        chen: its side, `train` or `val`, in the split of Chen et al.
        default: its side in `drive_split()`.
        class_counts: labelled objects of each class, in the order of `kitti.CLASSES`.
        frames: indices of its frames in the object training set.
    """

    name: str
    chen: str
    default: str
    class_counts: tuple[int, ...]
    frames: tuple[int, ...]


@cache
def drives() -> tuple[Drive, ...]:
    """The 141 drives of the object training set; their frames are 0..7480, each one once."""
    return tuple(
        _parse_drive(line)
        for line in _TABLE.read_text(encoding="utf-8").splitlines()
        if not line.startswith("#")
    )


def drive_of(source_id: str) -> str | None:
    """The drive of a training frame `000007`, or None for an id that KITTI does not have.

    Other sets number their images as KITTI does, its testing set among them: `looks_like_kitti`.
    """
    return _drive_by_id().get(source_id)


def kitti_size(source_id: str) -> tuple[int, int] | None:
    """Width and height of KITTI's training image `000007`; None for an id that it does not have."""
    drive = drive_of(source_id)
    return _SIZES[drive[: len("2011_09_26")]] if drive else None


def looks_like_kitti(sizes: Mapping[str, tuple[int, int]]) -> bool:
    """Whether the images that are named as KITTI's training frames have the sizes of those.

    Args:
        sizes: source id -> width and height in pixels, of all images or a fair sample.
    """
    same = [size == expected for i, size in sizes.items() if (expected := kitti_size(i))]
    return bool(same) and sum(same) >= _KITTI_SHARE * len(same)


def split_frames(
    ids: Iterable[str],
    split: Split,
    *,
    val_fraction: float = 0.2,
    seed: int = 0,
    is_kitti: bool = True,
) -> tuple[list[str], list[str]]:
    """Training and validation ids of the frames present, each sorted.

    `drive` and `chen` decide for all of KITTI and then keep what is present, so that a partial copy
    never trains on a frame that another copy validates on. Of frames that KITTI does not have no
    drive is known; in the order of their ids, a few contiguous blocks of them validate.

    Args:
        ids: source ids of the frames present.
        split: `drive`, `chen` or `random`.
        val_fraction: share of the frames on the validation side; in (0, 1); `chen` has its own.
        seed: of `drive`, `random` and the blocks.
        is_kitti: ids in KITTI's table are KITTI's frames (`looks_like_kitti`).
    """
    check_fraction(val_fraction)
    ids = sorted(set(ids))
    if split == "random":
        by_hash = sorted(ids, key=lambda source_id: _hash(source_id, seed))
        validation = set(by_hash[: round(val_fraction * len(ids))])
    else:
        drives_of = {i: drive for i in ids if is_kitti and (drive := drive_of(i))}
        names = frozenset()
        if drives_of:
            names = _chen_drives() if split == "chen" else drive_split(val_fraction, seed)
        validation = {i for i, drive in drives_of.items() if drive in names}
        validation |= _blocks([i for i in ids if i not in drives_of], val_fraction, seed)
    return [i for i in ids if i not in validation], [i for i in ids if i in validation]


def check_fraction(val_fraction: float) -> None:
    """Raises UsageError unless the validation side's share lies between 0 and 1."""
    if not 0 < val_fraction < 1:
        raise UsageError(f"--val_fraction={val_fraction}: expected a number between 0 and 1")


@cache
def drive_split(val_fraction: float = 0.2, seed: int = 0) -> frozenset[str]:
    """Names of the validation drives; see `search_drives`, whose result the table holds."""
    if (val_fraction, seed) == (0.2, 0):
        return frozenset(drive.name for drive in drives() if drive.default == "val")
    return search_drives(val_fraction, seed)


def search_drives(val_fraction: float, seed: int) -> frozenset[str]:
    """Names of the validation drives: exactly round(val_fraction * 7481) frames where drives allow.

    See `search_groups`.
    """
    counts = np.array([(len(drive.frames), *drive.class_counts) for drive in drives()], np.int64)
    chosen = search_groups(counts, val_fraction, seed)
    return frozenset(drive.name for drive, inside in zip(drives(), chosen, strict=True) if inside)


def search_groups(
    counts: np.ndarray, val_fraction: float, seed: int, *, by_share: bool = False
) -> np.ndarray:
    """Which groups validate: bool [D], with `val_fraction` of the frames and of each class.

    Among such subsets, one whose classes have shares as close to `val_fraction` as an iterated
    local search finds: descend, kick a few groups across, descend again, keep what is no worse. All
    costs are whole numbers and all chance is seeded, so every machine finds the same split.

    Args:
        counts: int [D, 1 + K], frames and objects of each class; D >= 2. More than 141 groups
            (KITTI's drives) are kicked less often.
        by_share: neither side is empty, and the frames' number is weighed by its share, as classes
            are, ten times as much; False: it goes before all classes.
    """
    counts = counts[:, counts.any(0)]
    totals = counts.sum(0)
    target = np.round(val_fraction * totals).astype(np.int64)
    random = Random(seed)
    best = np.array([random.random() < val_fraction for _ in counts])
    best_cost = _descend(best, counts, target, by_share)
    for _ in range(min(_KICKS, 20_000_000 // len(counts) ** 2)):
        chosen = best.copy()
        for _ in range(_KICKED):
            chosen[int(random.random() * len(chosen))] ^= True
        cost = _descend(chosen, counts, target, by_share)
        if cost <= best_cost:
            best_cost, best = cost, chosen
    if by_share and best.all() == best.any():
        flips = np.where(best[:, None], totals - counts, counts) - target
        best[_cost(flips, totals, by_share).argmin()] ^= True
    return best


def read_split_file(path: str | Path, known: Collection[str] = ()) -> list[str]:
    """Frame ids of an ImageSets list, one a line; the one reader of such lists.

    `000007.png`, `000007.txt` and paths (with \\, too) are reduced to the id: of a path as much as
    is one of `known`, such as `cam1/000007`, or else its last part.

    Raises:
        UserError: unreadable, empty, an id that stands twice or can name no file; names the line.
    """
    data = read_bytes(path, "one frame id a line")
    try:
        # PowerShell's `>` writes UTF-16.
        utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        lines = data.decode("utf-16" if utf16 else "utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start})") from None
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if source_id := _listed_id(line.strip(), known):
            if len(source_id) > _MAX_ID or not source_id.isprintable() or source_id == "..":
                raise UserError(
                    f"{path}:{number}: {shown(source_id)} is no frame id; expected one a line, "
                    "such as 000007"
                )
            if source_id in seen:
                raise UserError(
                    f"{path}:{number}: {source_id} stands twice (first on line {seen[source_id]})"
                )
            seen[source_id] = number
    if not seen:
        raise UserError(f"{path}: no frame id; expected one a line, such as 000007")
    return list(seen)


def _listed_id(text: str, known: Collection[str]) -> str:
    if not any(mark in text for mark in "/\\:."):
        return text
    path = PureWindowsPath(text)  # splits at / and at \
    name = path.stem if path.suffix.lower() in (*IMAGE_SUFFIXES, ".txt") else path.name
    ends = ("/".join((*path.parts[start:-1], name)) for start in range(len(path.parts)))
    return next((end for end in ends if end in known), name)


def count_drives(ids: Iterable[str]) -> dict[str, int]:
    """Drive -> number of frames, of those frames of KITTI's training set that have the ids."""
    return dict(sorted(Counter(drive for i in ids if (drive := drive_of(i))).items()))


def shared_drives(train: Iterable[str], validation: Iterable[str]) -> dict[str, int]:
    """Drive -> number of validation frames, for the drives that stand on both sides.

    Args:
        train, validation: ids of KITTI's training frames, and others.
    """
    train_drives = count_drives(train)
    return {k: count for k, count in count_drives(validation).items() if k in train_drives}


def _descend(chosen: np.ndarray, counts: np.ndarray, target: np.ndarray, by_share: bool) -> int:
    """Steepest descent: flips one group of `chosen` (in place) or exchanges two while that helps.

    Args:
        chosen: bool [D], the validation groups.
        counts: int [D, 1 + K], frames and objects of each class.
        target: int [1 + K], the same for the whole validation side.

    Returns:
        The final cost.
    """
    totals = counts.sum(0)
    while True:
        error = counts[chosen].sum(0) - target
        cost = int(_cost(error, totals, by_share))
        change = np.where(chosen[:, None], -counts, counts)
        inside, outside = np.flatnonzero(chosen), np.flatnonzero(~chosen)
        if len(inside) * len(outside) > _MAX_PAIRS:
            inside = inside[:0]  # so many can do with flips
        flips = _cost(error + change, totals, by_share)
        swaps = _cost(error + change[inside][:, None] + change[outside][None], totals, by_share)
        if min(flips.min(), swaps.min(initial=cost)) >= cost:
            return cost
        if flips.min() <= swaps.min(initial=cost):
            chosen[flips.argmin()] ^= True
        else:
            first, second = np.unravel_index(swaps.argmin(), swaps.shape)
            chosen[inside[first]], chosen[outside[second]] = False, True


def _cost(error: np.ndarray, totals: np.ndarray, by_share: bool) -> np.ndarray:
    """Squared errors of the class shares in (1e-4)^2, and of the frames, in shares or as such."""
    shares = 10_000 * error // totals
    frames = 10 * shares[..., 0] ** 2 if by_share else 1000 * error[..., 0] ** 2
    return frames + (shares[..., 1:] ** 2).sum(-1)


def _parse_drive(line: str) -> Drive:
    head, _, frames = line.partition(":")
    name, chen, default, *counts = head.split()
    return Drive(name, chen, default, tuple(map(int, counts)), tuple(map(int, frames.split())))


@cache
def _drive_by_id() -> Mapping[str, str]:
    return {f"{frame:06d}": drive.name for drive in drives() for frame in drive.frames}


def _chen_drives() -> frozenset[str]:
    return frozenset(drive.name for drive in drives() if drive.chen == "val")


def _blocks(ids: list[str], val_fraction: float, seed: int) -> set[str]:
    """One contiguous part of each fifth of the ids, so that few frames lie beside the other side.

    Together they are round(val_fraction * len(ids)) frames, wherever the seed puts them.
    """
    ids, chosen = sorted(ids, key=_natural), set()
    starts = [len(ids) * block // _BLOCKS for block in range(_BLOCKS + 1)]
    for first, last in pairwise(starts):
        count = round(val_fraction * last) - round(val_fraction * first)
        begin = first + int(_hash(f"block {first}", seed) * (last - first - count + 1))
        chosen |= {*ids[begin : begin + count]}
    return chosen


def _natural(source_id: str) -> list[tuple[int, str]]:
    """A key that sorts `frame_9` before `frame_10`."""
    parts = re.findall(r"\d+|\D+", source_id)
    numbers = (part.lstrip("0") if part.isdecimal() else None for part in parts)
    # A longer number is a larger one; Python does not make an int of one of 5000 digits.
    return [
        (-1, part) if n is None else (len(n), n) for n, part in zip(numbers, parts, strict=True)
    ]


def _hash(source_id: str, seed: int) -> float:
    """A number in [0, 1) that depends on nothing but the id and the seed."""
    digest = hashlib.sha256(f"{seed}/{source_id}".encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48
