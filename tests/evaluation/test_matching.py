import numpy as np

from efficientdet.dataset.boxes import coverage, intersection, iou
from efficientdet.evaluation.matching import greedy, position_in_group


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
