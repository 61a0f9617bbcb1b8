import numpy as np
import pytest

from efficientdet.evaluation import coco
from efficientdet.evaluation.frames import FrameTruth
from efficientdet.evaluation.mistakes import Mistakes


@pytest.fixture
def mistakes(make_object, make_detections, label_map):
    """Frame 0: a car found, a far small one missed, two false ones. Frame 1: a car found late."""
    near = make_object(z=10)
    far = make_object(box=(200, 100, 220, 115), occluded=2, z=60)
    region = make_object("DontCare", (600, 0, 900, 200))
    truths = [
        FrameTruth("000000", 0, 0, [near, far, region]),
        FrameTruth("000001", 0, 0, [make_object(z=-1000)]),
    ]
    detections = [
        make_detections(
            ((0, 0, 100, 50), 0.9, 1),
            ((300, 0, 400, 50), 0.8, 1),
            ((300, 0, 400, 50), 0.2, 1),
            ((650, 0, 700, 50), 0.95, 1),  # inside the DontCare region
        ),
        make_detections(((0, 0, 100, 50), 0.7, 1), source_id="000001"),
    ]
    return Mistakes(truths, coco.match(truths, detections, label_map), label_map)


def test_best_f1(mistakes):
    points = mistakes.best_f1()
    assert list(points) == [1]
    car = points[1]
    assert car.threshold == 0.7
    assert (car.num_objects, car.num_missed, car.num_false) == (3, 1, 1)
    assert car.f1 == pytest.approx(2 / 3)


def test_equal_scores_pass_a_threshold_together(make_object, make_detections, label_map):
    """A threshold between a right and a wrong detection of one score does not exist."""
    truths = [FrameTruth("000000", 0, 0, [make_object()])]
    found = make_detections(((0, 0, 100, 50), 0.5, 1), ((300, 0, 400, 50), 0.5, 1))
    mistakes = Mistakes(truths, coco.match(truths, [found], label_map), label_map)
    assert mistakes.best_f1()[1].precision == 0.5


def test_misses_by_kind(mistakes):
    rows = {(m.property, m.kind): (m.num_missed, m.num_objects) for m in mistakes.misses({1: 0.7})}
    assert rows == {
        ("size", "small"): (1, 1),
        ("size", "medium"): (0, 2),
        ("occlusion", "fully visible"): (0, 2),
        ("occlusion", "largely occluded"): (1, 1),
        ("distance", "under 15 m"): (0, 1),
        ("distance", "over 50 m"): (1, 1),
        ("distance", "unknown"): (0, 1),
    }


def test_worst_frames(mistakes):
    frames = mistakes.worst_frames({1: 0.75})
    assert [(f.source_id, f.count) for f in frames] == [("000000", 2), ("000001", 1)]
    assert [o.left for o in frames[0].missed] == [200]
    np.testing.assert_array_equal(frames[0].false, [[300, 0, 400, 50]])
    np.testing.assert_array_equal(frames[0].found, [[0, 0, 100, 50]])
    assert len(mistakes.worst_frames({1: 0.75}, count=1)) == 1
    counts = mistakes.counts({1: 0.75})
    assert sorted(counts[counts > 0]) == sorted(frame.count for frame in frames)
    assert [f.source_id for f in mistakes.worst_frames({1: 0.7})] == ["000000"]


def test_a_class_without_a_threshold_is_missed_altogether(mistakes):
    assert sum(m.num_missed for m in mistakes.misses({}) if m.property == "size") == 3
    assert mistakes.at(1, 0.99).num_missed == 3


def test_without_any_frame(label_map):
    mistakes = Mistakes([], coco.match([], [], label_map), label_map)
    assert mistakes.best_f1() == {}
    assert mistakes.misses({}) == mistakes.worst_frames({}) == []
