"""Greedy one-to-one matching of many independent problems at once: the core of both metrics.

KITTI lets each ground truth take its best detection, COCO lets each detection take its best ground
truth. Either way "pickers" choose one after the other among "slots" that are still free.
"""

import itertools

import numpy as np


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
