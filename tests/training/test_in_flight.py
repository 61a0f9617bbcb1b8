"""Steps under way while the next are dispatched: nothing but the time they take may change."""

import dataclasses
import signal
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_runs import CONFIG, Evaluate, Killed, Run, batch_of, kill_at, send_at

from efficientdet.errors import Stopped
from efficientdet.training.engine import StateLost

TIMES = ("images_per_second", "data_wait", "rss_mb")
CONSTANT = dataclasses.replace(CONFIG, lr_decay_method="constant", lr_warmup_epoch=0.0)
RATE = CONSTANT.learning_rate * 3 / 64


def run_ahead(folder: Path, steps: int, **plan) -> Run:
    run = Run(folder, **plan)
    run.engine.steps_in_flight = steps
    return run


def told(run: Run) -> tuple:
    """All that a user can see of a run, but for times and folder."""
    lines = [{k: v for k, v in line.items() if k not in TIMES} for line in run.log.read()]
    said = [line.replace(str(run.folder), "") for line in run.said]
    bad = sorted(path.name for path in run.folder.glob("bad_batches/*"))
    steps = run.recorder.steps, run.recorder.rates
    return run.weight, run.trainer.progress, steps, lines, said, bad


@pytest.mark.parametrize("ahead", [1, 2, 5, 100])
def test_a_run_is_the_same_however_many_steps_are_under_way(tmp_path: Path, ahead: int) -> None:
    plan = {"save_steps": 7, "steps_per_epoch": 13, "evaluate": Evaluate()}
    runs = [
        run_ahead(tmp_path / f"{steps}", steps, **plan | {"evaluate": Evaluate()}).fit()
        for steps in (0, ahead)
    ]
    assert told(runs[0]) == told(runs[1])
    assert runs[0].engine.seen == runs[1].engine.seen and runs[0].engine.fetches == 39


@pytest.mark.parametrize(("ahead", "fetches"), [(0, 24), (1, 24), (4, 7)])
def test_the_host_looks_once_every_so_many_steps(tmp_path: Path, ahead: int, fetches: int) -> None:
    """With 4: the first step, which compiles, then at 6, 10, 14, 18, 22 and the end of the run."""
    run = run_ahead(tmp_path, ahead, steps_per_epoch=24, num_epochs=1).fit()
    assert run.engine.fetches == fetches


@pytest.mark.parametrize("ahead", [1, 3])
def test_logs_are_fetched_after_the_next_step_is_dispatched(tmp_path: Path, ahead: int) -> None:
    events, run = [], run_ahead(tmp_path, ahead, steps_per_epoch=12, num_epochs=1)
    run.engine.before = events.append
    fetch = run.engine.fetch
    run.engine.fetch = lambda steps: (events.append(f"fetch {len(steps)}"), fetch(steps))[1]
    run.fit()
    if ahead == 1:
        assert events[:7] == [0, "fetch 1", 1, 2, "fetch 1", 3, "fetch 1"]
    else:
        assert events[:11] == [0, "fetch 1", 1, 2, 3, 4, "fetch 3", 5, 6, 7, "fetch 3"]


@pytest.mark.parametrize("ahead", [1, 3, 8])
def test_going_back_undoes_what_was_dispatched_meanwhile(tmp_path: Path, ahead: int) -> None:
    runs = []
    for steps in (0, ahead):
        plan = {"save_steps": 6, "steps_per_epoch": 12, "num_epochs": 1}
        run = run_ahead(tmp_path / f"{steps}", steps, config=CONSTANT, **plan)
        run.engine.is_finite = lambda step, images, rate: step not in (5, 6, 7) or rate < 0.6 * RATE
        runs.append(run.fit())
    assert told(runs[0]) == told(runs[1])
    assert runs[1].trainer.progress.rollbacks == 1 and runs[1].recorder.rates[-1] < RATE
    assert runs[1].engine.seen[-6:] == [(step, batch_of(step)) for step in range(6, 12)]


@settings(max_examples=15, deadline=None)
@given(
    ahead=st.sampled_from([1, 2, 4]),
    bad=st.sets(st.integers(0, 25), max_size=9),
    ends=st.lists(st.tuples(st.integers(0, 25), st.sampled_from(["kill", "stop"])), max_size=3),
    save_steps=st.sampled_from([1, 4, 1000]),
)
def test_bad_steps_kills_and_signals_together(
    ahead: int, bad: set[int], ends: list[tuple[int, str]], save_steps: int
) -> None:
    """However it is ended, the rest goes on as the run that is looked at step by step."""
    with tempfile.TemporaryDirectory() as name:
        found = []
        for steps in (0, ahead):
            folder = Path(name) / f"{steps}"
            for step, how in [*ends, (-1, "kill")]:
                run = run_ahead(
                    folder, steps, config=CONSTANT, steps_per_epoch=13, num_epochs=2,
                    save_steps=save_steps,
                )  # fmt: skip
                (kill_at if how == "kill" else send_at)(
                    run, step, *([] if how == "kill" else [signal.SIGTERM])
                )
                run.engine.is_finite = lambda step, images, rate: (
                    step not in bad or rate < 0.6 * RATE
                )
                with suppress(Killed, Stopped):
                    run.fit()
            found.append(told(run)[:2])
        assert found[0] == found[1]


@pytest.mark.parametrize("ahead", [0, 1, 3])
@pytest.mark.parametrize("where", ["dispatch", "fetch"])
def test_a_state_that_is_lost_comes_from_the_checkpoint(
    tmp_path: Path, ahead: int, where: str
) -> None:
    whole = Run(tmp_path / "whole", save_steps=2).fit()
    run = run_ahead(tmp_path / "run", ahead, save_steps=2)
    method, calls = getattr(run.engine, where), []

    def failing(*args, **arguments):
        calls.append(args)
        if len(calls) in (1, 4):
            run.engine.state.weight = float("nan")
            raise StateLost
        return method(*args, **arguments)

    setattr(run.engine, where, failing)
    run.fit()
    assert told(run)[0] == told(whole)[0] and told(run)[1] == told(whole)[1]
    assert told(run)[3] == told(whole)[3]
    lines = [line for line in run.said if line.startswith("the weights went with the memory")]
    assert len(lines) == 2 and lines[0].endswith("back to step 0")
