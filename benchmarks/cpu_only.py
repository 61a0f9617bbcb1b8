"""Imported before all else: this process leaves the GPU to the trainings that it starts."""

import os

ENVIRONMENT = dict(os.environ)  # theirs
os.environ |= {"CUDA_VISIBLE_DEVICES": "-1", "KERAS_BACKEND": "tensorflow"}
