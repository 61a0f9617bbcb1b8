import re
from datetime import UTC, datetime

import numpy as np
import pytest

from efficientdet.dataset.kitti import KittiObject
from efficientdet.dataset.label_map import LabelMap
from efficientdet.evaluation.evaluate import evaluate
from efficientdet.evaluation.frames import FrameDetections, FrameTruth
from efficientdet.visualize import curves, eval_report, learning_curves
from efficientdet.visualize.eval_report import Subject

DATE = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)
SUBJECT = Subject("efficientdet-d0", "run/model.ckpt-1200", 1200, "val.record", DATE)
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
    eval_report.write(tmp_path / "r.html", result, {"<b>1": image}, SUBJECT)
    text = (tmp_path / "r.html").read_text()
    assert "<title>Evaluation of step 1,200</title>" in text
    assert "<code>run/model.ckpt-1200</code>, step 1,200." in text
    assert "on 2026-03-04 05:06 UTC, split val.record: 2 frames," in text
    assert not re.search(r"(src|href)=\"(?!data:|#)", text)
    assert text.count('src="data:image/jpeg') == 1
    assert text.count('src="data:image/png') == 4  # Car, Pedestrian, and two IoUs
    assert 'href="#learning"' not in text and 'href="#result"' not in text
    assert "--width: 300px" in text and text.count('type="checkbox"') == 1  # full size by a click
    assert "1 missed,\n1 false, 1 found" in text
    assert "<b>&lt;b&gt;1</b>" in text
    assert "no ground truth" not in text
    assert re.findall("Without objects here: .*<", text) == ["Without objects here: Cyclist.<"] * 2
    assert text.count("no object here") == 1  # of the score thresholds
    assert "<td>Cyclist</td><td>easy</td>" not in text.replace("\n", "")


def test_without_worst_frames_or_kitti_classes():
    label_map = LabelMap((("Tram",),))
    truths = [FrameTruth("1", 300, 100, [])]
    text = eval_report.to_html(evaluate(truths, [], label_map), {}, SUBJECT)
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


def test_a_missed_object_and_a_false_box_at_one_place_have_labels_side_by_side():
    truth = FrameTruth("1", 300, 100, [kitti_object("Car", 100)])
    wrong = FrameDetections("1", [[100, 10, 160, 60], [0, 0, 9, 9]], [0.9, 0.5], [2, 2])
    right = FrameTruth("2", 300, 100, [kitti_object("Pedestrian", 10)])
    found = FrameDetections("2", [[10, 10, 70, 60]], [0.4], [2])
    (worst,) = evaluate([truth, right], [wrong, found], LABEL_MAP).worst_frames
    drawn = eval_report.draw_mistakes(np.zeros((100, 300, 3), np.uint8), worst, LABEL_MAP.names)
    areas = [(drawn == colour).all(-1).sum() for colour in (eval_report.MISSED, eval_report.FALSE)]
    assert min(areas) > 150  # both tags are whole, not only an outline


def lines(*values: tuple[int, float, int]) -> list[dict]:
    return [
        {"step": step, "AP": ap, "val_det_loss": 2 - ap, "num_images": count}
        for step, ap, count in values
    ]


@pytest.mark.parametrize(
    ("evaluations", "expected"),
    [
        ([(8, 0.5, 2)], ["first evaluation"]),
        ([(4, 0.3, 2), (6, 0.2, 2), (8, 0.25, 2)], [
            "best so far by <code>AP</code> is step 4", "change since step 6",
            ' ok">+5.00', ' error">-5.00', ' ok">-0.0500', ' error">+0.0500',
        ]),
        ([(4, 0.3, 9), (6, 0.2, 2), (8, 0.25, 2)], ["<b>The best so far</b>", ' ok">+5.00']),
        ([(4, None, 2), (8, 0.25, 2)], ["<b>The best so far</b>", "&ndash;"]),
    ],
)  # fmt: skip
def test_changes_since_the_evaluation_before_and_against_the_best(result, evaluations, expected):
    evaluations = lines(*(e for e in evaluations if e[1] is not None)) or []
    if expected[-1] == "&ndash;":  # the line of another program has no AP
        evaluations = [{"step": 4, "AP": None, "num_images": 2}, *evaluations]
    training = [{"step": 2, "det_loss": 1.5, "learning_rate": 0.1}]
    subject = Subject("d0", "c", 8, "val", DATE, training=training, evaluations=evaluations)
    text = eval_report.to_html(result, {}, subject)
    for one in expected:
        assert one in text, one
    assert 'alt="Detection loss"' in text


def test_the_confusion_matrix_is_in_the_page(result):
    text = eval_report.to_html(result, {}, SUBJECT)
    rows = re.search(r'id="confusion".*?</section>', text, re.S)[0].split("<tr>")[2:]
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row, re.S) for row in rows]
    plain = [[re.sub(r"<.*?>|\s+", " ", cell).split() for cell in row] for row in cells]
    assert plain[0] == [["Car"], ["1", "50.0", "%"], ["&ndash;"], ["1", "50.0", "%"]]
    assert [row[0] for row in plain] == [["Car"], ["Pedestrian"], ["background"]]


def test_legends_lie_outside_of_the_plots(result):
    evaluations = lines((4, 0.3, 2), (8, 0.4, 2))
    for figure in (
        curves.kitti_figure(result.kitti),
        curves.coco_figure(result.coco, LABEL_MAP.names),
        learning_curves.figure(evaluations, evaluations, best=8),
    ):
        curves.pixels(figure)  # lays it out
        legends = [axes for axes in figure.axes if axes.get_legend()]
        assert legends
        for axes in legends:
            legend = axes.get_legend().get_window_extent()
            assert legend.y1 <= axes.get_window_extent().y0


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


def test_a_telephone_breaks_no_word_into_letters(result):
    text = eval_report.to_html(result, {}, SUBJECT)
    narrow = text.partition("@media (max-width: 600px)")[2].partition("footer {")[0]
    assert "position: sticky" in narrow and "overflow-wrap: anywhere" not in narrow
