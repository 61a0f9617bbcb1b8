"""One update of the real network: micro-batches, non-finite losses, the ladder, freezing."""

import dataclasses
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from efficientdet import cpu_kernels
from efficientdet.checkpoint.bundle import write_bundle
from efficientdet.checkpoint.report import read_restored_names
from efficientdet.checkpoint.restore import restore
from efficientdet.config import Config
from efficientdet.errors import UserError
from efficientdet.model.detector import automl_names, build_detector
from efficientdet.model.roles import IGNORE
from efficientdet.training.engine import StateLost, TrainingEngine
from efficientdet.training.train_state import EMA
from efficientdet.training.train_step import TrainStep

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
        "classes": np.tile(np.int32([1, 2, IGNORE]), (size, 1)),
    }


def _weights(engine: TrainingEngine) -> dict[str, np.ndarray]:
    return {k: v for k, v in engine.state.arrays().items() if not k.startswith("state/")}


def _assert_close(first: dict, second: dict, tolerance: float) -> None:
    assert first.keys() == second.keys()
    for name, array in first.items():
        np.testing.assert_allclose(array, second[name], atol=tolerance, err_msg=name)


@pytest.fixture(scope="module")
def whole() -> TrainingEngine:
    """Two updates of a batch of four at once, BatchNorm frozen."""
    engine = TrainingEngine(_config(is_training_bn=False))
    for step in range(2):
        engine.update(_batch(step), step=step, learning_rate=0.01)
    return engine


@pytest.mark.parametrize("remat", [False, True])
def test_micro_batches_give_the_update_of_the_whole_batch(
    whole: TrainingEngine, remat: bool
) -> None:
    engine = TrainingEngine(
        _config(is_training_bn=False, grad_accum_steps=4, grad_checkpoint=remat)
    )
    for step in range(2):
        engine.update(_batch(step), step=step, learning_rate=0.01)
    _assert_close(_weights(engine), _weights(whole), 2e-5)


def test_loops_of_xla_in_rematerialised_micro_batches_give_the_same_update(
    whole: TrainingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_kernels, "ONE_LOOP_FROM", 4096)
    engine = TrainingEngine(_config(is_training_bn=False, grad_accum_steps=2, grad_checkpoint=True))
    for step in range(2):
        engine.update(_batch(step), step=step, learning_rate=0.01)
    _assert_close(_weights(engine), _weights(whole), 2e-5)


def test_a_step_that_is_not_finite_changes_nothing(whole: TrainingEngine) -> None:
    before = _weights(whole)
    batch = _batch(3)
    batch["images"][1, 5, 5, 0] = np.nan
    logs = whole.update(batch, step=2, learning_rate=0.01)
    assert logs["finite"] == 0.0
    _assert_close(_weights(whole), before, 0.0)
    assert whole.update(_batch(3), step=3, learning_rate=0.01)["finite"] == 1.0


def test_stored_state_loads_exactly() -> None:
    """tests/test_resume.py shows, process by process, that training goes on bit for bit."""
    engine = TrainingEngine(_config(optimizer="adam"))
    engine.update(_batch(0), step=0, learning_rate=0.001)
    stored = engine.state.arrays()
    other = TrainingEngine(dataclasses.replace(engine.config, seed=5))
    assert other.state.load(stored) == []
    for name, array in other.state.arrays().items():
        assert np.array_equal(array, stored[name]), name
    assert other.state.load({}) == sorted(stored)


def test_averages_that_are_not_stored_begin_at_the_weights() -> None:
    """Turned on at a resume; or some of them are there and some are not."""
    stored = TrainingEngine(_config(moving_average_decay=0.0, seed=5)).state.arrays()
    state = TrainingEngine(_config()).state
    absent = state.load(stored)
    arrays = state.arrays()
    averages = [name for name in arrays if name.endswith(EMA)]
    assert absent == sorted(averages) and averages
    for name in averages:
        np.testing.assert_array_equal(arrays[name], stored[name.removesuffix(f"/{EMA}")], name)
    trainables, statistics = state.evaluation_values()
    for value, variable in zip(trainables, state.trainables, strict=True):
        np.testing.assert_array_equal(value, variable.value)
    kept, *others = averages
    assert state.load(stored | {kept: arrays[kept] + 1}) == sorted(others)
    again = state.arrays()
    np.testing.assert_array_equal(again[kept], arrays[kept] + 1)
    np.testing.assert_array_equal(again[others[0]], arrays[others[0]])


def test_out_of_memory_takes_the_ladder_and_does_the_step(
    monkeypatch: pytest.MonkeyPatch, said
) -> None:
    """The first two attempts fail; the step is done in micro-batches, the state kept."""
    configs = []
    engine = TrainingEngine(_config(is_training_bn=False), changed=configs.append)
    before = _weights(engine)
    failures = iter([True, True, False])
    original = TrainingEngine.compile_step

    def failing(self: TrainingEngine) -> None:
        original(self)
        if next(failures):

            def out_of_memory(*args, **kwargs):
                raise MemoryError("injected")

            self.step = out_of_memory

    monkeypatch.setattr(TrainingEngine, "compile_step", failing)
    engine.compile_step()
    logs = engine.update(_batch(0), step=0, learning_rate=0.0)
    assert logs["finite"]
    assert [c.grad_checkpoint for c in configs] == [True, True]
    assert [c.grad_accum_steps for c in configs] == [1, 2]
    assert "grad_checkpoint=True" in said[0]
    assert "still 4 images an update" in said[1]
    _assert_close(
        {k: v for k, v in _weights(engine).items() if "/" in k and "Momentum" not in k},
        {k: v for k, v in before.items() if "/" in k and "Momentum" not in k},
        0.0,
    )


def test_one_of_several_processes_says_what_would_make_room(
    monkeypatch: pytest.MonkeyPatch, whole: TrainingEngine
) -> None:
    """The others are within the step and cannot be called back."""

    def out_of_memory(*args, **kwargs):
        raise MemoryError("injected")

    monkeypatch.setattr("efficientdet.processes.count", lambda: 2)
    monkeypatch.setattr("efficientdet.backend.has_gpu", lambda: False)
    monkeypatch.setattr(whole, "step", out_of_memory)
    with pytest.raises(UserError, match="add --hparams=grad_checkpoint=True to the command of"):
        whole.dispatch(_batch(0), step=0, learning_rate=0.0)


@pytest.mark.parametrize(("loaded", "frozen"), [(True, False), (False, None)])
def test_every_fallback_decides_about_batch_norm_again(
    loaded: bool, frozen: bool | None, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    """Eight images at a time are enough for statistics, four are not."""
    configs = []
    config = _config(grad_checkpoint=True)
    monkeypatch.setattr("efficientdet.backend.has_gpu", lambda: False)
    engine = TrainingEngine(config, changed=configs.append)
    engine.started_from(engine.state.names if loaded else None)
    failures = iter([MemoryError("injected")])

    def step(self: TrainStep, batch: dict, **arguments: float) -> dict:
        for failure in failures:
            raise failure
        return np.zeros(len(self.log_names), np.float32)

    monkeypatch.setattr(TrainStep, "__call__", step)
    engine.update(_batch(0, size=8), step=0, learning_rate=0.0)
    assert configs == [dataclasses.replace(config, grad_accum_steps=2, is_training_bn=frozen)]
    assert ["BatchNorm statistics are frozen: 4 images" in line for line in said] == (
        [False, True] if loaded else [False]
    )


def test_memory_that_ran_out_in_flight_asks_for_a_checkpoint(
    monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    """What came after the step that failed is void; the next one is smaller."""
    engine = TrainingEngine(_config())
    engine.step = lambda batch, **arguments: None

    def out_of_memory(tensors: list) -> None:
        raise MemoryError("injected")

    monkeypatch.setattr("efficientdet.backend.fetch", out_of_memory)
    dispatched = engine.dispatch(_batch(0), step=0, learning_rate=0.0)
    with pytest.raises(StateLost):
        engine.fetch([dispatched])
    assert engine.config.grad_checkpoint and "grad_checkpoint=True" in said[0]
    monkeypatch.setattr("efficientdet.backend.fetch", lambda tensors: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        engine.fetch([])


def test_a_new_level_of_a_network_from_a_checkpoint(tmp_path: Path) -> None:
    """What came from the checkpoint keeps its statistics, the rest gets some; resumed too."""
    random = np.random.default_rng(0)
    arrays = {n: v.numpy() for n, v in automl_names(build_detector(_config())).items()}
    for name in filter(lambda name: "/moving_" in name, arrays):
        arrays[name] += random.uniform(0, 0.5, arrays[name].shape).astype(np.float32)
    write_bundle(tmp_path / "model", arrays)
    config = _config(min_level=2, is_training_bn=False)
    engine = TrainingEngine(config)
    report = restore(engine.model, str(tmp_path / "model"), config, classes="by_id")
    engine.state.reset_shadows()
    engine.started_from(report.restored_names)
    report.write(tmp_path)
    resumed = TrainingEngine(config)
    resumed.started_from(read_restored_names(tmp_path))
    resumed.state.load(engine.state.arrays())
    before = _weights(engine)
    for one in (engine, resumed):
        one.update(_batch(0), step=0, learning_rate=0.0)
    moved = {
        name.rpartition("/")[0]
        for name, value in _weights(engine).items()
        if name.endswith("/moving_mean") and not np.array_equal(value, before[name])
    }
    names = {name.rpartition("/")[0] for name in before if name.endswith("/moving_mean")}
    new = {
        f"fpn_cells/cell_0/fnode{node}" for node in (4, 5)
    }  # P2 on the way down, P3 on the way up
    assert moved == {name for name in names if name.startswith(tuple(f"{node}/" for node in new))}
    assert moved and names > moved
    third = "class_net/class-0-bn-3/moving_variance"
    np.testing.assert_array_equal(before[third.replace("bn-3", "bn-2")], arrays[third].astype("f4"))
    _assert_close(_weights(engine), _weights(resumed), 0.0)


def test_no_fallback_left_is_one_clear_line() -> None:
    engine = TrainingEngine(_config(grad_checkpoint=True))

    def out_of_memory(*args, **kwargs):
        raise MemoryError("injected")

    engine.step = out_of_memory
    with pytest.raises(UserError, match="smaller image_size"):
        engine.update(_batch(0, size=1), step=0, learning_rate=0.0)


def test_the_largest_batch_is_found_with_real_steps_and_changes_nothing() -> None:
    engine = TrainingEngine(_config(optimizer="adam"))
    before, step, sizes = engine.state.arrays(), engine.step, []

    def small_card(batch: dict, **arguments: float) -> dict:
        sizes.append(len(batch["images"]))
        if sizes[-1] > 2:
            raise MemoryError("injected")
        return step(batch, **arguments)

    engine.step = small_card
    assert engine.largest_batch(64, 128, 5) == 2
    assert sizes == [1, 2, 4]
    _assert_close(engine.state.arrays(), before, 0.0)
    engine.step = lambda batch, **arguments: small_card({"images": [0] * 9}, **arguments)
    with pytest.raises(UserError, match="out of memory with one image"):
        engine.largest_batch(64, 128, 5)


def test_the_largest_batch_of_equal_shares(said: list[str]) -> None:
    """No step is tried that cannot be cut into micro-batches, nor one beyond the records."""
    sizes: list[int] = []

    def small_card(batch: dict, **arguments: float) -> np.ndarray:
        sizes.append(len(batch["images"]))
        if sizes[-1] % 8:
            raise ValueError("cannot be cut")
        if sizes[-1] > 16:
            raise MemoryError("injected")
        return np.zeros(1)

    state = SimpleNamespace(arrays=dict, load=lambda arrays: None)
    config = _config(grad_accum_steps=8)
    engine = SimpleNamespace(state=state, config=config, step=small_card)
    largest = partial(TrainingEngine.largest_batch, engine, 64, 128, 5)
    assert largest(multiple_of=8, at_most=500) == 16
    assert largest(multiple_of=8, at_most=15) == 8
    assert sizes == [8, 16, 32, 8]
    assert said == [f"--train_batch_size=auto: {n} images fit" for n in (16, 8)]
    with pytest.raises(UserError, match="out of memory with 24 images in 8 micro-batches"):
        largest(multiple_of=24)


def test_heads_only_leaves_the_rest_alone() -> None:
    engine = TrainingEngine(_config())
    engine.train_heads_only(True)
    before = _weights(engine)
    engine.update(_batch(0), step=0, learning_rate=0.1)
    after = _weights(engine)
    moved = {
        name.split("/")[0]
        for name in before
        if "Momentum" not in name and not np.array_equal(before[name], after[name])
    }
    assert moved == {"class_net", "box_net"}
