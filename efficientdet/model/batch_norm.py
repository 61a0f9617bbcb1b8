"""Batch normalisation with fused kernels and the unbiased moving variance.

Ioffe and Szegedy, "Batch Normalization" (2015), algorithms 1 and 2: the moving variance takes the
Bessel-corrected batch variance, n / (n - 1), which matters where n is small (P7 of a small input).
`keras.layers.BatchNormalization` takes the biased one and is not fused.
"""

from typing import Any

import keras
from keras import ops

Tensor = Any
_ON_TENSORFLOW = keras.backend.backend() == "tensorflow"

if _ON_TENSORFLOW:
    import tensorflow as tf


class BatchNormalization(keras.layers.Layer):
    """Normalises [B, H, W, C] over all axes but the last; statistics are float32 always.

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
        if not training or self.frozen:
            outputs, _, _ = _normalise(self, inputs, self.moving_mean, self.moving_variance)
            return outputs
        outputs, mean, variance = _normalise(self, inputs)
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving + (batch - moving) * (1 - self.momentum))
        return outputs


def _fused(
    layer: BatchNormalization, inputs: Tensor, mean: Tensor = None, variance: Tensor = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs and the batch's mean and unbiased variance; with given statistics those are used."""
    training = mean is None
    outputs = tf.raw_ops.FusedBatchNormV3(
        x=inputs,
        scale=ops.convert_to_tensor(layer.gamma),
        offset=ops.convert_to_tensor(layer.beta),
        mean=[] if training else ops.convert_to_tensor(mean),
        variance=[] if training else ops.convert_to_tensor(variance),
        epsilon=layer.epsilon,
        is_training=training,
    )
    return outputs.y, outputs.batch_mean, outputs.batch_variance


def _unfused(
    layer: BatchNormalization, inputs: Tensor, mean: Tensor = None, variance: Tensor = None
) -> tuple[Tensor, Tensor, Tensor]:
    """`_fused` in portable operations."""
    x = ops.cast(inputs, "float32")
    unbiased = variance
    if mean is None:
        mean, variance = ops.moments(x, axes=(0, 1, 2))
        count = ops.cast(ops.prod(ops.shape(x)[:-1]), "float32")
        unbiased = variance * count / ops.maximum(count - 1, 1)
    scale = layer.gamma * ops.rsqrt(variance + layer.epsilon)
    outputs = (x - mean) * scale + layer.beta
    return ops.cast(outputs, inputs.dtype), mean, unbiased


_normalise = _fused if _ON_TENSORFLOW else _unfused
