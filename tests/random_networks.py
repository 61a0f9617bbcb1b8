"""Small networks with random weights, and checkpoints of them."""

import numpy as np

from efficientdet.checkpoint.bundle import write_bundle
from efficientdet.config import Config
from efficientdet.model.detector import automl_names, build_detector

SMALL = {"image_size": 64, "fpn_cell_repeats": 1, "box_class_repeats": 1}
TINY = {"backbone_name": "efficientnet-tiny", "fpn_num_filters": 16, "num_classes": 2}


def config_with(name="efficientdet-lite0", **changes):
    return Config.for_model(name).override(SMALL | changes)


def values(model):
    return {name: variable.numpy() for name, variable in automl_names(model).items()}


def tiny(name="efficientdet-d0", **changes):
    return config_with(name, **TINY, **changes)


def store_random(folder, config, **other):
    """A checkpoint of random weights, with moving statistics that are not at 0 and 1."""
    random = np.random.default_rng(1)
    variables = automl_names(build_detector(config))
    arrays = {n: random.normal(size=v.shape).astype("float32") for n, v in variables.items()}
    write_bundle(folder / "model", arrays | other)
    return arrays
