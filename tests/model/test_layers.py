import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientdet import backend
from efficientdet.model.layers import BatchNormalization, VarianceScaling

SHAPES = [(2, 3, 5, 4), (2, 1, 1, 4), (1, 1, 1, 4)]


@pytest.fixture(params=["fused", "unfused"])
def kernel(request, monkeypatch):
    monkeypatch.setattr(backend, "IS_JAX", request.param == "unfused")
    return request.param


def layer_and_inputs(shape, policy="float32"):
    random = np.random.default_rng(1)
    layer = BatchNormalization(dtype=policy)
    layer.build((None, None, None, shape[-1]))
    layer.gamma.assign(random.normal(size=4))
    layer.beta.assign(random.normal(size=4))
    layer.moving_mean.assign(random.normal(size=4))
    layer.moving_variance.assign(random.uniform(0.5, 2, size=4))
    return layer, tf.constant(random.normal(2, 3, size=shape), policy.removeprefix("mixed_"))


@pytest.mark.parametrize("shape", SHAPES)
def test_training_follows_the_paper(kernel, shape):
    layer, x = layer_and_inputs(shape)
    mean0, variance0 = layer.moving_mean.numpy(), layer.moving_variance.numpy()
    y = layer(x, training=True)
    flat = x.numpy().reshape(-1, 4)
    mean, variance = flat.mean(axis=0), flat.var(axis=0)
    expected = (flat - mean) / np.sqrt(variance + 1e-3) * layer.gamma.numpy() + layer.beta.numpy()
    np.testing.assert_allclose(y.numpy().reshape(-1, 4), expected, atol=1e-5)
    unbiased = variance * len(flat) / max(len(flat) - 1, 1)
    np.testing.assert_allclose(layer.moving_mean, mean0 + 0.01 * (mean - mean0), atol=1e-6)
    moved = variance0 + 0.01 * (unbiased - variance0)
    np.testing.assert_allclose(layer.moving_variance, moved, atol=1e-6)


@pytest.mark.parametrize("frozen", [False, True])
def test_inference_and_frozen_use_moving_statistics(kernel, frozen):
    layer, x = layer_and_inputs(SHAPES[0])
    before = [v.numpy() for v in layer.non_trainable_variables]
    layer.frozen = frozen
    y = layer(x, training=frozen)
    scale = layer.gamma.numpy() / np.sqrt(layer.moving_variance.numpy() + 1e-3)
    expected = (x.numpy() - layer.moving_mean.numpy()) * scale + layer.beta.numpy()
    np.testing.assert_allclose(y, expected, atol=1e-5)
    for value, variable in zip(before, layer.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(variable, value)


@pytest.mark.parametrize("frozen", [False, True])
def test_gradients_agree_between_kernels(monkeypatch, frozen):
    gradients = []
    for portable in (False, True):
        monkeypatch.setattr(backend, "IS_JAX", portable)
        layer, x = layer_and_inputs(SHAPES[0])
        layer.frozen = frozen
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.sin(layer(x, training=True)))
        gradients.append(tape.gradient(loss, [x, layer.gamma.value, layer.beta.value]))
    for fused, unfused in zip(*gradients, strict=True):
        np.testing.assert_allclose(fused, unfused, atol=1e-4)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_keeps_float32_statistics(kernel, dtype):
    layer, x = layer_and_inputs(SHAPES[0], f"mixed_{dtype}")
    layer.moving_mean.assign([0.0] * 4)
    assert layer(x, training=True).dtype == dtype
    mean = tf.cast(x, "float32").numpy().reshape(-1, 4).mean(axis=0)
    np.testing.assert_allclose(layer.moving_mean, 0.01 * mean, rtol=1e-3)
    assert {v.dtype for v in layer.weights} == {"float32"}


@pytest.mark.parametrize("frozen", [False, True])
def test_xla_gives_the_same(frozen):
    """On a GPU the training step is compiled by XLA."""
    results = []
    for jit_compile in (False, True):
        layer, x = layer_and_inputs(SHAPES[1])
        layer.frozen = frozen
        gamma, state = layer.gamma.value, [v.value for v in layer.non_trainable_variables]

        @tf.function(jit_compile=jit_compile, autograph=False)
        def step(layer, x, gamma, state):
            with tf.GradientTape() as tape:
                tape.watch([x, gamma])
                trainables = [gamma, layer.beta.value]
                y, state = layer.stateless_call(trainables, state, x, training=True)
                loss = tf.reduce_sum(tf.sin(y))
            return tape.gradient(loss, [x, gamma]), state

        results.append(tf.nest.flatten(step(layer, x, gamma, state)))
    for plain, compiled in zip(*results, strict=True):
        np.testing.assert_allclose(compiled, plain, rtol=1e-4, atol=1e-5)


SHAPE = (3, 3, 40, 90)


@pytest.mark.parametrize(
    ("scale", "mode", "distribution"),
    [
        (2.0, "fan_out", "untruncated_normal"),
        (1.0, "fan_in", "truncated_normal"),
        (1.0, "fan_avg", "uniform"),
    ],
)
def test_distributed_as_kerass(scale, mode, distribution):
    ours = VarianceScaling(scale, mode, distribution, seed=0)(SHAPE)
    theirs = keras.initializers.VarianceScaling(scale, mode, distribution, seed=0)(SHAPE).numpy()
    assert ours.dtype == np.float32
    quantiles = np.linspace(0.05, 0.95, 19)
    np.testing.assert_allclose(
        np.quantile(ours, quantiles), np.quantile(theirs, quantiles), atol=0.03 * theirs.std()
    )
    if distribution != "untruncated_normal":
        assert np.abs(ours).max() == pytest.approx(np.abs(theirs).max(), rel=1e-3)


def test_reproducible_and_different():
    values = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        values.append([VarianceScaling()(SHAPE) for _ in range(2)])
    np.testing.assert_array_equal(values[0], values[1])
    assert np.any(values[0][0] != values[0][1])
    assert np.any(values[0][0] != values[2][0])
