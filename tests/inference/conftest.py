"""A run to predict with, whose network is left out."""

from pathlib import Path

import pytest
from one_box import OneBox

from efficientdet.config import Config
from efficientdet.dataset.label_map import LabelMap
from efficientdet.inference import prediction
from efficientdet.run.directory import RunDirectory


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with `run/` of the classes Car and Cyclist."""
    monkeypatch.chdir(tmp_path)
    config = Config.for_model("efficientdet-d0").override({"num_classes": 2, "image_size": 128})
    RunDirectory("run").write(config, LabelMap((("Car",), ("Cyclist",))))
    for suffix in ("index", "data-00000-of-00001"):
        (tmp_path / f"run/model.ckpt-1.{suffix}").touch()
    monkeypatch.setattr(prediction, "require", lambda _: None)
    monkeypatch.setattr(prediction, "load_detector", lambda *_: OneBox())
    return tmp_path
