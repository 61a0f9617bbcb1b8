"""Which class was taken for which, counted by hand."""

import numpy as np
import pytest

from efficientdet.dataset.label_map import LabelMap
from efficientdet.evaluation.evaluate import evaluate
from efficientdet.evaluation.frames import BoxObject, FrameDetections, FrameTruth
from efficientdet.evaluation.mistakes import Mistakes

CAR, WALKER, CYCLIST = 1, 2, 3
MAP = LabelMap((("Car",), ("Pedestrian",), ("Cyclist",)))
THRESHOLDS = {CAR: 0.5, WALKER: 0.3, CYCLIST: 0.3}


def box(left: float, width: float = 20) -> tuple[float, float, float, float]:
    return (left, 10, left + width, 50)


def matrix(objects: list[tuple], found: list[tuple]) -> list[list[int]]:
    """Rows: background, Car, Pedestrian, Cyclist; columns the same."""
    truth = FrameTruth("1", 900, 100, [BoxObject(kind, where) for kind, where in objects])
    boxes, scores, classes = zip(*found, strict=True) if found else ([], [], [])
    empty = FrameTruth("2", 900, 100, [])
    elsewhere = FrameDetections("2", [box(100)], [0.1], [CAR])  # below the threshold
    detections = [FrameDetections("1", boxes, scores, classes), elsewhere]
    mistakes: Mistakes = evaluate([truth, empty], detections, MAP).mistakes
    counted = mistakes.confusion(THRESHOLDS)
    for class_id, threshold in THRESHOLDS.items():  # the table of thresholds says the same
        point = mistakes.at(class_id, threshold)
        assert counted[class_id].sum() == point.num_objects
        assert counted[class_id].sum() - counted[class_id, class_id] == point.num_missed
        assert counted[:, class_id].sum() - counted[class_id, class_id] == point.num_false
    return counted.tolist()


def test_a_frame_by_hand():
    objects = [
        ("Car", box(0)), ("Car", box(50)), ("Pedestrian", box(100)), ("Cyclist", box(150)),
        ("Cyclist", box(200)),
    ]  # fmt: skip
    found = [
        (box(2), 0.9, CAR),  # right
        (box(0), 0.6, CAR),  # the same car again
        (box(50), 0.4, CAR),  # right, but below its threshold
        (box(103), 0.8, CYCLIST),  # a walker taken for a cyclist
        (box(151), 0.7, CYCLIST),  # right
        (box(150), 0.9, WALKER),  # better, but that cyclist is found
        (box(212), 0.9, WALKER),  # overlaps the last cyclist by a third only
        (box(400), 0.5, WALKER),  # nothing there
    ]
    assert matrix(objects, found) == [
        [0, 1, 3, 0],
        [1, 1, 0, 0],
        [0, 0, 0, 1],
        [1, 0, 0, 1],
    ]


def test_the_better_detection_chooses_first_and_the_nearest_object():
    objects = [("Cyclist", box(0, 40)), ("Cyclist", box(8, 40))]
    found = [(box(7, 40), 0.6, WALKER), (box(1, 40), 0.9, CAR), (box(2, 40), 0.5, WALKER)]
    assert matrix(objects, found) == [[0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 1, 1, 0]]


@pytest.mark.parametrize("kind", ["DontCare", "Van"])
def test_what_is_ignored_is_neither_right_nor_wrong(kind):
    found = [(box(0), 0.9, CAR), (box(40), 0.9, WALKER)]
    assert matrix([(kind, box(0, 100))], found) == np.zeros((4, 4), int).tolist()
    half_outside = [(box(85, 40), 0.9, CAR)]
    assert matrix([(kind, box(0, 100))], half_outside)[0] == [0, 1, 0, 0]


def test_nothing_found_and_nothing_there():
    assert matrix([("Car", box(0))], []) == [[0] * 4, [1, 0, 0, 0], [0] * 4, [0] * 4]
    assert matrix([], []) == [[0] * 4] * 4
