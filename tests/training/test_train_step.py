"""One update of the real network: micro-batches, non-finite losses, the ladder, freezing."""

import dataclasses
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from efficientdet.config import Config
from efficientdet.errors import UserError
from efficientdet.training.learner import Learner

SMALL = {
    "backbone_name": "efficientnet-tiny",
    "survival_prob": 1.0,
    "fpn_num_filters": 16,
    "image_size": "128x64",
    "num_classes": 2,
    "fpn_cell_repeats": 1,
    "box_class_repeats": 1,
    "learning_rate": 0.08,
}


def _config(**changes) -> Config:
    return Config.for_model("efficientdet-d0").override(SMALL | changes)


def _batch(seed: int, size: int = 4) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "images": rng.normal(size=(size, 64, 128, 3)).astype(np.float32),
        "boxes": np.tile(
            np.float32([[10, 20, 50, 90], [5, 5, 30, 30], [0, 60, 60, 127]]), (size, 1, 1)
        ),
        "classes": np.tile(np.int32([1, 2, -1]), (size, 1)),
    }


def _weights(learner: Learner) -> dict[str, np.ndarray]:
    return {k: v for k, v in learner.state.arrays().items() if not k.startswith("state/")}


def _assert_close(first: dict, second: dict, tolerance: float) -> None:
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_allclose(array, second[name], atol=tolerance, err_msg=name)


@pytest.fixture(scope="module")
def whole() -> Learner:
    """Two updates of a batch of four at once, BatchNorm frozen."""
    learner = Learner(_config(is_training_bn=False))
    for step in range(2):
        learner.update(_batch(step), step=step, learning_rate=0.01)
    return learner


@pytest.mark.parametrize("remat", [False, True])
def test_micro_batches_give_the_update_of_the_whole_batch(whole: Learner, remat: bool) -> None:
    learner = Learner(_config(is_training_bn=False, grad_accum_steps=4, grad_checkpoint=remat))
    for step in range(2):
        learner.update(_batch(step), step=step, learning_rate=0.01)
    _assert_close(_weights(learner), _weights(whole), 2e-5)


def test_micro_batches_with_remat_on_jax(root: Path) -> None:
    """The test above, with the other backend."""
    if keras.backend.backend() == "jax":
        pytest.skip("this is the other backend")
    test = f"{__file__}::test_micro_batches_give_the_update_of_the_whole_batch[True]"
    # Compile fast rather than well.
    flags = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", test],
        cwd=root, env=os.environ | {"KERAS_BACKEND": "jax", "XLA_FLAGS": flags},
        capture_output=True, text=True,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout[-2000:]


def test_a_step_that_is_not_finite_changes_nothing(whole: Learner) -> None:
    before = _weights(whole)
    batch = _batch(3)
    batch["images"][1, 5, 5, 0] = np.nan
    logs = whole.update(batch, step=2, learning_rate=0.01)
    assert logs["finite"] == 0.0
    _assert_close(_weights(whole), before, 0.0)
    assert whole.update(_batch(3), step=3, learning_rate=0.01)["finite"] == 1.0


def test_stored_state_loads_exactly() -> None:
    """tests/test_resume.py shows, process by process, that training goes on bit for bit."""
    learner = Learner(_config(optimizer="adam"))
    learner.update(_batch(0), step=0, learning_rate=0.001)
    stored = learner.state.arrays()
    other = Learner(dataclasses.replace(learner.config, seed=5))
    assert other.state.load(stored) == []
    for name, array in other.state.arrays().items():
        assert np.array_equal(array, stored[name]), name
    assert other.state.load({}) == sorted(stored)


def test_out_of_memory_takes_the_ladder_and_does_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first two attempts fail; the step is done in micro-batches, the state kept."""
    said, configs = [], []
    learner = Learner(_config(is_training_bn=False), say=said.append, changed=configs.append)
    before = _weights(learner)
    failures = iter([True, True, False])
    original = Learner.compile_step

    def failing(self: Learner) -> None:
        original(self)
        if next(failures):

            def out_of_memory(*args, **kwargs):
                raise MemoryError("injected")

            self.step = out_of_memory

    monkeypatch.setattr(Learner, "compile_step", failing)
    learner.compile_step()
    logs = learner.update(_batch(0), step=0, learning_rate=0.0)
    assert logs["finite"]
    assert [c.grad_checkpoint for c in configs] == [True, True]
    assert [c.grad_accum_steps for c in configs] == [1, 2]
    assert "grad_checkpoint=True" in said[0]
    assert "still 4 images an update" in said[1]
    _assert_close(
        {k: v for k, v in _weights(learner).items() if "/" in k and "Momentum" not in k},
        {k: v for k, v in before.items() if "/" in k and "Momentum" not in k},
        0.0,
    )


def test_no_rung_left_is_one_clear_line() -> None:
    learner = Learner(_config(grad_checkpoint=True))

    def out_of_memory(*args, **kwargs):
        raise MemoryError("injected")

    learner.step = out_of_memory
    with pytest.raises(UserError, match="smaller image_size"):
        learner.update(_batch(0, size=1), step=0, learning_rate=0.0)


def test_the_largest_batch_is_found_with_real_steps_and_changes_nothing() -> None:
    learner = Learner(_config(optimizer="adam"))
    before, step, sizes = learner.state.arrays(), learner.step, []

    def small_card(batch: dict, **arguments: float) -> dict:
        sizes.append(len(batch["images"]))
        if sizes[-1] > 2:
            raise MemoryError("injected")
        return step(batch, **arguments)

    learner.step = small_card
    assert learner.largest_batch(64, 128, 5) == 2
    assert sizes == [1, 2, 4]
    _assert_close(learner.state.arrays(), before, 0.0)
    learner.step = lambda batch, **arguments: small_card({"images": [0] * 9}, **arguments)
    with pytest.raises(UserError, match="out of memory with one image"):
        learner.largest_batch(64, 128, 5)


def test_the_largest_batch_of_equal_shares() -> None:
    """No step is tried that cannot be cut into micro-batches, nor one beyond the records."""
    said: list[str] = []
    sizes: list[int] = []

    def small_card(batch: dict, **arguments: float) -> None:
        sizes.append(len(batch["images"]))
        if sizes[-1] % 8:
            raise ValueError("cannot be cut")
        if sizes[-1] > 16:
            raise MemoryError("injected")

    state = SimpleNamespace(arrays=dict, load=lambda arrays: None)
    config = _config(grad_accum_steps=8)
    learner = SimpleNamespace(state=state, config=config, step=small_card, _say=said.append)
    largest = partial(Learner.largest_batch, learner, 64, 128, 5)
    assert largest(multiple_of=8, at_most=500) == 16
    assert largest(multiple_of=8, at_most=15) == 8
    assert sizes == [8, 16, 32, 8]
    assert said == [f"--train_batch_size=auto: {n} images fit" for n in (16, 8)]
    with pytest.raises(UserError, match="out of memory with 24 images in 8 micro-batches"):
        largest(multiple_of=24)


def test_heads_only_leaves_the_rest_alone() -> None:
    learner = Learner(_config())
    learner.train_heads_only(True)
    before = _weights(learner)
    learner.update(_batch(0), step=0, learning_rate=0.1)
    after = _weights(learner)
    moved = {
        name.split("/")[0]
        for name in before
        if "Momentum" not in name and not np.array_equal(before[name], after[name])
    }
    assert moved == {"class_net", "box_net"}
