"""Weights say how the images of a run that begins with them are to be scaled."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from efficientdet.checkpoint.trained_with import check_input, configure
from efficientdet.config import Config, load_yaml
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UserError
from efficientdet.run.directory import RunDirectory
from efficientdet.training import train
from efficientdet.training.options import TrainOptions

D0 = Config.for_model("efficientdet-d0")
HALF = (127.5, 127.5, 127.5)


@pytest.fixture
def advprop(tmp_path: Path) -> Path:
    """As scripts/download_checkpoint.sh leaves it."""
    folder = tmp_path / "efficientdet-d0-advprop"
    folder.mkdir()
    (folder / "model.index").touch()
    (folder / "hparams.yaml").write_text("mean_rgb: 127.5\nstddev_rgb: 127.5\n")
    return folder


@pytest.mark.parametrize("name", ["", "model", "model.index"])
def test_a_new_run_begins_as_its_weights_were_trained(
    advprop: Path, tmp_path: Path, name: str, said
):
    run = RunDirectory(tmp_path / "run")
    config = run.config("efficientdet-d0", {}, LabelMap.kitti(), str(advprop / name))
    assert config.mean_rgb == config.stddev_rgb == HALF
    (line,) = said
    assert "mean_rgb=[127.5, 127.5, 127.5], stddev_rgb=[127.5, 127.5, 127.5]" in line
    run.write(config, LabelMap.kitti())
    assert load_yaml(run.path / "config.yaml")["mean_rgb"] == list(HALF)
    assert run.config(None, {}, LabelMap.kitti()) == config


def test_what_the_user_says_stands(advprop: Path, said):
    config = configure(D0, {"mean_rgb": 1.0}, str(advprop))
    assert config.mean_rgb == (1.0, 1.0, 1.0) and config.stddev_rgb == HALF
    assert "mean_rgb" not in said[0] and "stddev_rgb" in said[0]


@pytest.mark.parametrize("name", ["model.ckpt-5", "archive"])
def test_a_run_hands_its_scaling_on(tmp_path: Path, name: str):
    D0.override({"mean_rgb": HALF, "learning_rate": 9.0}).save(tmp_path / "config.yaml")
    (tmp_path / "archive").mkdir()
    config = configure(D0, {}, str(tmp_path / name))
    assert config.mean_rgb == HALF and config.learning_rate == D0.learning_rate


def test_others_decide_nothing(tmp_path: Path, said):
    archive = tmp_path / "efficientdet-d0.tar.gz"
    archive.touch()
    (tmp_path / "config.yaml").write_text("mean_rgb: 1.0\n")
    (tmp_path / "published").mkdir()
    for path in (None, str(archive), str(tmp_path / "published/model"), str(tmp_path / "x/y")):
        assert configure(D0, {"seed": 3}, path).mean_rgb == D0.mean_rgb
    assert not said


def test_an_evaluation_with_another_scaling_is_refused(advprop: Path):
    check_input(str(advprop), configure(D0, {}, str(advprop)))
    check_input("elsewhere/model", D0)
    with pytest.raises(UserError, match=r"mean_rgb=127.5\*127.5\*127.5, but here it is 123.675"):
        check_input(str(advprop), D0)


def test_training_asks_the_weights_it_starts_from(
    advprop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    records = SimpleNamespace(label_map=LabelMap.kitti(), require_at_most=lambda limit: None)
    monkeypatch.setattr(train.RecordSet, "open", lambda *given: records)
    monkeypatch.setattr(train, "require", lambda *given: None)
    monkeypatch.setattr(train, "_check_batch", lambda *given: None)
    options = TrainOptions(
        str(tmp_path / "run"), "a.record", backbone_ckpt=str(advprop), skip_preflight=True
    )
    assert train.open_run(options).config.mean_rgb == (127.5,) * 3
