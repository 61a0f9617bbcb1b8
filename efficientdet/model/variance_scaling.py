"""Initial values of kernels (He et al., 2015; Glorot and Bengio, 2010), drawn by NumPy."""

import math
from typing import Any

import keras
import numpy as np

TRUNCATION = 2.0  # standard deviations
_STD_OF_TRUNCATED = 0.87962566103423978  # of a normal distribution cut there


class VarianceScaling(keras.initializers.VarianceScaling):
    """Keras' own distribution. JAX would compile a program for the shape of every kernel.

    Building D0 on JAX takes 2 s of CPU time so, and 24 s otherwise.
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
