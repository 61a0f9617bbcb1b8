"""One frame judged: found, missed, invented, and what is neither."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientdet.dataset.label_map import LabelMap
from efficientdet.evaluation.evaluate import evaluate
from efficientdet.evaluation.frames import BoxObject, FrameDetections, FrameTruth
from efficientdet.evaluation.verdict import judge

MAP = LabelMap((("Pedestrian",), ("Car",)))
TRUTH = FrameTruth(
    "0",
    100,
    50,
    [
        BoxObject("Car", (0, 0, 10, 10)),
        BoxObject("Pedestrian", (20, 0, 30, 10)),
        BoxObject("DontCare", (60, 0, 100, 50)),
        BoxObject("Tram", (40, 0, 50, 10)),  # the map does not name it
    ],
)


def test_the_better_one_finds_the_object_and_the_second_is_false():
    shown = FrameDetections("0", [[0, 0, 10, 9], [0, 0, 10, 10]], [0.5, 0.9], [2, 2])
    verdict = judge(TRUTH, shown, MAP)
    assert verdict.found.tolist() == [True, False, False, False]
    assert verdict.missed.tolist() == [False, True, False, False]
    assert verdict.detections.score.tolist() == [0.9, 0.5]
    assert verdict.right.tolist() == [True, False] and verdict.false.tolist() == [False, True]
    assert verdict.counts(MAP).tolist() == [[0, 0, 0], [0, 1, 0], [1, 0, 1]]


def test_a_car_needs_more_overlap_than_a_pedestrian():
    boxes = [[0, 0, 10, 6], [20, 0, 30, 6]]  # IoU 0.6
    verdict = judge(TRUTH, FrameDetections("0", boxes, [0.5, 0.5], [2, 1]), MAP)
    assert verdict.found.tolist() == [False, True, False, False]
    assert verdict.counts(MAP)[1:].tolist() == [[1, 0, 0], [0, 1, 1]]


def test_who_finds_something_in_a_region_is_neither_right_nor_false():
    boxes = [[61, 1, 70, 20], [40, 0, 50, 10], [54, 0, 64, 10]]
    verdict = judge(TRUTH, FrameDetections("0", boxes, [0.9, 0.8, 0.7], [2, 1, 1]), MAP)
    assert not verdict.right.any() and verdict.false.sum() == 1
    assert verdict.ignored.tolist() == [False, False, True, True]


def test_a_frame_with_nothing_in_it():
    verdict = judge(FrameTruth("0", 9, 9, []), FrameDetections("0"), MAP)
    assert not verdict.counts(MAP).any()


@settings(derandomize=True, max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_where_a_half_is_enough_it_says_what_the_evaluation_says(seed):
    rng, only = np.random.default_rng(seed), LabelMap((("Pedestrian",), ("Cyclist",)))
    corners = rng.integers(0, 12, (9, 2))
    boxes = np.concatenate([corners, corners + rng.integers(4, 9, (9, 2))], axis=1)
    kinds = rng.choice(["Pedestrian", "Cyclist", "DontCare"], 4)
    truth = FrameTruth(
        "0", 30, 30, [BoxObject(k, tuple(b)) for k, b in zip(kinds, boxes[:4], strict=True)]
    )
    shown = FrameDetections("0", boxes[4:], rng.random(5), rng.integers(1, 3, 5))
    counts = judge(truth, shown, only).counts(only)
    mistakes = evaluate([truth], [shown], only).mistakes
    for class_id in (1, 2):
        point = mistakes.at(class_id, 0.0)
        found = point.num_objects - point.num_missed
        assert counts[class_id].tolist() == [found, point.num_missed, point.num_false]
