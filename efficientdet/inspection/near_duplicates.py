"""Frames of one set that look like a frame of another: the leak that makes an AP look fine.

By the perceptual hash of a grey thumbnail, 256 bits. Measured on 1,750 frames of KITTI: of 1.4
million pairs from different streets none differs in fewer than 82 bits. Of the validation frames of
a random split 25 % find a training frame within 44 bits (43 % within 64); of the drive split 3.7 %
(also within 64): frames of a car that was parked in one place for many drives of 2011_09_28.
Streets of one make, as the made-up ones all are, begin to look alike at 48.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import imagehash
import numpy as np

from efficientdet.dataset.example import Record
from efficientdet.dataset.image import ImageError, grey_thumbnail
from efficientdet.dataset.parallel import map_in_order
from efficientdet.dataset.tfrecord import Place
from efficientdet.inspection.checks import InspectedSet, Problem, Report
from efficientdet.progress import meter
from efficientdet.wording import counted

NEAR = "near-duplicates between sets: AP will look better than it is"
MAX_BITS = 44  # that may differ
NUM_BITS = 256
WARN_SHARE = 0.05
# A PNG takes 30 ms of a core, a JPEG 2 ms.
_JUDGED, _HELD_AGAINST = 1_000, 20_000
_ROWS = 256  # of the table of distances that are made at once


@dataclass(frozen=True)
class Pair:
    """Two frames that look alike: numbers of their places in their sets, and bits that differ."""

    first: int
    second: int
    bits: int


@dataclass(frozen=True)
class NearDuplicates:
    """What two sets have in common for the eye.

    Attributes:
        first, second: the set to train on, and the one held against it.
        num_first, num_second: frames looked at; evenly spaced where a set has many.
        pairs: for each frame of `second` that looks like one of `first` the one most like it.
    """

    first: InspectedSet
    second: InspectedSet
    num_first: int
    num_second: int
    pairs: list[Pair]

    @property
    def share(self) -> float:
        """Share of the frames of `second`, in [0, 1]."""
        return len(self.pairs) / max(1, self.num_second)

    @property
    def text(self) -> str:
        """What was found, in one sentence."""
        first, second = self.first.path.name, self.second.path.name
        sampled = [
            f"{number:,} of {counted(len(one.places), 'frame')} of {one.path.name}"
            for one, number in ((self.first, self.num_first), (self.second, self.num_second))
            if number < len(one.places)
        ]
        return (
            f"{self.share:.1%} of the frames of {second} ({len(self.pairs):,} of "
            f"{self.num_second:,}) look like a frame of {first}"
            + (f"; looked at {' and '.join(sampled)}, evenly spaced" if sampled else "")
        )

    def examples(self, limit: int = 4) -> list[Pair]:
        """A few pairs, from the most to the least alike."""
        ordered = sorted(self.pairs, key=lambda pair: pair.bits)
        indices = np.linspace(0, len(ordered) - 1, min(limit, len(ordered))).astype(int)
        return [ordered[index] for index in indices]


def find(report: Report, num_workers: int | None = None) -> list[NearDuplicates]:
    """Each other set held against the one to train on; nothing where that is the only one."""
    sets = [one for one in report.sets if one.places and not one.is_testing]
    first = report.training
    if first not in sets or len(sets) < 2:
        return []
    known, hashes = _hashes(first, _HELD_AGAINST, num_workers)
    return [
        _compare(first, known, hashes, one, *_hashes(one, _JUDGED, num_workers))
        for one in sets
        if one is not first
    ]


def warnings(found: Sequence[NearDuplicates]) -> Iterator[Problem]:
    """One for each pair of sets with more than a few."""
    for one in found:
        if one.share > WARN_SHARE:
            where = f"{one.first.path.name} and {one.second.path.name}"
            yield Problem(NEAR, where, f"{one.text}; convert with {_advice(one)}")


def _advice(one: NearDuplicates) -> str:
    if one.first.is_kitti and one.second.is_kitti:
        return "--split=drive"
    return "--split=sequence and a --group_by that keeps whole recordings apart"


def _hashes(
    one: InspectedSet, limit: int, num_workers: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the places looked at, int [N], and their hashes, +-1 float [N, 256]."""
    chosen = np.linspace(0, len(one.places) - 1, min(limit, len(one.places))).astype(int)
    places = [one.places[index] for index in chosen]
    rows = np.zeros((len(chosen), NUM_BITS), np.float32)
    with meter(f"look-alikes {one.path.name}", len(chosen)) as progress:
        for row, (place, bits) in enumerate(map_in_order(_hash, places, num_workers)):
            progress.add(place.length)
            if bits is not None:
                rows[row] = 2.0 * bits - 1
    decoded = rows.any(1)
    return chosen[decoded], rows[decoded]


def fingerprint(encoded: bytes) -> np.ndarray:
    """The perceptual hash of an image: bool [256].

    Raises:
        ImageError: damaged, or no image.
    """
    side = int(NUM_BITS**0.5)
    return imagehash.phash(grey_thumbnail(encoded, 4 * side), hash_size=side).hash.ravel()


def _hash(place: Place) -> tuple[Place, np.ndarray | None]:
    try:
        return place, fingerprint(Record.parse(place.read()).encoded)
    except ImageError:  # the checks have told
        return place, None


def _compare(
    first: InspectedSet,
    known: np.ndarray,
    hashes: np.ndarray,
    second: InspectedSet,
    judged: np.ndarray,
    their_hashes: np.ndarray,
) -> NearDuplicates:
    pairs = []
    for start in range(0, len(judged) if len(known) else 0, _ROWS):
        bits = (NUM_BITS - their_hashes[start : start + _ROWS] @ hashes.T) / 2
        for row, nearest in enumerate(bits.argmin(1)):
            if bits[row, nearest] <= MAX_BITS:
                pair = Pair(int(known[nearest]), int(judged[start + row]), int(bits[row, nearest]))
                pairs.append(pair)
    return NearDuplicates(first, second, len(known), len(judged), pairs)
