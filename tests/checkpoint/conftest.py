"""A published checkpoint of COCO's 90 classes, made up."""

import numpy as np
import pytest
from random_networks import config_with

from efficientdet.checkpoint.bundle import write_bundle
from efficientdet.checkpoint.stored import EMA
from efficientdet.model.detector import automl_names, build_detector

_PREDICT = "class_net/class-predict"


@pytest.fixture(scope="session")
def coco_arrays():
    """A random network of COCO's 90 classes, as AutoML stores it: raw values and other EMA ones."""
    random = np.random.default_rng(0)
    variables = automl_names(build_detector(config_with()))
    raw = {n: random.normal(size=v.shape).astype("float32") for n, v in variables.items()}
    averaged = {f"{name}{EMA}": array + 1 for name, array in raw.items()}
    return raw | averaged | {f"{_PREDICT}/bias/Momentum": raw[f"{_PREDICT}/bias"]}


@pytest.fixture(scope="session")
def coco(coco_arrays, tmp_path_factory):
    """Its folder, as published."""
    folder = tmp_path_factory.mktemp("published") / "efficientdet-lite0"
    write_bundle(folder / "model", coco_arrays | {"global_step": np.int64(7)})
    (folder / "checkpoint").write_text('model_checkpoint_path: "/elsewhere/model"\n')
    return folder
