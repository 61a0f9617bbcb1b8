"""BatchNorm folded into the convolutions before it: the same network with fewer operations.

With y = gamma * (x - mean) / sqrt(variance + epsilon) + beta after x = kernel * input + bias, the
factor gamma / sqrt(...) goes into the kernel's output channels and the rest into the bias.
"""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import layers

from efficientdet.model.bifpn import Resample, SeparableConvBN
from efficientdet.model.efficientnet import MBConv, Stem
from efficientdet.model.heads import Head
from efficientdet.model.layers import BatchNormalization
from efficientdet.tensorflow_device import tf

# The attributes of a layer that follow each other: a convolution and its BatchNorm.
_PAIRS: dict[type, tuple[tuple[str, str], ...]] = {
    Stem: (("conv", "bn"),),
    MBConv: (
        ("expand", "expand_bn"),
        ("depthwise", "depthwise_bn"),
        ("project", "project_bn"),
    ),
    Resample: (("conv", "bn"),),
    SeparableConvBN: (("conv", "bn"),),
}


class FoldedConvolution:
    """A convolution with the BatchNorm after it, for inference; [B, H, W, C] -> [B, h, w, F].

    Computed in float64, so that what differs is the rounding of each kernel to float32.
    """

    def __init__(self, conv: layers.Layer, bn: BatchNormalization):
        gamma, beta, mean, variance = (
            np.float64(keras.ops.convert_to_numpy(weight))
            for weight in (bn.gamma, bn.beta, bn.moving_mean, bn.moving_variance)
        )
        factor = gamma / np.sqrt(variance + bn.epsilon)
        *kernels, last = (np.float64(kernel) for kernel in _kernels(conv))
        depthwise = isinstance(conv, layers.DepthwiseConv2D)
        last = last * (factor[:, None] if depthwise else factor)  # [h, w, C, 1] or [h, w, C, F]
        bias = keras.ops.convert_to_numpy(conv.bias) if conv.use_bias else 0.0
        self._bias = tf.Variable(np.float32((bias - mean) * factor + beta), trainable=False)
        self._kernels = [tf.Variable(np.float32(k), trainable=False) for k in (*kernels, last)]
        self._depthwise = [not isinstance(conv, layers.Conv2D), False][: len(kernels) + 1]
        self._strides, self._padding = conv.strides, conv.padding.upper()

    def __call__(self, inputs: Any, training: bool = False) -> tf.Tensor:
        """Takes the place of the BatchNorm, which has the argument `training`."""
        x = inputs
        strides = self._strides
        for kernel, depthwise in zip(self._kernels, self._depthwise, strict=True):
            if depthwise:
                x = tf.nn.depthwise_conv2d(x, kernel, (1, *strides, 1), self._padding)
            else:
                x = tf.nn.conv2d(x, kernel, strides, self._padding)
            strides = (1, 1)  # of a separable convolution, the depthwise one has them
        return tf.nn.bias_add(x, self._bias)


def fold(model: keras.Model) -> int:
    """Folds every BatchNorm of a detector, in place; it is good for inference alone then.

    Its variables stay where they are, but those of the folded layers are no longer read.

    Returns:
        How many BatchNorms were folded.
    """
    count = 0
    for layer in model._flatten_layers():
        for name, bn_name in _PAIRS.get(type(layer), ()):
            if (conv := getattr(layer, name)) is not None:
                folded = FoldedConvolution(conv, getattr(layer, bn_name))
                _put(layer, {name: _unchanged, bn_name: folded})
                count += 1
        if isinstance(layer, Head):  # its convolutions are shared by the levels, no BatchNorm is
            rows = [list(map(FoldedConvolution, layer.convs, bns)) for bns in layer.bns]
            _put(layer, {"convs": [_unchanged] * len(layer.convs), "bns": rows})
            count += sum(map(len, rows))
    return count


def _kernels(conv: layers.Layer) -> Iterator[np.ndarray]:
    """One kernel, or depthwise and pointwise of a separable convolution."""
    if isinstance(conv, layers.SeparableConv2D):
        yield keras.ops.convert_to_numpy(conv.depthwise_kernel)
        yield keras.ops.convert_to_numpy(conv.pointwise_kernel)
    else:
        yield keras.ops.convert_to_numpy(conv.kernel)


def _unchanged(inputs: Any, training: bool = False) -> Any:
    return inputs


def _put(layer: layers.Layer, values: dict[str, Any]) -> None:
    """Sets attributes behind Keras' back, which lets nobody exchange the parts of a built layer."""
    layer.__dict__.update(values)
