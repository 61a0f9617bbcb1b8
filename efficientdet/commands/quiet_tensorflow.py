"""Imports TensorFlow without the lines its C++ side prints at the start; for commands.

They speak of oneDNN, of CPU instructions and, where there is no GPU, of a CUDA error that is none;
no environment variable turns them off. Where an NVIDIA driver is present nothing is hidden: there
they tell why a card is not used. It takes 4 s and more, which a terminal is told.
"""

import os
import shutil

from efficientdet.console import console

_saved = os.dup(2)
if shutil.which("nvidia-smi") is None:
    _null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(_null, 2)
    os.close(_null)
try:
    with console.status("loading TensorFlow"):
        from efficientdet.tensorflow_device import tf

        tf.config.list_physical_devices()  # the CUDA line comes with the first look for devices
finally:
    os.dup2(_saved, 2)
    os.close(_saved)
