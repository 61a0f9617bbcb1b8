"""Greedy one-to-one matching of many independent problems at once: the core of both metrics.

KITTI lets each ground truth take its best detection, COCO lets each detection take its best ground
truth. Either way "pickers" choose one after the other among "slots" that are still free.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

_MOST_PAIRS = 1 << 16  # looked at together: they stay in the processor's cache


def greedy(
    turn: np.ndarray,
    picker: np.ndarray,
    slot: np.ndarray,
    num_slots: int,
    shared: np.ndarray | None = None,
) -> np.ndarray:
    """Each picker takes the first free slot among its rows; pickers of one turn never compete.

    Args:
        turn: int [R], sorted: when the row's picker chooses.
        picker: int [R], who chooses; the rows of a picker stand together, best choice first.
        slot: int [R], what the row would take.
        num_slots: slots are 0..num_slots - 1.
        shared: bool [num_slots], slots that any number of pickers may take.

    Returns:
        The chosen rows, int [<= number of pickers].
    """
    taken = np.zeros(num_slots, bool)
    chosen = [np.zeros(0, np.int64)]
    turns = np.arange(turn[-1] + 2 if len(turn) else 0)
    for begin, end in itertools.pairwise(np.searchsorted(turn, turns)):
        free = begin + np.flatnonzero(~taken[slot[begin:end]])
        rows = free[np.diff(picker[free], prepend=-1) != 0]
        taken[slot[rows]] = True if shared is None else ~shared[slot[rows]]
        chosen.append(rows)
    return np.concatenate(chosen)


def position_in_group(group: np.ndarray) -> np.ndarray:
    """0, 1, 2, ... inside each run of equal values of `group` [R]."""
    index = np.arange(len(group))
    starts = np.diff(group, prepend=-1) != 0
    return index - np.maximum.accumulate(np.where(starts, index, 0))


@dataclass(frozen=True)
class FrameBoxes:
    """Boxes of many frames, sorted by `frame` [N]: left, top, right, bottom, float [N, 4]."""

    frame: np.ndarray
    ltrb: np.ndarray


def pairs_of_frames(
    first: FrameBoxes, second: FrameBoxes, num_frames: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of boxes in the same frame, some frames at a time: all that share an area, and others.

    Yields:
        Indices into both, int [P] each, by the first and then by the second.
    """
    counts = np.bincount(second.frame, minlength=num_frames)
    partners = counts[first.frame]  # of each box
    begin = (np.cumsum(counts) - counts)[first.frame]  # the first of them
    cuts = np.searchsorted(np.cumsum(partners), np.arange(_MOST_PAIRS, partners.sum(), _MOST_PAIRS))
    left, right, left_2, right_2 = (
        np.ascontiguousarray(boxes.ltrb[:, side]) for boxes in (first, second) for side in (0, 2)
    )
    for start, end in itertools.pairwise([0, *cuts, len(partners)]):
        count = partners[start:end]
        shift = begin[start:end] - (np.cumsum(count) - count)
        other = np.arange(count.sum()) + np.repeat(shift, count)
        near = np.repeat(left[start:end], count) < right_2[other]
        near &= left_2[other] < np.repeat(right[start:end], count)
        yield np.repeat(np.arange(start, end), count)[near], other[near]


def linked(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """For each pair [P] of numbers the least of `first` that pairs link it to, over any others.

    Pairs of different groups never compete.
    """
    group = first.copy()
    least = np.zeros(max(first.max(initial=0), second.max(initial=0)) + 1, int)
    while True:
        before = group
        for side in (second, first):
            least[side] = len(least)
            np.minimum.at(least, side, group)
            group = least[side]
        if np.array_equal(group, before):
            return group


def turns(picker: np.ndarray, group: np.ndarray) -> np.ndarray:
    """For each row how many pickers of its group choose before its own.

    Args:
        picker: int [R], whose rows stand together; of a group they choose in this order.
        group: int [R], one for each picker; those of other groups never compete.

    Returns:
        int16 [R], as numpy sorts 16 bits fastest.
    """
    is_next = np.diff(picker, prepend=-1) != 0
    of_picker = group[is_next]
    order = np.argsort(of_picker, kind="stable")
    turn = np.empty(len(order), np.int16)
    turn[order] = position_in_group(of_picker[order])
    return turn[np.cumsum(is_next) - 1]
