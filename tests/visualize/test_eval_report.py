import re

import numpy as np
import pytest

from efficientdet.dataset.kitti import KittiObject
from efficientdet.dataset.label_map import LabelMap
from efficientdet.evaluation.evaluate import evaluate
from efficientdet.evaluation.frames import FrameDetections, FrameTruth
from efficientdet.visualize import curves, eval_report

LABEL_MAP = LabelMap((("Car",), ("Pedestrian",), ("Cyclist",)))


def kitti_object(kind, left):
    return KittiObject(kind, 0, 0, 0, left, 10, left + 60, 60, 1.5, 1.6, 4, 0, 1.7, 20, 0)


@pytest.fixture(scope="module")
def result():
    """A found car, a missed one and a false pedestrian in one frame; another frame is right."""
    truths = [
        FrameTruth("<b>1", 300, 100, [kitti_object("Car", 10), kitti_object("Car", 200)]),
        FrameTruth("000002", 300, 100, [kitti_object("Pedestrian", 10)]),
    ]
    box, other = [10, 10, 70, 60], [100, 10, 130, 60]
    found = [
        FrameDetections("<b>1", np.array([box, other]), np.array([0.9, 0.8]), np.array([1, 2])),
        FrameDetections("000002", np.array([box]), np.array([0.7]), np.array([2])),
    ]
    return evaluate(truths, found, LABEL_MAP)


def test_one_file_without_outside_links(result, tmp_path):
    image = np.full((100, 300, 3), 90, np.uint8)
    eval_report.write(tmp_path / "r.html", result, {"<b>1": image}, "step 7 on val.record")
    text = (tmp_path / "r.html").read_text()
    assert "step 7 on val.record. 2 frames," in text
    assert not re.search(r"(src|href)=\"(?!data:|#)", text)
    assert text.count('src="data:image/jpeg') == 1
    assert text.count('src="data:image/png') == 2
    assert "1 missed,\n1 false, 1 found" in text
    assert "<b>&lt;b&gt;1</b>" in text
    assert "no ground truth" in text


def test_without_worst_frames_or_kitti_classes():
    label_map = LabelMap((("Tram",),))
    truths = [FrameTruth("1", 300, 100, [])]
    text = eval_report.to_html(evaluate(truths, [], label_map), {}, "nothing")
    assert "No frame has a missed object" in text
    assert "neither Car nor Pedestrian nor Cyclist" in text


def test_mistakes_are_drawn_in_their_colours(result):
    image = np.zeros((100, 300, 3), np.uint8)
    (worst,) = result.worst_frames
    drawn = eval_report.draw_mistakes(image, worst, LABEL_MAP.names)
    assert not image.any()
    assert tuple(drawn[60, 40]) == eval_report.FOUND
    assert tuple(drawn[60, 115]) == eval_report.FALSE
    assert eval_report.MISSED in {tuple(pixel) for pixel in drawn[60, 200:260]}


def test_figures_have_a_curve_for_each_cell_with_objects(result):
    figure = curves.kitti_figure(result.kitti)
    assert [axes.get_title() for axes in figure.axes] == ["Car", "Pedestrian", "Cyclist"]
    assert [len(axes.lines) for axes in figure.axes] == [3, 3, 0]
    figure = curves.coco_figure(result.coco, LABEL_MAP.names)
    assert [len(axes.lines) for axes in figure.axes] == [2, 2]


def test_a_figure_is_saved_as_png(result, tmp_path):
    curves.save(curves.kitti_figure(result.kitti), tmp_path / "pr.png")
    assert (tmp_path / "pr.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir()] == ["pr.png"]
