"""Layers and initial values that backbone, BiFPN and heads share."""

import math
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from efficientdet import backend, cpu_kernels

Tensor = Any
ACTIVATIONS = {"swish": cpu_kernels.swish, "relu6": ops.relu6}
TRUNCATION = 2.0  # standard deviations
_STD_OF_TRUNCATED = 0.87962566103423978  # of a normal distribution cut there


class BatchNormalization(keras.layers.Layer):
    """Normalises [B, H, W, C] over all axes but the last; statistics are float32 always.

    Ioffe and Szegedy, "Batch Normalization" (2015), algorithms 1 and 2: the moving variance takes
    the Bessel-corrected batch variance, n / (n - 1), which matters where n is small (P7 of a small
    input). `keras.layers.BatchNormalization` takes the biased one and is not fused.

    Attributes:
        frozen: with True, `training=True` too uses the moving statistics and leaves them alone.
            gamma and beta stay trainable variables.
    """

    def __init__(self, momentum: float = 0.99, epsilon: float = 1e-3, **kwargs: Any):
        super().__init__(**kwargs)
        self.momentum = momentum
        self.epsilon = epsilon
        self.frozen = False

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes gamma, beta, moving_mean and moving_variance, each [C]."""

        def weight(name: str, initializer: str, trainable: bool) -> keras.Variable:
            shape = (input_shape[-1],)
            return self.add_weight(
                name=name,
                shape=shape,
                initializer=initializer,
                trainable=trainable,
                dtype="float32",
                autocast=False,
            )

        self.gamma = weight("gamma", "ones", trainable=True)
        self.beta = weight("beta", "zeros", trainable=True)
        self.moving_mean = weight("moving_mean", "zeros", trainable=False)
        self.moving_variance = weight("moving_variance", "ones", trainable=False)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The input's."""
        return input_shape

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """[B, H, W, C] in any float type -> the same shape and type."""
        weights = self.gamma, self.beta
        if not training or self.frozen:
            moving = self.moving_mean, self.moving_variance
            return backend.batch_norm(inputs, *weights, *moving, epsilon=self.epsilon)[0]
        outputs, mean, variance = backend.batch_norm(inputs, *weights, epsilon=self.epsilon)
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving + (batch - moving) * (1 - self.momentum))
        return outputs


class DepthwiseConv2D(layers.DepthwiseConv2D):
    """Keras' own without bias, whose kernel's gradient is fast on a CPU, too."""

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """[B, H, W, C] -> [B, H / stride, W / stride, C]."""
        if not training:
            return super().call(inputs)
        return cpu_kernels.depthwise_conv(inputs, self.kernel, self.strides[0])


class SeparableConv2D(layers.SeparableConv2D):
    """Keras' own with a bias, whose gradients are fast on a CPU, too."""

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """[B, H, W, C] -> [B, H, W, filters]."""
        if not training:
            return super().call(inputs)
        kernels = self.depthwise_kernel, self.pointwise_kernel
        outputs = ops.separable_conv(inputs, *kernels, self.strides, self.padding)
        return cpu_kernels.add_bias(outputs, self.bias)


class StochasticDepth(layers.Layer):
    """Drops a residual branch of whole examples in training; survivors are divided by p."""

    def __init__(self, survival_prob: float):
        super().__init__()
        self.survival_prob = survival_prob
        self.seed = keras.random.SeedGenerator() if survival_prob < 1 else None
        self.built = True

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """[B, ...] -> [B, ...]."""
        if not training or self.seed is None:
            return inputs
        shape = (ops.shape(inputs)[0],) + (1,) * (len(inputs.shape) - 1)
        kept = keras.random.uniform(shape, seed=self.seed) < self.survival_prob
        return inputs / self.survival_prob * ops.cast(kept, inputs.dtype)


class VarianceScaling(keras.initializers.VarianceScaling):
    """Keras' own distribution (He et al., 2015; Glorot and Bengio, 2010), drawn by NumPy.

    JAX would compile a program for the shape of every kernel:
    building D0 on it takes 2 s of CPU time so, and 24 s otherwise.
    """

    def __call__(self, shape: tuple[int, ...], dtype: Any = None, **kwargs: Any) -> np.ndarray:
        """Values of a kernel [..., in, out], reproducible after `keras.utils.set_random_seed`."""
        receptive_field = math.prod(shape[:-2])
        fan_in, fan_out = shape[-2] * receptive_field, shape[-1] * receptive_field
        fans = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}
        std = math.sqrt(self.scale / max(1.0, fans[self.mode]))
        random = np.random.default_rng(self.seed)
        if self.distribution == "uniform":
            values = random.uniform(-math.sqrt(3) * std, math.sqrt(3) * std, size=shape)
        else:
            values = random.normal(size=shape)
            if self.distribution == "truncated_normal":
                while (outside := np.abs(values) > TRUNCATION).any():
                    values[outside] = random.normal(size=np.count_nonzero(outside))
                values /= _STD_OF_TRUNCATED
            values *= std
        return values.astype(dtype or "float32")
