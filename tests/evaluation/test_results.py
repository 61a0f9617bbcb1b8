import json

import numpy as np
import pytest

from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UserError
from efficientdet.evaluation import kitti, results
from efficientdet.evaluation.folders import CLASS_NAMES, read_label_folder, read_result_folder
from efficientdet.evaluation.frames import FrameDetections


def test_result_files_give_the_same_ap(random_frames, tmp_path):
    truths, detections = random_frames(5, num_frames=12, ties=False)
    detections = [
        FrameDetections(d.source_id, d.boxes, d.scores.astype(np.float32), d.classes)
        for d in detections
    ]
    label_map = LabelMap.kitti()
    results.write_kitti(tmp_path, detections, label_map)
    names = [truth.source_id for truth in truths]
    folder = read_result_folder(tmp_path, names)
    assert (folder.missing, folder.unwanted) == ([], [])
    again = kitti.evaluate(truths, folder.detections, CLASS_NAMES)
    expected = kitti.evaluate(truths, detections, label_map.names)
    assert any(curve.r40 > 0 for curve in expected)
    for one, other in zip(again, expected, strict=True):
        np.testing.assert_array_equal(one.precision, other.precision)


def test_kitti_lines(make_detections, tmp_path):
    merged = LabelMap((("Van", "Car"), ("Cyclist",)))
    frames = [
        make_detections(((1.5, 2, 30.25, 40), 0.125, 2), ((0, 0, 1, 1), 1e-7, 1)),
        make_detections(source_id="000003"),
    ]
    results.write_kitti(tmp_path / "results", frames, merged)
    assert (tmp_path / "results/000000.txt").read_text() == (
        "Cyclist -1 -1 -10 1.5000 2.0000 30.2500 40.0000 -1 -1 -1 -1000 -1000 -1000 -10 0.125\n"
        "Car -1 -1 -10 0.0000 0.0000 1.0000 1.0000 -1 -1 -1 -1000 -1000 -1000 -10 1e-07\n"
    )
    assert (tmp_path / "results/000003.txt").read_text() == ""
    assert sorted(p.name for p in (tmp_path / "results").iterdir()) == ["000000.txt", "000003.txt"]


def test_coco_json(make_detections, tmp_path):
    frames = [
        make_detections(((1.5, 2, 30.25, 40), 0.125, 2), source_id="000042"),
        make_detections(((0, 0, 1, 1), 0.5, 1), source_id="street_7"),
        make_detections(((1, 1, 2, 2), 0.5, 1), source_id="4" * 5000),
    ]
    results.write_coco(tmp_path / "detections.json", frames)
    assert json.loads((tmp_path / "detections.json").read_text()) == [
        {"image_id": 42, "category_id": 2, "bbox": [1.5, 2, 28.75, 38], "score": 0.125},
        {"image_id": "street_7", "category_id": 1, "bbox": [0, 0, 1, 1], "score": 0.5},
        {"image_id": "4" * 5000, "category_id": 1, "bbox": [1, 1, 1, 1], "score": 0.5},
    ]


def test_folders_are_kept_and_read_back(make_detections, tmp_path):
    names = ["drive0/000001", "drive1/000001", "drive1/000001.v2"]
    frames = [
        make_detections(((0, 0, 10 + i, 30), 0.5, 1), source_id=name)
        for i, name in enumerate(names)
    ]
    results.write_kitti(tmp_path, frames, LabelMap.kitti())
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.txt")) == [
        f"{name}.txt" for name in names
    ]
    folder = read_result_folder(tmp_path, names)
    assert (folder.missing, folder.unwanted) == ([], [])
    for one, other in zip(frames, folder.detections, strict=True):
        assert one.source_id == other.source_id
        np.testing.assert_allclose(one.boxes, other.boxes)
    assert read_result_folder(tmp_path, names[:2]).unwanted == ["drive1/000001.v2.txt"]
    for name in names:
        path = tmp_path / f"{name}.txt"
        path.write_text(" ".join(path.read_text().split()[:15]))
    assert [truth.source_id for truth in read_label_folder(tmp_path)] == names


def test_the_ending_of_an_image_and_the_folders_of_an_absolute_path_go(make_detections, tmp_path):
    for source_id, name in (
        ("/kitti/image_2/000001.png", "000001"),
        ("C:\\kitti\\000002.JPG", "000002"),
        ("drive0\\000003", "drive0/000003"),
        ("frame.7", "frame.7"),
    ):
        results.write_kitti(tmp_path, [make_detections(source_id=source_id)], LabelMap.kitti())
        assert (tmp_path / f"{name}.txt").is_file(), source_id


@pytest.mark.parametrize("source_id", ["../x", "a/..", "a//b", "", "/", "a\0", "x" * 300, ".."])
def test_no_id_leads_out_of_the_folder(make_detections, tmp_path, source_id):
    with pytest.raises(UserError, match="source_id .* expected what can name a file"):
        results.write_kitti(
            tmp_path / "in", [make_detections(source_id=source_id)], LabelMap.kitti()
        )
    assert [*tmp_path.iterdir()] == []


def test_a_number_that_two_frames_share_names_neither(make_detections, tmp_path):
    names = ["7", "000007", "8", "٩", "9" * 30]
    frames = [make_detections(((0, 0, 1, 1), 0.5, 1), source_id=name) for name in names]
    results.write_coco(tmp_path / "found.json", frames)
    rows = json.loads((tmp_path / "found.json").read_text())
    assert [row["image_id"] for row in rows] == ["7", "000007", 8, "٩", "9" * 30]


def test_what_was_written_for_coco_is_read_back(tmp_path):
    frames = [
        FrameDetections("000007", np.array([[1.25, 2, 3, 4]]), np.array([0.5]), np.array([2])),
        FrameDetections("7", np.array([[1, 2, 30, 40]]), np.array([0.25]), np.array([1])),
        FrameDetections("empty"),
    ]
    path = tmp_path / "found.json"
    results.write_coco(path, frames)
    ids = [frame.source_id for frame in frames]
    for one, other in zip(results.read_coco(path, ids), frames, strict=True):
        assert one.source_id == other.source_id
        assert np.allclose(one.boxes, other.boxes) and np.array_equal(one.classes, other.classes)
    for text in ("[", "{}", '[{"image_id": 8}]', '[{"image_id": [], "bbox": [0, 0, 1, 1]}]'):
        path.write_text(text if text != "{}" else '{"a": 1}')
        with pytest.raises(UserError, match=r"found\.json: not the detections of these frames"):
            results.read_coco(path, ids)
