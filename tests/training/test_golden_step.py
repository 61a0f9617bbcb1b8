"""Three training steps from AutoML's D0 checkpoint: every weight, statistic, average and slot."""

import json

import keras
import numpy as np
import pytest

from efficientdet.checkpoint.bundle import read_bundle
from efficientdet.config import Config
from efficientdet.training.engine import TrainingEngine
from efficientdet.training.schedules import learning_rate

SCALARS = ("cls_loss", "box_loss", "det_loss", "reg_l2_loss", "loss")


@pytest.fixture(scope="module")
def folder(shared):
    return shared / "golden/automl"


@pytest.fixture(scope="module")
def table(folder):
    return json.loads((folder / "train_step.json").read_text())


@pytest.fixture(scope="module")
def batch(folder) -> dict[str, np.ndarray]:
    """Two images, with 3 and 1 objects, as the input pipeline would give them."""
    golden = np.load(folder / "train_step.npz")
    boxes, classes = np.zeros((2, 4, 4), np.float32), np.zeros((2, 4), np.int32)
    for i in range(2):
        rows = golden[f"gt{i}"]
        boxes[i, : len(rows)], classes[i, : len(rows)] = rows, golden[f"gt{i}_labels"]
    images = np.load(folder / "d0_small_outputs.npz")["input_128x128"]
    return {"images": images, "boxes": boxes, "classes": classes}


@pytest.fixture(scope="module", params=["sgd_default", "adam", "freeze_backbone_fpn"])
def trained(request, folder, table, batch):
    """(run, logs of steps 5, 6 and 7, state after the first of them)."""
    overrides = {"image_size": 128, "num_epochs": 10, "is_training_bn": True}
    overrides |= table[request.param]["overrides"]
    config = Config.for_model("efficientdet-d0").override(overrides)
    if keras.backend.backend() == "tensorflow":  # compiling would take most of the time
        import tensorflow as tf

        tf.config.run_functions_eagerly(request.param != "sgd_default")
        request.addfinalizer(lambda: tf.config.run_functions_eagerly(False))
    engine = TrainingEngine(config)
    engine.state.load(read_bundle(folder / "efficientdet-d0/model"))
    logs, after = [], None
    for step in (5, 6, 7):
        rate = float(learning_rate(step, config=config, batch_size=2, steps_per_epoch=16 / 2))
        logs.append(engine.update(batch, step=step, learning_rate=rate) | {"rate": rate})
        after = after or engine.state.arrays()
    return request.param, logs, after


def test_scalars(trained, table):
    run, logs, _ = trained
    # Rounding noise of the first step is amplified by the next ones.
    tolerances = (1e-5, 1e-3, 5e-3)
    golden_logs = table[run]["scalars_before_each_step"]
    for ours, golden, rel in zip(logs, golden_logs, tolerances, strict=True):
        assert ours["rate"] == pytest.approx(golden["lrn_rate"], rel=1e-6)
        for name in SCALARS:
            assert ours[name] == pytest.approx(golden[f"trainloss/{name}"], rel=rel), name
        assert ours["num_positives"] == sum(table["common"]["num_positives_each"])


def test_values_after_one_step(trained, folder):
    run, logs, after = trained
    golden = np.load(folder / "train_step.npz")
    names = [name for name in golden if name.startswith(f"{run}/after1/")]
    assert len(names) > 20
    # Adam's first step is the sign of a gradient, whatever its size: where a gradient is rounding
    # noise, it may go the other way.
    tolerance, flipped = (2e-5, 1e-3) if run == "adam" else (1e-4, 0)
    for name in names:
        difference = np.abs(after[name.removeprefix(f"{run}/after1/")] - golden[name])
        assert np.mean(difference > tolerance) <= flipped, name
        assert difference.max() <= max(tolerance, 2.01 * logs[0]["rate"]), name


def test_norm_and_sum_of_every_variable_after_one_step(trained, table):
    run, logs, after = trained
    golden = table[f"{run}_norms_after_1_step"]
    assert golden.keys() - after.keys() <= {"global_step", "beta1_power", "beta2_power"}
    names = golden.keys() & after.keys()
    assert len(names) >= 709
    for name in names:
        norm, total = golden[name]
        ours = after[name].astype(np.float64)
        noise = 2 * logs[0]["rate"] if run == "adam" else 1e-4
        assert np.linalg.norm(ours) == pytest.approx(norm, rel=5e-4, abs=noise), name
        assert ours.sum() == pytest.approx(total, rel=1e-3, abs=noise * ours.size**0.5), name
