"""Operations of a training step that TensorFlow's own kernels compute slowly on a CPU.

The same numbers to float rounding. Where XLA compiles the step (GPU, JAX), plain `keras.ops`.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

from keras import ops

from efficientdet import backend

if not backend.IS_JAX:
    import tensorflow as tf

# As wide as a depthwise kernel may be for oneDNN's fast gradient of it.
ONEDNN_COLUMNS = 3
ONE_LOOP_FROM = 2**19  # elements


def depthwise_conv(x: Any, kernel: Any, stride: int) -> Any:
    """[B, H, W, C] by a kernel [k, k, C, 1], padded to [B, ceil(H / stride), ceil(W / stride), C].

    oneDNN, TensorFlow's library on a CPU, computes the kernel's gradient well up to 3 columns; for
    more it takes a convolution of 16 channels each, at three to five times the time. So the columns
    of a wider kernel get theirs in groups of 3.
    """
    if backend.uses_xla() or kernel.shape[1] <= ONEDNN_COLUMNS:
        return ops.depthwise_conv(x, kernel, stride, "same")

    @tf.custom_gradient
    def convolve(x: Any, kernel: Any) -> tuple[Any, Callable]:
        strides = [1, stride, stride, 1]

        def gradient(dy: Any) -> tuple[Any, Any]:
            dx = tf.raw_ops.DepthwiseConv2dNativeBackpropInput(
                input_sizes=tf.shape(x),
                filter=kernel,
                out_backprop=dy,
                strides=strides,
                padding="SAME",
            )
            return dx, _kernel_gradient(x, dy, kernel.shape, stride)

        return tf.nn.depthwise_conv2d(x, kernel, strides, "SAME"), gradient

    return convolve(x, tf.convert_to_tensor(kernel))


def add_bias(x: Any, bias: Any) -> Any:
    """[B, H, W, C] + [C].

    TensorFlow has oneDNN compute the gradients of a bias and of the convolution before it in one,
    which takes a third longer than both apart, and for 810 channels almost three times as long.
    """
    if backend.uses_xla():
        return ops.add(x, bias)

    @tf.custom_gradient
    def add(x: Any, bias: Any) -> tuple[Any, Callable]:
        def gradient(dy: Any) -> tuple[Any, Any]:
            rows = tf.reshape(dy, (-1, dy.shape[-1]))  # not what the convolution's gradient takes
            return dy, tf.raw_ops.BiasAddGrad(out_backprop=rows)

        return tf.nn.bias_add(x, bias), gradient

    return add(x, tf.convert_to_tensor(bias))


def swish(x: Any) -> Any:
    """x * sigmoid(x), whose gradient on a CPU is one loop; TensorFlow's own is six operations."""
    if backend.uses_xla():
        return ops.silu(x)

    @tf.custom_gradient
    def activate(x: Any) -> tuple[Any, Callable]:
        def gradient(dy: Any) -> Any:
            with tf.control_dependencies([dy]):  # else the forward pass's sigmoid is kept for it
                return (_compiled(_swish_gradient) if _is_large(x) else _swish_gradient)(x, dy)

        return x * tf.sigmoid(x), gradient

    return activate(x)


def _swish_gradient(x: Any, dy: Any) -> Any:
    gate = tf.sigmoid(x)
    return dy * (gate * (1 + x * (1 - gate)))


def one_loop(function: Callable[..., Any], x: Any, *others: Any) -> Any:
    """`function(x, *others)`, computed element by element without passes over memory in between.

    TensorFlow on a CPU runs one operation after the other, each from memory to memory; here XLA
    makes one loop of them, which gives the slope as well. (Under JAX or on a GPU XLA has the whole
    step anyway.)

    Args:
        function: each element of its result depends on the same element of `x`, and has no
            gradient but by `x`.
    """
    if not _is_large(x):
        return function(x, *others)

    @functools.partial(tf.function, jit_compile=True, autograph=False)
    def value_and_slope(x: Any, *others: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function(x, *others)
        return value, tape.gradient(value, x)

    @tf.custom_gradient
    def call(x: Any, *others: Any) -> tuple[Any, Callable]:
        value, slope = value_and_slope(x, *others)
        return value, lambda dy: (dy * slope, *[None] * len(others))

    return call(x, *others)


def _is_large(x: Any) -> bool:
    """Whether XLA shall make one loop of element-wise operations: a small tensor stays in the cache
    between them, and is not worth the tenth of a second that XLA compiles for."""
    if backend.uses_xla() or None in x.shape or math.prod(x.shape) < ONE_LOOP_FROM:
        return False
    return _has_xla()


@functools.cache
def _compiled(function: Callable) -> Callable:
    return tf.function(function, jit_compile=True, autograph=False)


@functools.cache
def _has_xla() -> bool:
    """Whether this build of TensorFlow compiles for the CPU; for some systems there is none."""
    try:
        with tf.init_scope():
            _compiled(tf.exp)(tf.zeros(1))
    except (tf.errors.OpError, ValueError):
        return False
    return True


def _kernel_gradient(x: Any, dy: Any, shape: tuple[int, ...], stride: int) -> Any:
    """The gradient of a depthwise kernel of this shape, ONEDNN_COLUMNS columns at a time."""
    size, (height, width), (_, columns) = shape[0], x.shape[1:3], dy.shape[1:3]
    rows_before, rows_after = _same_padding(height, size, stride)
    before, _ = _same_padding(width, shape[1], stride)
    parts = []
    for first in range(0, shape[1], ONEDNN_COLUMNS):
        group = min(ONEDNN_COLUMNS, shape[1] - first)
        start = first - before  # the columns of x that these columns of the kernel meet
        end = start + (columns - 1) * stride + group
        padding = [(0, 0), (rows_before, rows_after), (max(-start, 0), max(end - width, 0)), (0, 0)]
        parts.append(
            tf.raw_ops.DepthwiseConv2dNativeBackpropFilter(
                input=tf.pad(x[:, :, max(start, 0) : end], padding),
                filter_sizes=[size, group, *shape[2:]],
                out_backprop=dy,
                strides=[1, stride, stride, 1],
                padding="VALID",
            )
        )
    return tf.concat(parts, axis=1)


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after an axis, as TensorFlow's padding `SAME` has them."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2
