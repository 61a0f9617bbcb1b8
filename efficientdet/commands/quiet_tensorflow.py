"""Imports TensorFlow without the lines its C++ side prints at the start; for commands.

They speak of oneDNN, of CPU instructions and, where there is no GPU, of a CUDA error that is none;
no environment variable turns them off. Where an NVIDIA driver is present nothing is hidden: there
they tell why a card is not used.
"""

import os
import shutil

_saved = os.dup(2)
if shutil.which("nvidia-smi") is None:
    _null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(_null, 2)
    os.close(_null)
try:
    import tensorflow as tf

    from efficientdet import tensorflow_device  # noqa: F401 (no GPU for it beside JAX)

    tf.config.list_physical_devices()  # the CUDA line comes with the first look for devices
finally:
    os.dup2(_saved, 2)
    os.close(_saved)
