"""Time spent in training: what counts, when it is up, and what the learning rate does by then."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_runs import CONFIG, Evaluate, Run, stop_after

from efficientdet.run.checkpoints import CheckpointManager


def test_it_ends_when_its_time_is_up_and_goes_on_when_given_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: float(next(ticks)))  # a step takes two seconds
    monkeypatch.setattr("efficientdet.training.trainer.time", clock)
    constant = dataclasses.replace(CONFIG, lr_decay_method="constant")
    start = functools.partial(Run, tmp_path, config=constant)
    first = start(max_seconds=12.0, evaluate=Evaluate()).fit()
    assert first.trainer.progress.step == 6  # in the middle of the second epoch
    assert first.eval_steps() == [4, 6]
    again = start(max_seconds=12.0, evaluate=Evaluate()).fit()
    assert (again.trainer.progress.step, again.eval_steps()) == (6, [4, 6])
    rest = start(max_seconds=16.0, evaluate=Evaluate()).fit()
    assert rest.eval_steps() == [4, 6, 8]
    longer = start(evaluate=Evaluate()).fit()
    assert longer.eval_steps() == [4, 6, 8, 12]
    assert longer.weight == Run(tmp_path / "in_one_go", config=constant).fit().weight
    assert not any("more time" in line for run in (rest, longer) for line in run.said)


@pytest.fixture
def two_seconds_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: float(next(ticks)))
    monkeypatch.setattr("efficientdet.training.trainer.time", clock)


def test_the_rate_comes_down_by_the_nearer_end(tmp_path: Path, two_seconds_a_step: None) -> None:
    """Twelve steps, two of warm-up; six, two of warm-up, where the time ends after six."""
    whole = Run(tmp_path / "whole").fit().recorder.rates
    half = Run(tmp_path / "half", max_seconds=12.0).fit().recorder.rates
    assert len(half) == 6 and half[:2] == whole[:2]  # the warm-up stays as it is
    falling = 0.5 * (1 + np.cos(np.pi * np.arange(4) / 4))
    assert half[2:] == pytest.approx(6.4 * 3 / 64 * falling)
    assert Run(tmp_path / "ample", max_seconds=1e4).fit().recorder.rates == whole


def test_stopped_and_gone_on_with_it_ends_by_the_time_all_the_same(
    tmp_path: Path, two_seconds_a_step: None
) -> None:
    whole = Run(tmp_path / "whole", max_seconds=12.0).fit()
    stop_after(tmp_path / "run", 4, max_seconds=12.0)
    rest = Run(tmp_path / "run", max_seconds=12.0).fit()
    assert rest.recorder.rates == whole.recorder.rates[4:] and rest.weight == whole.weight
    assert not rest.said


@pytest.mark.parametrize("more", [16.0, math.inf])
def test_more_time_raises_the_rate_and_says_so(
    tmp_path: Path, two_seconds_a_step: None, more: float
) -> None:
    first = Run(tmp_path, max_seconds=12.0).fit()
    second = Run(tmp_path, max_seconds=more).fit()
    assert second.recorder.rates[0] > first.recorder.rates[-1]
    (line,) = second.said
    assert line.startswith("there is more time to train than at the last start: the learning rate")


@pytest.fixture
def slow_to_compile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Run], Run]:
    """A step takes two seconds; the first of a start, and after each compilation, 500 more."""
    now = [0.0]

    def monotonic() -> float:
        now[0] += 1.0
        return now[0]

    monkeypatch.setattr("efficientdet.training.trainer.time", SimpleNamespace(monotonic=monotonic))

    def compiling(run: Run) -> Run:
        seen = []

        def before(step: int) -> None:
            if run.engine.compilations not in seen:
                seen.append(run.engine.compilations)
                now[0] += 500.0

        run.engine.before = before
        return run

    return compiling


def test_compilation_is_no_time_spent_in_training(
    tmp_path: Path, slow_to_compile: Callable[[Run], Run]
) -> None:
    """Eight steps of two seconds, in one go and in three starts."""
    whole = slow_to_compile(Run(tmp_path / "whole", max_seconds=16.0)).fit()
    assert whole.trainer.progress.step == 8 and whole.trainer.progress.seconds == 16.0
    for num_epochs in (1, 2, 3):
        slow_to_compile(Run(tmp_path / "run", num_epochs=num_epochs, max_seconds=16.0)).fit()
    _, progress = CheckpointManager(tmp_path / "run").load_latest()
    assert progress.step == 8 and progress.seconds == 16.0


def test_a_step_that_is_made_anew_on_the_way_compiles(
    tmp_path: Path, slow_to_compile: Callable[[Run], Run]
) -> None:
    run = slow_to_compile(Run(tmp_path))
    run.engine.train_heads_only = lambda heads_only: setattr(
        run.engine, "compilations", 1 + run.trainer.progress.epoch
    )
    run.fit()
    assert run.trainer.progress.seconds == 24.0


def test_before_a_second_step_no_time_is_known(
    tmp_path: Path, slow_to_compile: Callable[[Run], Run]
) -> None:
    """Starts of a single step each: the first that goes on tells what all of them took."""
    for steps in (1, 2, 3):
        run = slow_to_compile(Run(tmp_path, steps_per_epoch=1, num_epochs=steps)).fit()
        assert run.trainer.progress.seconds == 0.0
    run = slow_to_compile(Run(tmp_path, steps_per_epoch=1, num_epochs=5)).fit()
    assert run.trainer.progress.seconds == 10.0
