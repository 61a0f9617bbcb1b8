from unittest import mock

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientdet.dataset.boxes import (
    coverage,
    intersection,
    iou,
    paired_coverage,
    paired_intersection,
    paired_iou,
)
from efficientdet.evaluation import matching
from efficientdet.evaluation.matching import (
    FrameBoxes,
    greedy,
    linked,
    pairs_of_frames,
    position_in_group,
    turns,
)


def test_a_picker_takes_its_first_free_slot():
    turn = np.array([0, 0, 1, 1, 2])
    picker = np.array([0, 0, 1, 1, 2])
    slot = np.array([3, 1, 3, 2, 3])
    assert greedy(turn, picker, slot, 4).tolist() == [0, 3]


def test_pickers_of_one_turn_work_side_by_side():
    rows = greedy(np.zeros(4, int), np.array([0, 0, 5, 5]), np.array([1, 0, 3, 2]), 4)
    assert rows.tolist() == [0, 2]


def test_a_shared_slot_is_never_taken():
    turn, slot = np.array([0, 1, 2]), np.array([0, 0, 0])
    assert greedy(turn, turn, slot, 1).tolist() == [0]
    assert greedy(turn, turn, slot, 1, shared=np.array([True])).tolist() == [0, 1, 2]


def test_nobody_picks_nothing():
    nothing = np.zeros(0, int)
    assert greedy(nothing, nothing, nothing, 0).tolist() == []
    assert position_in_group(nothing).tolist() == []


def test_position_in_group():
    assert position_in_group(np.array([0, 0, 4, 7, 7, 7])).tolist() == [0, 1, 0, 0, 1, 2]


def test_overlaps_by_hand():
    a = np.array([[0.0, 0, 10, 10], [20, 20, 20, 30]])
    b = np.array([[5.0, 5, 15, 15], [0, 0, 10, 10], [20, 20, 20, 30]])
    assert intersection(a, b).tolist() == [[25, 100, 0], [0, 0, 0]]
    assert iou(a, b).tolist() == [[25 / 175, 1, 0], [0, 0, 0]]
    assert coverage(a, b).tolist() == [[0.25, 1, 0], [0, 0, 0]]
    assert iou(np.zeros((0, 4)), b).shape == (0, 3)
    assert paired_intersection(a, b[:2]).tolist() == [25, 0]
    assert paired_iou(a, b[[0, 2]]).tolist() == [25 / 175, 0]
    assert paired_coverage(a, b[[0, 2]]).tolist() == [0.25, 0]


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_pairs_of_frames_are_all_that_share_an_area(seed, most):
    random = np.random.default_rng(seed)

    def boxes() -> FrameBoxes:
        frame = np.sort(random.integers(0, 6, random.integers(0, 30)))
        corner = random.integers(0, 9, (len(frame), 2)).astype(float)
        return FrameBoxes(frame, np.hstack([corner, corner + random.integers(0, 5, corner.shape)]))

    first, second = boxes(), boxes()
    with mock.patch.object(matching, "_MOST_PAIRS", most):
        found = [
            pair for part in pairs_of_frames(first, second, 7) for pair in zip(*part, strict=True)
        ]
    shared = intersection(first.ltrb, second.ltrb)
    same = first.frame[:, None] == second.frame
    assert found == sorted(found) and all(same[pair] for pair in found)
    assert {*zip(*np.nonzero(same & (shared > 0)), strict=True)} <= {*found}


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=20))
def test_what_is_linked_has_one_number(pairs):
    first, second = (
        np.array(side, int) for side in (zip(*pairs, strict=True) if pairs else ((), ()))
    )
    expected = {a: a for a, _ in pairs}
    for _ in pairs:
        for a, b in pairs:
            expected[a] = min(expected[c] for c, d in pairs if d == b or c == a)
    assert linked(first, second).tolist() == [expected[a] for a, _ in pairs]


def test_turns_count_inside_a_group():
    picker = np.array([3, 3, 5, 6, 6, 9])
    group = np.array([1, 1, 0, 1, 1, 0])
    assert turns(picker, group).tolist() == [0, 0, 0, 1, 1, 1]
