"""Keeps TensorFlow off the GPU where JAX computes: here it only reads records and checkpoints.

It would take the card's memory for itself with its first tensor; so this is imported before that,
by whatever imports TensorFlow.
"""

import os
import warnings

import tensorflow as tf


def leave_gpu() -> None:
    """Hides every GPU from TensorFlow."""
    try:
        tf.config.set_visible_devices([], "GPU")
    except RuntimeError:
        warnings.warn(
            "TensorFlow has the GPU already, beside JAX: import efficientdet before the first "
            "TensorFlow tensor",
            stacklevel=2,
        )


if os.environ.get("KERAS_BACKEND") == "jax":
    leave_gpu()
