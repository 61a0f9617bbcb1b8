"""Somebody's own street, as CVAT and datumaro write it, from its folders to pictures with boxes."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from efficientdet.dataset import found_classes
from efficientdet.dataset.convert import convert
from efficientdet.dataset.kitti import find_frames
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.options import Options
from efficientdet.dataset.selection import select_frames
from efficientdet.inference.prediction import PredictOptions, predict
from efficientdet.inspection.checks import check_records
from efficientdet.inspection.report import write_html
from efficientdet.run.directory import RunDirectory
from efficientdet.synthetic.scenes import render_frame
from efficientdet.training.options import TrainOptions
from efficientdet.training.train import train

NAMES = ["승용차", "보행자", "자전거", "횡단보도 신호등", "전동 킥보드"]
SIZES = ((1242, 375), (640, 193), (960, 290))
HPARAMS = {
    "backbone_name": "efficientnet-tiny", "fpn_num_filters": 16, "fpn_cell_repeats": 1,
    "box_class_repeats": 1, "image_size": "128x64", "anchor_scale": 1, "learning_rate": 0.01,
    "is_training_bn": False, "num_epochs": 1, "repeat_classes": [NAMES[4]],
}  # fmt: skip


def write_set(folder: Path, num_frames: int) -> None:
    """The folders of a KITTI export: 16 columns, no file where nothing is, folders inside."""
    count = 0
    for number in range(num_frames):
        image, objects = render_frame(3, number)
        width, height = SIZES[number % 3]
        name = f"cam{number % 2}/{number:04d}"
        (image_path := folder / f"image_2/{name}.png").parent.mkdir(parents=True, exist_ok=True)
        image.resize((width, height)).save(image_path, compress_level=1)
        lines = []
        for item in (one for one in objects if not one.is_dont_care and number != 5):
            count += 1
            kind = ["Car", "Pedestrian", "Cyclist"].index(item.type)
            kind = 4 if count == 20 else 3 if kind == 0 and not count % 4 else kind
            box = np.array(item.box) * np.tile([width / 1242, height / 375], 2)
            sides = " ".join(map(str, np.float32(box).tolist()))
            lines.append(f"{NAMES[kind]} 0.0 0 -1 {sides} {'-1 ' * 7}1.0\n")
        if lines:
            (label := folder / f"label_2/{name}.txt").parent.mkdir(parents=True, exist_ok=True)
            label.write_text("".join(lines), encoding="utf-8")
    (folder.parent / "label_colors.txt").write_text("background:0:0:0::\n")  # it says nothing here


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two records of one folder, and a run that was trained on them."""
    folder = tmp_path_factory.mktemp("거리")
    write_set(folder / "cvat/default", 12)
    root = folder / "cvat/default"
    label_map, _ = found_classes.find_classes(find_frames(root, "training"))
    for subset in ("training", "validation"):
        options = Options(subset, missing_is_empty=True)
        output = folder / f"{subset}.record"
        assert convert(select_frames(root, options), output, label_map, options)
        if subset == "training":
            label_map.write(folder / found_classes.FILE_NAME)
            label_map, place = found_classes.map_of_folder(folder / "validation.record")
            assert place.name == "label_map.txt"
    train(
        TrainOptions(
            str(folder / "run"), str(folder / "training.record"),
            str(folder / "validation.record"), model_name="efficientdet-d0", hparams=HPARAMS,
            train_batch_size=3, eval_batch_size=3, skip_preflight=True,
        )
    )  # fmt: skip
    return folder


def test_the_inspector_passes_the_records(street: Path) -> None:
    report = check_records([street / "training.record", street / "validation.record"])
    assert report.ok and set(report.label_map.names.values()) == {*NAMES}
    counts = sum((Counter(one.statistics.class_counts) for one in report.sets), Counter())
    assert set(counts) == {*NAMES} and counts["전동 킥보드"] == 1
    sizes = {size for one in report.sets for size in one.statistics.image_hw}
    assert sizes == {(height, width) for width, height in SIZES}
    write_html(street / "report.html", report, [])
    assert "횡단보도 신호등" in (street / "report.html").read_text(encoding="utf-8")


def test_the_run_is_judged_by_coco_s_metric_under_the_same_names(street: Path) -> None:
    assert RunDirectory(street / "run").stored_label_map == LabelMap.read(street / "label_map.txt")
    assert NAMES[4] in (street / "run/config.yaml").read_text(encoding="utf-8")
    last = (street / "run/metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1]
    metrics = json.loads(last)
    named = {name[len("AP_/") :] for name in metrics if name.startswith("AP_/")}
    assert named and named <= {*NAMES} and not [name for name in metrics if "kitti" in name]
    header = (street / "run/results.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
    assert {f"AP_/{name}" for name in named} <= {*header}
    page = (street / "run/eval/report.html").read_text(encoding="utf-8")
    assert "neither Car nor Pedestrian nor Cyclist" in page and "보행자" in page
    assert not (street / "run/eval/kitti_curves.png").exists()


def test_predictions_bear_the_names(street: Path) -> None:
    predict(
        PredictOptions(
            str(street / "run"), str(street / "validation.record"),
            output_dir=str(street / "found"), min_score=0.5, which="newest",
        )
    )  # fmt: skip
    results = sorted((street / "found/results").rglob("*.txt"))
    ids = {
        path.relative_to(street / "found/results").with_suffix("").as_posix() for path in results
    }
    manifest = json.loads((street / "validation.record.manifest.json").read_text(encoding="utf-8"))
    assert ids == set(manifest["source_ids"]) and any("/" in name for name in ids)
    lines = "".join(path.read_text(encoding="utf-8") for path in results).splitlines()
    assert lines and {line.rsplit(" ", 15)[0] for line in lines} <= {*NAMES}
    assert Image.open(street / f"found/{min(ids)}.png").size in SIZES
