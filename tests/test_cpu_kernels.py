"""What is computed otherwise than by TensorFlow's kernels has their values and gradients."""

from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from efficientdet import cpu_kernels
from efficientdet.config import Config
from efficientdet.model.layers import DepthwiseConv2D, SeparableConv2D
from efficientdet.model.losses import focal_loss

RANDOM = np.random.default_rng(0)


@pytest.fixture(params=["one loop", "small", "no XLA"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(cpu_kernels, "ONE_LOOP_FROM", 100 if request.param == "small" else 1)
    monkeypatch.setattr(cpu_kernels, "_has_xla", lambda: request.param == "one loop")
    return request.param


def values(*shape: int) -> tf.Tensor:
    return tf.constant(RANDOM.normal(scale=3, size=shape), tf.float32)


def value_and_gradients(function: Callable, *by: tf.Tensor) -> list[tf.Tensor]:
    """Of a sum that weighs every element differently."""

    @tf.function(autograph=False)
    def compute() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(by)
            value = function(*by)
            loss = tf.reduce_sum(tf.sin(value))
        return [value, *tape.gradient(loss, by)]

    return compute()


def assert_equal(ours: list, theirs: list) -> None:
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 8, 12, 3), (2, 7, 9, 3), (1, 2, 1, 3)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [3, 5])
def test_a_wide_depthwise_kernel(size: int, stride: int, shape: tuple[int, ...]) -> None:
    layer = DepthwiseConv2D(size, stride, padding="same", use_bias=False)
    assert_trains_as_keras_own(layer, values(*shape))


@pytest.mark.parametrize("filters", [3, 16])
def test_a_separable_convolution_and_its_bias(filters: int) -> None:
    layer = SeparableConv2D(filters, 3, padding="same", bias_initializer="normal")
    assert_trains_as_keras_own(layer, values(2, 5, 4, 3))


def assert_trains_as_keras_own(layer: keras.Layer, x: tf.Tensor) -> None:
    layer.build(x.shape)

    def run(training: bool) -> list[tf.Tensor]:
        def call(x: tf.Tensor, *weights: tf.Tensor) -> tf.Tensor:
            return layer.stateless_call(weights, [], x, training=training)[0]

        weights = [tf.convert_to_tensor(v.value) for v in layer.trainable_variables]
        return value_and_gradients(call, x, *weights)

    assert_equal(run(training=True), run(training=False))


def test_swish(way: str) -> None:
    x = values(2, 3, 4)
    assert_equal(value_and_gradients(cpu_kernels.swish, x), value_and_gradients(ops.silu, x))


def test_swish_of_any_batch(way: str) -> None:
    x, any_batch = values(2, 3), tf.TensorSpec((None, 3), tf.float32)

    @tf.function(autograph=False, input_signature=[any_batch])
    def slope(x: tf.Tensor) -> tf.Tensor:
        return tf.gradients(cpu_kernels.swish(x), x)[0]

    expected = tf.function(lambda x: tf.gradients(ops.silu(x), x)[0], autograph=False)(x)
    assert_equal([slope(x)], [expected])


def test_one_loop_with_an_argument_that_has_no_gradient(way: str) -> None:
    def function(x: tf.Tensor, times: tf.Tensor) -> tf.Tensor:
        return x**2 * ops.cast(times, "float32")

    x, times = values(4, 3), tf.constant([[1], [0], [-2], [3]])
    value, slope = value_and_gradients(lambda x: cpu_kernels.one_loop(function, x, times), x)
    assert_equal([value, slope], value_and_gradients(lambda x: function(x, times), x))


def test_the_focal_loss_is_the_same_as_one_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    classes, config = tf.constant([[0, -1, 2, -2]]), Config(label_smoothing=0.1)

    def loss(logits: tf.Tensor) -> tf.Tensor:
        return focal_loss(logits, classes, config=config)

    logits = values(1, 4, 3)
    plain = value_and_gradients(loss, logits)
    monkeypatch.setattr(cpu_kernels, "ONE_LOOP_FROM", 1)
    assert_equal(value_and_gradients(loss, logits), plain)
