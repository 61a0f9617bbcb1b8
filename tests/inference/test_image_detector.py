"""A run is loaded and asked in ten lines: those of docs/api.md."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from efficientdet.config import Config
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UserError
from efficientdet.inference.detector import load_detector
from efficientdet.inference.image_detector import load_run
from efficientdet.input.images import image_batches
from efficientdet.run.checkpoints import CheckpointManager, Progress
from efficientdet.run.directory import RunDirectory
from efficientdet.training.engine import TrainingEngine

RUN, IMAGE = "savedmodel/exp_kitti_d0", "KIT/training/image_2/000000.png"
CONFIG = Config.for_model("efficientdet-d0").override(
    {
        "backbone_name": "efficientnet-tiny", "fpn_num_filters": 16, "fpn_cell_repeats": 1,
        "box_class_repeats": 1, "num_classes": 8, "image_size": "128x64", "anchor_scale": 2.0,
        "nms_configs.max_output_size": 7,
    }
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with one checkpoint of random weights, and an image."""
    folder = tmp_path_factory.mktemp("api")
    RunDirectory(folder / RUN).write(CONFIG, LabelMap.kitti())
    arrays = TrainingEngine(CONFIG).state.arrays()
    CheckpointManager(folder / RUN).save(arrays, Progress(step=3))
    pixels = np.random.default_rng(0).integers(0, 256, (50, 120, 3), np.uint8)
    (folder / IMAGE).parent.mkdir(parents=True)
    Image.fromarray(pixels).save(folder / IMAGE)
    return folder


def test_the_lines_of_the_page_do_what_it_says(
    folder: Path, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    page = (root / "docs/api.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len([line for line in lines.splitlines() if line]) <= 10
    monkeypatch.chdir(folder)
    monkeypatch.setattr("efficientdet.inference.image_detector.DEFAULT", 0.0)
    names: dict = {}
    exec(lines, names)  # as a reader types them
    found, detector = names["found"], names["detector"]
    assert found.boxes.shape == (7, 4) and (np.diff(found.scores) <= 0).all()
    assert (found.boxes >= 0).all() and (found.boxes <= [119, 49, 119, 49]).all()
    assert len(capsys.readouterr().out.splitlines()) >= 7
    assert detector.names == LabelMap.kitti().names


def test_it_finds_what_the_command_finds(folder: Path) -> None:
    image = np.asarray(Image.open(folder / IMAGE))
    found = load_run(folder / RUN, folder / RUN / "model.ckpt-3").detect(image)
    ((batch, _),) = image_batches([folder / IMAGE], CONFIG, 1, on_unreadable=pytest.fail)
    (same,) = load_detector(CONFIG, folder / RUN / "model.ckpt-3").detect(batch)
    np.testing.assert_allclose(found.boxes, same.boxes)
    np.testing.assert_allclose(found.scores, same.scores)


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4, 3)), np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)]
)
def test_what_is_no_image_is_told(folder: Path, image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected an RGB image, uint8 \[H, W, 3\], got"):
        load_run(folder / RUN).detect(image)


def test_what_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run"):
        load_run(tmp_path)
    RunDirectory(tmp_path).write(CONFIG, LabelMap.kitti())
    with pytest.raises(UserError, match="no checkpoint to detect with"):
        load_run(tmp_path)
