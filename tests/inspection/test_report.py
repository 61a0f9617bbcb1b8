"""The inspector's tables and page, from a set of four small frames."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from rich.console import Console

from efficientdet.config import Config
from efficientdet.dataset.example import Annotation, make_example
from efficientdet.dataset.image import ImageHeader
from efficientdet.dataset.label_map import LabelMap
from efficientdet.inspection import report as data_report
from efficientdet.inspection import terminal
from efficientdet.inspection.anchor_report import anchor_rows
from efficientdet.inspection.checks import check_records


def example(name: int, *annotations: Annotation) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (200, 60), (90, name, 90)).save(buffer, "PNG")
    return make_example(buffer.getvalue(), ImageHeader("png", 60, 200), str(name), annotations)


CAR = Annotation((10, 10, 60, 50), 1, "Car", occluded=1)
WALKER = Annotation((190, 10, 200, 50), 4, "Pedestrian", truncated=0.5)
FAR = Annotation((100, 30, 110, 36), 0, "Van", is_crowd=True)
REGION = Annotation((0, 0, 200, 5), 0, "DontCare", is_crowd=True)


@pytest.fixture
def write(tmp_path):
    """Checks a record of these examples."""

    def check(*examples: bytes):
        with tf.io.TFRecordWriter(str(tmp_path / "x.record")) as writer:
            for one in examples:
                writer.write(one)
        return check_records([tmp_path / "x.record"], LabelMap.kitti())

    return check


def printed(report, rows=(), width=80) -> str:
    console = Console(width=width, file=io.StringIO())
    terminal.print_statistics(console, report.sets[0], report.class_ids)
    if rows:
        terminal.print_anchors(console, rows)
    terminal.print_findings(console, "problem", report.problems)
    return console.file.getvalue()


def test_the_table_fits_80_columns_and_adds_up(write):
    report = write(example(1, CAR, WALKER, FAR, REGION), example(2, CAR), example(3))
    columns, rows = data_report.class_table(report.sets[0], report.class_ids)
    table = {row[0]: dict(zip(columns, row, strict=True)) for row in rows}
    assert table["Car"]["objects"] == 2 and table["Car"]["images"] == 2
    assert table["Car"]["moderate"] == 2 and table["Car"]["medium"] == 2
    assert table["Van"]["ignored"] == 1 and table["Pedestrian"]["id"] == 4
    assert table["DontCare"]["ignored"] == 1
    text = printed(report)
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text
    assert "1.3 on average, at most 3; 1 image has none" in text


def test_anchor_rows_compare_sizes_and_propose(write):
    report = write(example(1, CAR, WALKER))
    objects = report.sets[0].statistics.objects
    rows = anchor_rows(objects, Config.for_model("efficientdet-d0"), ["256", "256x128"])
    assert [(row.input_size, row.fitted) for row in rows] == [
        ("256x256", False),
        ("256x256", True),
        ("256x128", False),
        ("256x128", True),
    ]
    assert rows[0].hparams == "anchor_scale=4.0,aspect_ratios=1.0*2.0*0.5"
    assert rows[1].coverage.lacking["all"] <= rows[0].coverage.lacking["all"]
    assert len(anchor_rows(objects, Config(), [256], fit=False)) == 1

    text = printed(report, rows)
    assert "Least lacking, fits aside:\n  --hparams=image_size=256x" in text
    assert "anchors an object" in text and "padding, %" in text


def test_each_proposal_says_whether_it_keeps_the_heads_of_a_coco_checkpoint(write):
    report = write(example(1, CAR, WALKER))
    objects = report.sets[0].statistics.objects

    def text(ratios):
        config = Config().override({"aspect_ratios": ratios, "anchor_scale": 2.5})
        return anchor_rows(objects, config, [256], fit=False)[0].coco_head

    assert text([1.0, 2.0, 0.5]) == "keeps all 9 rows of a COCO checkpoint's heads"
    assert text([1.08, 2.16, 0.4]).startswith("keeps 0 of 9 rows of a COCO checkpoint's heads; the")
    assert text([1.0, 2.16, 0.4]).startswith("keeps 3 of 9 rows")
    assert text([1.0, 2.16, 0.4]).endswith("adapted from the nearest shape")
    rows = anchor_rows(objects, Config(), [256], fit=False)
    assert rows[0].coco_head in printed(report, rows)


def test_the_page_is_whole_with_and_without_objects(write, tmp_path):
    path = tmp_path / "report.html"
    for examples in ([example(1, CAR, WALKER, FAR), example(2)], [example(1)], []):
        report = write(*examples)
        objects = report.sets[0].statistics.objects
        rows = anchor_rows(objects, Config(), [256], fit=False) if len(objects) else []
        data_report.write_html(path, report, rows)
        page = path.read_text()
        assert page.startswith("<!doctype html>") and page.rstrip().endswith("</html>")
        assert ("Do not train" in page) == (not report.ok)
    report = write(example(1, CAR), example(1, CAR))
    data_report.write_html(path, report, [])
    assert "source_id stands twice" in path.read_text()


def test_eighty_classes_fit_on_the_page(write, tmp_path):
    names = [f"thing {index:02d}" for index in range(80)]
    objects = [Annotation((i, 5, i + 20, 40), i + 1, name) for i, name in enumerate(names)]
    data_report.write_html(tmp_path / "report.html", write(example(1, *objects)), [])
    assert "thing 79" in (tmp_path / "report.html").read_text()


def test_records_without_a_label_map_or_manifest_have_a_page(tmp_path):
    path = tmp_path / "coco.record"
    boxes = [Annotation(tuple(box), 44, "bottle") for box in np.array([[1, 2, 30, 40]])]
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(example(7, *boxes))
    report = check_records([path])
    data_report.write_html(tmp_path / "report.html", report, [])
    assert "bottle" in (tmp_path / "report.html").read_text()


_SIZES = ("256x256", "256x128", "384x384", "128x96", "640x384", "64x64", "640x128", "128x512")


@pytest.mark.parametrize("width", [60, 80])
def test_no_line_is_wider_than_the_terminal_and_no_figure_is_cut(write, width):
    many = [Annotation((i, 5, i + 20, 40), 1, "Car") for i in range(0, 170, 2)]
    report = write(example(1, *many), example(1, FAR, WALKER))
    objects = report.sets[0].statistics.objects
    rows = anchor_rows(objects, Config(), _SIZES, fit=False)
    lines = printed(report, rows, width).splitlines()
    assert all(len(line) <= width for line in lines if "--hparams=" not in line)
    text = "\n".join(lines)
    assert all(f" {size}" in text for size in _SIZES)
    assert "200x60 (2)" in text and "problem: source_id stands twice" in text
    columns, table = data_report.class_table(report.sets[0], report.class_ids)
    assert all(column in text for column in columns if column != "images")
    head = [line for line in lines if line.startswith("class")]
    assert len(head) == (1 if width == 80 else 2) and table
