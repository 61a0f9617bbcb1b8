import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from efficientdet.dataset.label_map import LabelMap
from efficientdet.evaluation import coco
from efficientdet.evaluation.frames import FrameDetections, FrameTruth

SOME = LabelMap((("Car", "Van"), ("Pedestrian",), ("Cyclist",), ("Truck",)))


def test_numbers_of_automl(root, make_object):
    golden = np.load(root / "tests/golden/coco_metric.npz")
    label_map = LabelMap((("Car",), ("Pedestrian",), ("Cyclist",)))
    truths, detections = [], []
    truth_rows = golden["groundtruth_y1_x1_y2_x2_crowd_area_class"]
    for index, (rows, found) in enumerate(
        zip(truth_rows, golden["detections_id_x_y_w_h_score_class"], strict=True)
    ):
        objects = [
            make_object(label_map.names[int(row[6])], row[[1, 0, 3, 2]])
            for row in rows
            if row[6] > 0
        ]
        truths.append(FrameTruth(str(index), 512, 512, objects))
        boxes = np.concatenate([found[:, 1:3], found[:, 1:3] + found[:, 3:5]], axis=1)
        detections.append(FrameDetections(str(index), boxes, found[:, 5], found[:, 6].astype(int)))
    summary = coco.evaluate(truths, detections, label_map).summary
    assert list(summary) == golden["metric_names"].tolist()
    expected = np.where(golden["metric_values"] < 0, np.nan, golden["metric_values"])
    np.testing.assert_allclose(list(summary.values()), expected, atol=1e-6)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_is_pycocotools_to_the_last_bit(random_frames, seed):
    """Ties of scores and of overlaps, crowds and unnamed objects are frequent in these frames."""
    truths, detections = with_ids_of_some(*random_frames(seed))
    result = coco.evaluate(truths, detections, SOME)
    expected = pycocotools_evaluation(truths, detections)
    summary = [-1 if np.isnan(value) else value for value in result.summary.values()]
    np.testing.assert_array_equal(summary, expected.stats)
    precision = np.where(np.isnan(result.precision), -1, result.precision)
    np.testing.assert_array_equal(precision, expected.eval["precision"][..., -1])
    np.testing.assert_array_equal(result.scores, expected.eval["scores"][..., -1])


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_order_and_empty_frames_do_not_matter(random_frames, seed):
    truths, detections = with_ids_of_some(*random_frames(seed, ties=False))
    expected = coco.evaluate(truths, detections, SOME)
    random = np.random.default_rng(seed)
    shuffled = []
    for frame in detections:
        order = random.permutation(len(frame.scores))
        shuffled.append(
            FrameDetections(
                frame.source_id, frame.boxes[order], frame.scores[order], frame.classes[order]
            )
        )
    frames = [*truths, FrameTruth("empty", 10, 10, [])]
    frames = [frames[i] for i in random.permutation(len(frames))]
    result = coco.evaluate(frames, shuffled[::-1], SOME)
    np.testing.assert_array_equal(result.precision, expected.precision)
    assert list(result.summary.values()) == pytest.approx(
        list(expected.summary.values()), nan_ok=True, abs=1e-12
    )


def test_only_the_hundred_best_of_a_class_count(make_object, make_detections, label_map):
    truths = [FrameTruth("000000", 0, 0, [make_object()])]
    noise = [((500, 0, 600, 50), 0.9, 1)] * 100
    right = ((0, 0, 100, 50), 0.5, 1)
    assert coco.evaluate(truths, [make_detections(*noise, right)], label_map).ap == 0
    found = make_detections(*noise[:99], right)
    assert coco.evaluate(truths, [found], label_map).ap == pytest.approx(0.01)
    other_class = [(box, score, 2) for box, score, _ in noise]
    found = make_detections(*other_class, right)
    assert coco.evaluate(truths, [found], label_map).ap == pytest.approx(1)


def test_a_frame_without_detections_counts(make_object, make_detections, label_map):
    truths = [FrameTruth(name, 0, 0, [make_object()]) for name in ("000000", "000001")]
    found = make_detections(((0, 0, 100, 50), 0.5, 1))
    assert coco.evaluate(truths, [found], label_map).summary["ARmax100"] == pytest.approx(0.5)


@pytest.mark.parametrize("kind", ["DontCare", "Tram"])
@pytest.mark.parametrize("class_id", [1, 2, 3])
def test_dont_care_and_unnamed_objects_excuse_every_class(
    make_object, make_detections, label_map, kind, class_id
):
    names = list(label_map.names.values())
    objects = [make_object(name) for name in names]
    right = [((0, 0, 100, 50), 0.5, i) for i in label_map.names]
    inside = ((500, 100, 540, 180), 0.9, class_id)
    found = make_detections(*right, inside)
    plain = coco.evaluate([FrameTruth("000000", 0, 0, objects)], [found], label_map)
    assert plain.by_class(class_id)["AP"] == pytest.approx(0.5)
    objects.append(make_object(kind, (400, 50, 900, 300)))
    excused = coco.evaluate([FrameTruth("000000", 0, 0, objects)], [found], label_map)
    assert excused.ap == pytest.approx(1)


def test_a_class_without_ground_truth_is_not_in_the_mean(make_object, make_detections, label_map):
    truths = [FrameTruth("000000", 0, 0, [make_object("Cyclist")])]
    found = make_detections(((0, 0, 100, 50), 0.5, 3), ((0, 0, 100, 50), 0.5, 1))
    result = coco.evaluate(truths, [found], label_map)
    assert result.num_objects == {1: 0, 2: 0, 3: 1}
    assert np.isnan(result.by_class(1)["AP"])
    assert result.by_class(3)["AP"] == pytest.approx(1)
    assert result.ap == pytest.approx(1)


def test_no_detections_and_no_objects(make_object, label_map):
    truths = [FrameTruth("000000", 0, 0, [make_object()])]
    assert coco.evaluate(truths, [], label_map).ap == 0
    assert np.isnan(coco.evaluate([FrameTruth("000000", 0, 0, [])], [], label_map).ap)
    assert np.isnan(coco.evaluate([], [], label_map).ap)


def test_average_precisions_are_those_of_the_summary(random_frames):
    truths, detections = with_ids_of_some(*random_frames(3))
    result = coco.evaluate(truths, detections, SOME)
    averages = coco.average_precisions(result.precision)
    expected = {name: result.summary[name] for name in averages}
    assert averages == pytest.approx(expected, nan_ok=True)


def with_ids_of_some(truths, detections):
    """The ids of eight KITTI classes, folded onto the four of SOME."""
    folded = [
        FrameDetections(d.source_id, d.boxes, d.scores, (d.classes - 1) % 4 + 1) for d in detections
    ]
    return truths, folded


def pycocotools_evaluation(truths, detections):
    """pycocotools as it is, on a data set of dicts."""
    boxes, found = [], []
    for image, (truth, frame) in enumerate(zip(truths, detections, strict=True), start=1):
        for o in truth.objects:
            named = SOME.id_of(o.type)
            for category in SOME.names if named is None else [named]:
                row = coco_row(image, category, (o.left, o.top, o.right, o.bottom))
                boxes.append(row | {"iscrowd": int(named is None)})
        for box, score, category in zip(frame.boxes, frame.scores, frame.classes, strict=True):
            found.append(coco_row(image, int(category), box) | {"score": score})
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(
            coco_index(boxes, len(truths)), coco_index(found, len(truths)), "bbox"
        )
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def coco_row(image, category, box):
    left, top, right, bottom = map(float, box)
    width, height = right - left, bottom - top
    return {
        "image_id": image,
        "category_id": category,
        "bbox": [left, top, width, height],
        "area": width * height,
    }


def coco_index(rows, num_images):
    index = COCO()
    index.dataset = {
        "images": [{"id": i} for i in range(1, num_images + 1)],
        "categories": [{"id": i} for i in SOME.names],
        "annotations": [{"id": i} | row for i, row in enumerate(rows, start=1)],
    }
    index.createIndex()
    return index
