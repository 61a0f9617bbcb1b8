import tarfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientdet.dataset.kitti import CLASSES
from efficientdet.dataset.splits import read_split_file
from efficientdet.evaluation import kitti
from efficientdet.evaluation.folders import CLASS_NAMES, read_label_folder, read_result_folder
from efficientdet.evaluation.frames import FrameDetections, FrameTruth

NAMES = dict(enumerate(CLASSES, start=1))
CAR, PEDESTRIAN, CYCLIST = 1, 4, 6


def moderate(truths, detections, class_name="Car"):
    (curve,) = (
        c
        for c in kitti.evaluate(truths, detections, NAMES)
        if (c.class_name, c.difficulty.name) == (class_name, "moderate")
    )
    return curve


def numbers(curves):
    return [(c.num_objects, *c.precision, *c.thresholds) for c in curves]


def test_official_figures_of_point_gnn(shared, tmp_path):
    for name in ("label_2_all.tar.gz", "results/pointgnn_car_val.tar.gz"):
        with tarfile.open(shared / "kitti" / name) as archive:
            archive.extractall(tmp_path, filter="data")
    source_ids = read_split_file(shared / "kitti/splits/chen_val.txt")
    truths = read_label_folder(tmp_path / "label_2", source_ids)
    results = read_result_folder(tmp_path / "data", source_ids)
    curves = kitti.evaluate(truths, results.detections, CLASS_NAMES)[:3]
    assert [c.num_objects for c in curves] == [2907, 7876, 10963]
    np.testing.assert_allclose(
        [100 * c.r11 for c in curves], [90.716751, 89.914192, 89.342804], atol=1e-5
    )
    np.testing.assert_allclose(
        [100 * c.r40 for c in curves], [96.7407, 93.4397, 90.8490], atol=1e-4
    )


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_agrees_with_the_devkit_loops(random_frames, seed):
    """Ties of scores and of overlaps are frequent in these frames."""
    truths, detections = random_frames(seed)
    for curve in kitti.evaluate(truths, detections, NAMES):
        expected = devkit_precision(truths, detections, curve.class_name, curve.difficulty)
        np.testing.assert_array_equal(curve.precision, expected)


@pytest.mark.parametrize("share", [0.3, 0.8, 1])
def test_thresholds_are_those_of_the_devkit(share):
    """Also where two scores are equally near to a recall, as with 60 objects."""
    for n in range(1, 300):
        scores = np.linspace(1, 0, int(share * n))
        np.testing.assert_array_equal(
            kitti.recall_thresholds(scores, n), devkit_thresholds(scores, n)
        )


@pytest.mark.parametrize(("order", "precision"), [([0, 1], 0.5), ([1, 0], 1.0)])
def test_of_equal_detections_the_first_in_the_file_is_taken(
    make_object, make_detections, order, precision
):
    """Both find the first object alike, but only one of them finds the second object too."""
    objects = [make_object(box=(100, 0, 200, 50)), make_object(box=(80, 0, 180, 50))]
    rows = [((90, 0, 190, 50), 0.9, CAR), ((110, 0, 210, 50), 0.9, CAR)]
    found = make_detections(*(rows[i] for i in order))
    assert moderate([FrameTruth("000000", 0, 0, objects)], [found]).precision[0] == precision


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_order_and_empty_frames_do_not_matter(random_frames, seed):
    truths, detections = random_frames(seed, ties=False)
    expected = numbers(kitti.evaluate(truths, detections, NAMES))
    random = np.random.default_rng(seed)
    shuffled = []
    for frame in detections:
        order = random.permutation(len(frame.scores))
        shuffled.append(
            FrameDetections(
                frame.source_id, frame.boxes[order], frame.scores[order], frame.classes[order]
            )
        )
    empty = [FrameTruth(f"empty{i}", 10, 10, []) for i in range(3)]
    frames = [*truths, *empty]
    frames = [frames[i] for i in random.permutation(len(frames))]
    assert numbers(kitti.evaluate(frames, shuffled[::-1], NAMES)) == expected


def test_a_neighbour_class_is_neither_right_nor_wrong(make_object, make_detections):
    truths = [FrameTruth("000000", 0, 0, [make_object("Van"), make_object(box=(200, 0, 300, 50))])]
    found = make_detections(((0, 0, 100, 50), 0.9, CAR), ((200, 0, 300, 50), 0.8, CAR))
    curve = moderate(truths, [found])
    assert curve.num_objects == 1
    assert curve.precision[0] == 1


def test_a_sitting_person_excuses_a_pedestrian(make_object, make_detections):
    objects = [make_object("Person_sitting"), make_object("Pedestrian", (200, 0, 230, 80))]
    found = make_detections(
        ((0, 0, 100, 50), 0.9, PEDESTRIAN), ((200, 0, 230, 80), 0.8, PEDESTRIAN)
    )
    curve = moderate([FrameTruth("000000", 0, 0, objects)], [found], "Pedestrian")
    assert curve.precision[0] == 1


@pytest.mark.parametrize(("share", "precision"), [(0.69, 0.5), (0.71, 1.0)])
def test_dont_care_forgives_by_share_of_the_detection(
    make_object, make_detections, share, precision
):
    objects = [make_object(), make_object("DontCare", (200, 0, 1000, 500))]
    left = 200 - 100 * (1 - share)
    found = make_detections(((0, 0, 100, 50), 0.8, CAR), ((left, 0, left + 100, 50), 0.9, CAR))
    assert moderate([FrameTruth("000000", 0, 0, objects)], [found]).precision[0] == precision


@pytest.mark.parametrize(("height", "counted"), [(24.99, 0), (25.0, 1)])
def test_least_height_of_ground_truth_is_included(make_object, height, counted):
    truths = [FrameTruth("000000", 0, 0, [make_object(box=(0, 0, 60, height))])]
    assert moderate(truths, []).num_objects == counted


@pytest.mark.parametrize(("height", "precision"), [(24.9, 1.0), (25.1, 0.5)])
def test_low_detections_are_no_mistakes(make_object, make_detections, height, precision):
    truths = [FrameTruth("000000", 0, 0, [make_object()])]
    found = make_detections(((0, 0, 100, 50), 0.8, CAR), ((300, 0, 400, height), 0.9, CAR))
    assert moderate(truths, [found]).precision[0] == precision


def test_a_low_detection_of_any_class_can_absorb_a_ground_truth(make_object, make_detections):
    """The height is tested before the class."""
    truths = [FrameTruth("000000", 0, 0, [make_object(box=(0, 0, 60, 25))])]
    absorber = ((0, 0, 60, 24.9), 0.9, CYCLIST)
    assert moderate(truths, [make_detections(((0, 0, 60, 25), 0.8, CAR))]).precision[0] == 1
    found = make_detections(((0, 0, 60, 25), 0.8, CAR), absorber)
    assert moderate(truths, [found]).precision[0] == 0


@pytest.mark.parametrize("change", [{"occluded": 2}, {"occluded": 3}, {"truncated": 0.31}])
def test_beyond_the_difficulty_is_ignored(make_object, make_detections, change):
    beyond = replace(make_object(), **change)
    truths = [FrameTruth("000000", 0, 0, [beyond, make_object(box=(200, 0, 300, 50))])]
    found = make_detections(((0, 0, 100, 50), 0.9, CAR), ((200, 0, 300, 50), 0.8, CAR))
    curve = moderate(truths, [found])
    assert (curve.num_objects, curve.precision[0]) == (1, 1.0)


def test_overlap_must_exceed_the_minimum(make_object, make_detections):
    truths = [FrameTruth("000000", 0, 0, [make_object("Cyclist", (0, 0, 100, 50))])]
    half = make_detections(((0, 0, 50, 50), 0.9, CYCLIST))
    more = make_detections(((0, 0, 51, 50), 0.9, CYCLIST))
    assert moderate(truths, [half], "Cyclist").precision[0] == 0
    assert moderate(truths, [more], "Cyclist").precision[0] == 1


@pytest.mark.parametrize("n", [1, 2, 40, 41, 100])
def test_a_perfect_detector_in_a_small_cell(make_object, make_detections, n):
    """With n <= 40 objects there are only n thresholds."""
    boxes = [(150 * i, 0, 150 * i + 100, 50) for i in range(n)]
    truths = [FrameTruth("000000", 0, 0, [make_object(box=box) for box in boxes])]
    found = make_detections(*((box, 1.0, CAR) for box in boxes))
    curve = moderate(truths, [found])
    assert curve.r40 == pytest.approx(min(1, (n - 1) / 40))
    assert curve.max_r40 == curve.r40
    assert curve.is_small == (n <= 40)


def test_no_detections_score_zero_and_no_objects_nothing(make_object):
    truths = [FrameTruth("000000", 0, 0, [make_object()])]
    curves = kitti.evaluate(truths, [], NAMES)
    assert [c.r40 for c in curves[:3]] == [0, 0, 0]
    assert all(np.isnan(c.r40) and np.isnan(c.r11) for c in curves[3:])
    assert all(np.isnan(c.r40) for c in kitti.evaluate([], [], NAMES))


def test_classes_without_an_id_are_left_out():
    curves = kitti.evaluate([], [], {1: "Pedestrian", 2: "Truck"})
    assert {c.class_name for c in curves} == {"Pedestrian"}


def devkit_precision(truths, detections, class_name, difficulty):
    """What evaluate_object.cpp computes, one comparison at a time."""
    frames = [
        devkit_frame(truth, found, class_name, difficulty)
        for truth, found in zip(truths, detections, strict=True)
    ]
    n = sum(status == 0 for truth, _, _ in frames for _, status in truth)
    scores = sorted((s for frame in frames for s in devkit_hits(*frame, class_name)), reverse=True)
    precision = np.zeros(41)
    for i, threshold in enumerate(devkit_thresholds(scores, n)):
        counts = [devkit_counts(*frame, class_name, threshold) for frame in frames]
        tp, fp = map(sum, zip(*counts, strict=True))
        precision[i] = tp / (tp + fp) if tp + fp else 0
    return [precision[i:].max() for i in range(41)]


def devkit_thresholds(scores, n):
    recall, thresholds = 0.0, []
    for i, score in enumerate(scores):
        left = (i + 1) / n
        right = (i + 2) / n if i < len(scores) - 1 else left
        if right - recall < recall - left and i < len(scores) - 1:
            continue
        thresholds.append(score)
        recall += 1 / 40
    return thresholds


def devkit_frame(truth, found, class_name, difficulty):
    objects = []
    for o in truth.objects:
        beyond = (
            o.occluded > difficulty.max_occluded
            or o.truncated > difficulty.max_truncated
            or o.bottom - o.top < difficulty.min_height
        )
        if o.type == class_name:
            objects.append((o, 1 if beyond else 0))
        elif o.type == {"Car": "Van", "Pedestrian": "Person_sitting"}.get(class_name):
            objects.append((o, 1))
    boxes = []
    for box, score, class_id in zip(found.boxes, found.scores, found.classes, strict=True):
        if int(abs(box[3] - box[1])) < difficulty.min_height:
            boxes.append((box, score, 1))
        elif NAMES[int(class_id)] == class_name:
            boxes.append((box, score, 0))
    return objects, boxes, [o for o in truth.objects if o.is_dont_care]


def devkit_overlap(box, o, of_box=False):
    width = min(box[2], o.right) - max(box[0], o.left)
    height = min(box[3], o.bottom) - max(box[1], o.top)
    if width <= 0 or height <= 0:
        return 0.0
    area = (box[2] - box[0]) * (box[3] - box[1])
    other = (o.right - o.left) * (o.bottom - o.top)
    return width * height / (area if of_box else area + other - width * height)


def devkit_hits(objects, boxes, regions, class_name):
    taken, hits = set(), []
    for o, status in objects:
        best = None
        for j, (box, score, _) in enumerate(boxes):
            overlaps = devkit_overlap(box, o) > kitti.MIN_OVERLAP[class_name]
            if j not in taken and overlaps and (best is None or score > boxes[best][1]):
                best = j
        if best is not None:
            taken.add(best)
            if status == 0 and boxes[best][2] == 0:
                hits.append(boxes[best][1])
    return hits


def devkit_counts(objects, boxes, regions, class_name, threshold):
    least = kitti.MIN_OVERLAP[class_name]
    taken, tp = set(), 0
    for o, status in objects:
        best, best_overlap, best_ignored = None, 0.0, False
        for j, (box, score, ignored) in enumerate(boxes):
            overlap = devkit_overlap(box, o)
            if j in taken or score < threshold or overlap <= least:
                continue
            if not ignored and (overlap > best_overlap or best_ignored):
                best, best_overlap, best_ignored = j, overlap, False
            elif ignored and best is None:
                best, best_ignored = j, True
        if best is not None:
            taken.add(best)
            tp += status == 0 and boxes[best][2] == 0
    wrong = [
        box
        for j, (box, score, ignored) in enumerate(boxes)
        if j not in taken and not ignored and score >= threshold
    ]
    fp = sum(all(devkit_overlap(box, r, of_box=True) <= least for r in regions) for box in wrong)
    return tp, fp
