import io
import json

import numpy as np
import pytest
from rich.console import Console

from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UserError
from efficientdet.evaluation.coco import SUMMARY
from efficientdet.evaluation.evaluate import evaluate, operating_table
from efficientdet.evaluation.frames import FrameDetections, FrameTruth
from efficientdet.evaluation.kitti_table import kitti_table


@pytest.fixture
def result(make_object, make_detections, label_map):
    """One car found, one missed; a false pedestrian; no cyclist."""
    objects = [make_object(), make_object(box=(200, 0, 300, 50)), make_object("Pedestrian")]
    truths = [FrameTruth("000000", 1242, 375, objects), FrameTruth("000001", 1242, 375, [])]
    rows = [((0, 0, 100, 50), 0.9, 1), ((0, 0, 100, 50), 0.8, 2), ((500, 0, 540, 90), 0.3, 2)]
    return evaluate(truths, [make_detections(*rows)], label_map)


def test_metrics_have_the_names_of_automl_and_kitti(result):
    metrics = result.metrics
    assert set(SUMMARY) - set(metrics) == {"APs", "APl", "ARs", "ARl"}  # all objects are medium
    assert metrics["AP_/Car"] == pytest.approx(51 / 101)
    assert metrics["AP50_/Pedestrian"] == pytest.approx(1)
    assert metrics["kitti/Car_moderate_R40"] == 0.0
    assert metrics["kitti/Car_moderate_R11"] == pytest.approx(1 / 11)


@pytest.mark.parametrize(
    ("kinds", "mean"),
    [
        (["Car", "Pedestrian", "Cyclist"], 2 / 3),
        (["Car", "Cyclist", "Tram"], 1 / 2),  # no pedestrian to be found: of what there is
        (["Tram", "Van"], None),
    ],
)
def test_the_mean_of_the_moderate_figures_is_a_metric(make_object, make_detections, kinds, mean):
    """All are found but the cars; 41 of each, so that a perfect cell reaches 1."""
    label_map = LabelMap.kitti()
    boxes = [(0, 60 * i, 100, 60 * i + 50) for i in range(41)]
    objects = [make_object(kind, box) for kind in kinds for box in boxes]
    ids = [label_map.id_of(kind) for kind in kinds if kind != "Car"]
    rows = [(box, 0.9 - i / 100, class_id) for class_id in ids for i, box in enumerate(boxes)]
    result = evaluate([FrameTruth("000000", 0, 0, objects)], [make_detections(*rows)], label_map)
    console = Console(width=100, file=io.StringIO())
    console.print(kitti_table(result.kitti))
    if mean is None:
        assert "kitti/moderate_R40" not in result.metrics
        assert "mean" not in console.file.getvalue()
    else:
        assert result.metrics["kitti/moderate_R40"] == pytest.approx(mean)
        (row,) = [line for line in console.file.getvalue().splitlines() if "mean" in line]
        assert f"{100 * mean:.2f}" in row


def test_what_has_no_ground_truth_is_no_metric(result):
    """Neither -1 nor NaN may reach a chart or a JSON file."""
    assert not [name for name in result.metrics if "Cyclist" in name]
    assert "APs" not in result.metrics
    assert all(0 <= value <= 1 for value in result.metrics.values())
    json.dumps(result.metrics, allow_nan=False)


def test_every_frame_has_its_detections(result):
    assert [frame.source_id for frame in result.detections] == ["000000", "000001"]
    assert len(result.detections[1].scores) == 0


def test_only_what_has_ground_truth_has_a_row(result):
    console = Console(width=100, file=io.StringIO())
    result.print_table(console)
    (line,) = [line for line in console.file.getvalue().splitlines() if "Cyclist" in line]
    assert line.strip() == "without objects here: Cyclist"
    assert "n <= 40" in console.file.getvalue()


def test_without_ground_truth_there_is_no_table(label_map):
    assert evaluate([FrameTruth("000000", 0, 0, [])], [], label_map).tables() == []


@pytest.mark.parametrize("width", [60, 80])
def test_no_figure_is_cut_or_wrapped(make_object, make_detections, width):
    objects = [make_object(), make_object("Person_sitting", (200, 0, 260, 200))]
    found = make_detections(((0, 0, 100, 50), 0.9, 1), ((200, 0, 260, 200), 0.8, 5))
    result = evaluate([FrameTruth("000000", 0, 0, objects)], [found], LabelMap.kitti())
    console = Console(width=width, file=io.StringIO())
    result.print_table(console)
    lines = [line.strip() for line in console.file.getvalue().splitlines()]
    rows = [line.split() for line in lines if line.startswith("Car ")]
    assert [len(row) for row in rows] == [8, 5, 5, 5, 8] and "…" not in "".join(map(str, rows))
    assert "AR of 1 / 10 / 100 detections: 100.00 / 100.00 / 100.00" in lines
    assert width < 80 or ["Person_sitting", "1"] in [line.split()[:2] for line in lines]


def test_the_names_of_classes_are_whole_at_60_columns(make_object):
    objects = [make_object("Pedestrian")] * 12345
    result = evaluate([FrameTruth("000000", 0, 0, objects)], [], LabelMap.kitti())
    console = Console(width=60, file=io.StringIO())
    result.print_table(console)
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    assert {line[0] for line in lines if "12345" in line} == {"Pedestrian", "mean"}
    assert all(len(line) == 8 for line in lines if line[:1] == ["mean"] and "12345" in line)


def test_an_object_that_is_never_found_is_missed_in_the_table(make_object, label_map):
    result = evaluate([FrameTruth("000000", 0, 0, [make_object()])], [], label_map)
    console = Console(width=80, file=io.StringIO())
    console.print(operating_table(result))
    rows = [line.split() for line in console.file.getvalue().splitlines()]
    assert ["Car", "-", "0.00", "-", "0.00", "1", "1", "-"] in rows


@pytest.mark.parametrize(("num_false", "drawn"), [(17, {1: 0.3}), (20, {})])
def test_a_threshold_that_is_wrong_nine_times_of_ten_is_not_drawn_by(
    make_object, make_detections, label_map, num_false, drawn
):
    """One of 18 is right: F1 = 2 / (18 + 1) = 0.105; of 21, 0.091."""
    false = (((300, 0, 400, 50), 0.9 - number / 100, 1) for number in range(num_false))
    found = make_detections(*false, ((0, 0, 100, 50), 0.3, 1))
    result = evaluate([FrameTruth("000000", 0, 0, [make_object()])], [found], label_map)
    assert result.score_thresholds == {1: 0.3}
    assert result.drawn_thresholds == drawn


def test_a_merged_class_is_one_id_for_coco_and_its_first_type_for_kitti(
    make_object, make_detections
):
    merged = LabelMap((("Car", "Van"), ("Pedestrian", "Person_sitting")))
    objects = [make_object("Van"), make_object(box=(200, 0, 300, 50))]
    found = make_detections(((0, 0, 100, 50), 0.9, 1), ((200, 0, 300, 50), 0.8, 1))
    result = evaluate([FrameTruth("000000", 0, 0, objects)], [found], merged)
    assert result.coco.num_objects[1] == 2
    assert result.metrics["AP_/Car"] == pytest.approx(1)
    moderate = next(c for c in result.kitti if c.difficulty.name == "moderate")
    assert (moderate.num_objects, moderate.precision[0]) == (1, 1.0)


def test_detections_of_an_unknown_frame_are_an_error(make_detections, label_map):
    with pytest.raises(UserError, match="'000009', which has no ground truth"):
        evaluate([], [make_detections(source_id="000009")], label_map)


def test_a_frame_that_comes_twice_is_an_error(make_detections, label_map):
    truth = FrameTruth("000000", 0, 0, [])
    with pytest.raises(UserError, match="came twice"):
        evaluate([truth], [make_detections(), make_detections()], label_map)
    with pytest.raises(UserError, match="share a source_id"):
        evaluate([truth, truth], [], label_map)


def test_a_class_that_the_label_map_lacks_is_an_error(make_detections, label_map):
    found = make_detections(((0, 0, 100, 50), 0.9, 17))
    with pytest.raises(UserError, match=r"class id 17, and the label map has 1\.\.3"):
        evaluate([FrameTruth("000000", 0, 0, [])], [found], label_map)


def test_float32_detections_give_the_metrics_of_their_values(random_frames):
    truths, detections = random_frames(11)
    halves = [
        FrameDetections(d.source_id, (d.boxes + 0.1).astype(np.float32), d.scores, d.classes)
        for d in detections
    ]
    again = [
        FrameDetections(d.source_id, d.boxes.tolist(), d.scores.tolist(), d.classes.tolist())
        for d in halves
    ]
    one, other = (evaluate(truths, d, LabelMap.kitti()).metrics for d in (halves, again))
    assert one == other


def test_detections_of_unequal_lengths_are_a_mistake():
    with pytest.raises(ValueError, match="1 boxes, 2 scores, 1 classes"):
        FrameDetections("000000", [[0, 0, 1, 1]], [0.5, 0.4], [1])
