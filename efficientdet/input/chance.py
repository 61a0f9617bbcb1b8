"""Chance as a function of a seed (int32 [2]): the same in eager mode and inside tf.data."""

from collections.abc import Callable

import tensorflow as tf

from efficientdet.input.geometry import Sample


def with_probability(
    probability: float | tf.Tensor,
    op: Callable[[Sample, tf.Tensor], Sample],
    sample: Sample,
    seed: tf.Tensor,
) -> Sample:
    """`op(sample, seed)` for that share of the seeds; else nothing is computed."""
    _, own = tf.unstack(tf.random.split(seed))
    return tf.cond(happens(probability, seed), lambda: op(sample, own), lambda: sample)


def happens(probability: float | tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """bool: whether `with_probability` computes its op."""
    return uniform(tf.random.split(seed)[0]) < probability


def uniform(seed: tf.Tensor, low: float = 0.0, high: float = 1.0) -> tf.Tensor:
    """float32 scalar in `low`..`high`."""
    return tf.random.stateless_uniform([], seed, low, high)


def uniform_int(seed: tf.Tensor, largest: tf.Tensor) -> tf.Tensor:
    """int32, elementwise 0..largest inclusive."""
    draw = tf.random.stateless_uniform(tf.shape(largest), seed)
    return tf.minimum(tf.cast(draw * tf.cast(largest + 1, tf.float32), tf.int32), largest)
