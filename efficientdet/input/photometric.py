"""Changes of light and colour; boxes stay as they are."""

import math

import numpy as np
import tensorflow as tf

from efficientdet.input import geometry
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
    mean = tf.linalg.matvec(matrix, tf.reduce_mean(image, [0, 1]))
    image = tf.tensordot(image, contrast * tf.transpose(matrix), 1)
    image = geometry.scale_channels(image, tf.ones([3]), (1.0 - contrast) * mean + brightness)
    return tf.clip_by_value(image, 0.0, 255.0)


def _blur(sample: Sample, seed: tf.Tensor) -> Sample:
    """Gaussian, sigma 0.5 to 1.5 pixels, 7 taps a side; edges repeated."""
    sigma = uniform(seed, 0.5, 1.5)
    taps = tf.exp(-tf.square(tf.range(-3.0, 4.0)) / (2.0 * tf.square(sigma)))
    taps = tf.tile(tf.reshape(taps / tf.reduce_sum(taps), [7, 1, 1, 1]), [1, 1, 3, 1])
    image = tf.pad(sample.image, [[3, 3], [3, 3], [0, 0]], "SYMMETRIC")[tf.newaxis]
    for kernel in (taps, tf.transpose(taps, [1, 0, 2, 3])):
        image = tf.nn.depthwise_conv2d(image, kernel, [1, 1, 1, 1], "VALID")
    return sample._replace(image=image[0])


def _jpeg(sample: Sample, seed: tf.Tensor) -> Sample:
    """Coded with a quality of 30 to 90, and decoded again."""
    quality = tf.random.stateless_uniform([], seed, 30, 91, tf.int32)
    image = tf.cast(tf.round(sample.image), tf.uint8)
    coded = tf.image.adjust_jpeg_quality(image, quality)
    return sample._replace(image=tf.cast(coded, tf.float32))
