"""Changes of light and colour; boxes stay as they are."""

import math

import numpy as np
import tensorflow as tf

from efficientdet.input.chance import uniform, with_probability
from efficientdet.input.geometry import Sample


def photometric(sample: Sample, seed: tf.Tensor, *, strength: float) -> Sample:
    """Light, contrast, colour; now and then blur and JPEG blocks. Boxes stay as they are.

    Args:
        sample: its image 0..255, any number type.
        strength: 0..1. At 1: brightness +-32 (of 255), contrast and saturation x 0.5..1.5, hue +-20
            degrees, each always; blur and JPEG of quality 30..90 in every third sample each.

    Returns:
        The image as float32 in 0..255.
    """
    colour, blur, jpeg = tf.unstack(tf.random.split(seed, 3))
    image = _shift_colours(tf.cast(sample.image, tf.float32), colour, strength)
    sample = with_probability(strength / 3, _blur, sample._replace(image=image), blur)
    return with_probability(strength / 3, _jpeg, sample, jpeg)


# RGB to luminance and two colour axes (YIQ); a rotation of the two turns the hue.
_TO_YIQ = np.float32([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_TO_RGB = np.linalg.inv(_TO_YIQ)


def _shift_colours(image: tf.Tensor, seed: tf.Tensor, strength: float) -> tf.Tensor:
    """Brightness, contrast, saturation and hue are one 3x3 matrix and an offset: one pass."""
    draws = strength * tf.random.stateless_uniform([4], seed, -1.0, 1.0)
    brightness, contrast = 32.0 * draws[0], 1.0 + 0.5 * draws[1]
    saturation, angle = 1.0 + 0.5 * draws[2], math.radians(20.0) * draws[3]
    cosine, sine = saturation * tf.cos(angle), saturation * tf.sin(angle)
    turn = tf.stack([1.0, 0.0, 0.0, 0.0, cosine, -sine, 0.0, sine, cosine])
    matrix = tf.constant(_TO_RGB) @ tf.reshape(turn, [3, 3]) @ tf.constant(_TO_YIQ)
    mean = tf.linalg.matvec(matrix, _mean(image))
    # A convolution: of all kernels the quickest for a 3x3 matrix a pixel, the offset included.
    kernel = (contrast * tf.transpose(matrix))[tf.newaxis, tf.newaxis]
    image = tf.nn.conv2d(image[tf.newaxis], kernel, 1, "VALID")
    image = tf.nn.bias_add(image, (1.0 - contrast) * mean + brightness)[0]
    # One pass; tf.clip_by_value takes two.
    return tf.raw_ops.ClipByValue(t=image, clip_value_min=0.0, clip_value_max=255.0)


def _mean(image: tf.Tensor) -> tf.Tensor:
    """float32 [3], over all pixels: rows by a product, which reads them thrice as fast as a sum."""
    height, width = tf.unstack(tf.shape(image)[:2])
    weights = tf.fill([1, height], 1.0 / tf.cast(height, tf.float32))
    columns = weights @ tf.reshape(image, [height, width * 3])
    return tf.reduce_mean(tf.reshape(columns, [width, 3]), 0)


def _blur(sample: Sample, seed: tf.Tensor) -> Sample:
    """Gaussian, sigma 0.5 to 1.5 pixels, 7 taps a side; edges repeated."""
    sigma = uniform(seed, 0.5, 1.5)
    taps = tf.exp(-tf.square(tf.range(-3.0, 4.0)) / (2.0 * tf.square(sigma)))
    taps = tf.tile(tf.reshape(taps / tf.reduce_sum(taps), [7, 1, 1, 1]), [1, 1, 3, 1])
    image = sample.image
    for axis, kernel in enumerate((taps, tf.transpose(taps, [1, 0, 2, 3]))):
        padded = _repeat_edges(image, axis)[tf.newaxis]
        image = tf.nn.depthwise_conv2d(padded, kernel, [1, 1, 1, 1], "VALID")[0]
    return sample._replace(image=image)


def _repeat_edges(image: tf.Tensor, axis: int) -> tf.Tensor:
    """Three pixels mirrored at both ends of an axis, as tf.pad does it, which takes 3 times longer.

    Where there are fewer than three, the outermost stands for those that are missing.
    """
    length = tf.shape(image)[axis]
    first = tf.gather(image, tf.minimum([2, 1, 0], length - 1), axis=axis)
    last = tf.gather(image, tf.maximum(length - [1, 2, 3], 0), axis=axis)
    return tf.concat([first, image, last], axis)


def _jpeg(sample: Sample, seed: tf.Tensor) -> Sample:
    """Coded with a quality of 30 to 90, and decoded again."""
    quality = tf.random.stateless_uniform([], seed, 30, 91, tf.int32)
    image = tf.cast(tf.round(sample.image), tf.uint8)
    coded = tf.image.adjust_jpeg_quality(image, quality)
    return sample._replace(image=tf.cast(coded, tf.float32))
