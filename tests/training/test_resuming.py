"""Where the training loop is after whatever came in between."""

import resource
import signal
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from listening import listening
from tiny_runs import NUM_IMAGES, Evaluate, Killed, Run, kill_at, order, send_at, stop_after

from efficientdet.checkpoint.bundle import DATA_SUFFIX
from efficientdet.errors import Stopped, UserError
from efficientdet.training.train_state import EMA


@pytest.mark.parametrize("steps_per_epoch", [4, 5])
@pytest.mark.parametrize("save_steps", [1, 3, 1000])
def test_killed_at_any_step_it_ends_in_the_same_bits(
    tmp_path: Path, save_steps: int, steps_per_epoch: int
) -> None:
    plan = {"save_steps": save_steps, "steps_per_epoch": steps_per_epoch, "num_epochs": 2}
    whole = Run(tmp_path / "whole", **plan).fit()
    for step in range(2 * steps_per_epoch):
        first = Run(tmp_path / str(step), **plan)
        kill_at(first, step)
        with pytest.raises(Killed):
            first.fit()
        last = first.checkpoints.steps()[-1]
        assert step - last < min(save_steps, steps_per_epoch)
        second = Run(tmp_path / str(step), **plan).fit()
        assert second.resumed and second.engine.seen == whole.engine.seen[last:]
        assert second.weight == whole.weight
        assert second.trainer.progress == whole.trainer.progress


def test_killed_again_and_again(tmp_path: Path) -> None:
    whole = Run(tmp_path / "whole", save_steps=1).fit()
    for step in range(12):
        run = Run(tmp_path / "run", save_steps=1)
        kill_at(run, step)
        with pytest.raises(Killed):
            run.fit()
    assert Run(tmp_path / "run", save_steps=1).fit().weight == whole.weight


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_stops(tmp_path: Path, number: signal.Signals) -> None:
    whole = Run(tmp_path / "whole").fit()
    for step in range(11):
        folder = tmp_path / f"{number.name}-{step}"
        run = Run(folder)
        send_at(run, step, number)
        with pytest.raises(Stopped, match=f"stopped by {number.name}, everything is sav") as caught:
            run.fit()
        assert caught.value.exit_code == 128 + number
        assert run.checkpoints.steps()[-1] == step + 1  # the step that was under way is done
        assert run.recorder.closed == 1
        assert Run(folder).fit().weight == whole.weight


def test_a_finished_run_has_nothing_to_do(tmp_path: Path) -> None:
    first = Run(tmp_path, evaluate=Evaluate()).fit()
    again = Run(tmp_path, evaluate=Evaluate()).fit()
    assert again.weight == first.weight and not again.engine.seen
    assert again.eval_steps() == [4, 8, 12]


@pytest.mark.parametrize(("num_epochs", "more"), [(5, 8), (3, 0), (1, 0)])
def test_another_number_of_epochs(tmp_path: Path, num_epochs: int, more: int) -> None:
    Run(tmp_path).fit()
    run = Run(tmp_path, num_epochs=num_epochs).fit()
    assert [step for step, _ in run.engine.seen] == list(range(12, 12 + more))


@pytest.mark.parametrize(("before", "after"), [(3, 2), (2, 3), (3, 6), (6, 2), (3, 4), (4, 3)])
def test_another_batch_size_sees_no_image_of_the_pass_twice(
    tmp_path: Path, before: int, after: int
) -> None:
    steps = NUM_IMAGES // before + 1  # one step into the second epoch
    first = stop_after(tmp_path, steps, batch_size=before)
    second = Run(tmp_path, batch_size=after, num_epochs=2).fit()
    begin = -(-before // after) * after  # the position may lie within a batch
    rest = [*order(1)[begin : NUM_IMAGES // after * after]]
    assert second.images[: len(rest)] == rest
    assert not {*first.images[NUM_IMAGES:]} & {*rest}
    assert second.trainer.progress.epoch == 2
    (line,) = second.said
    assert line.startswith(f"an epoch has {12 // after} steps now, it had {12 // before}")


def test_another_batch_size_twice(tmp_path: Path) -> None:
    """The data position stays right although it once lay within a batch."""
    stop_after(tmp_path, 1, batch_size=3)
    second = stop_after(tmp_path, 2, batch_size=2)
    third = Run(tmp_path, batch_size=2, num_epochs=1).fit()
    assert second.images == [*order(0)[4:6]]
    assert third.images[:6] == [*order(0)[6:]]


@pytest.mark.parametrize(("before", "after"), [(2, 6), (6, 2)])
def test_the_schedule_goes_on_at_the_same_place(tmp_path: Path, before: int, after: int) -> None:
    """In mid-epoch 2, the rate per image is what it would have been all along."""
    stop_after(tmp_path / "changed", 9 if before == 2 else 3, batch_size=before)
    changed = Run(tmp_path / "changed", batch_size=after).fit()
    always = Run(tmp_path / "always", batch_size=after).fit()
    rates = changed.recorder.rates
    assert rates == always.recorder.rates[-len(rates) :]


def test_a_checkpoint_that_lacks_variables_is_told(tmp_path: Path) -> None:
    stop_after(tmp_path, 2)
    run = Run(tmp_path)
    run.engine.state.load = lambda arrays: ["new/kernel", "new/bias"]
    with listening(run.said):
        assert run.trainer.resume()
    assert run.said == ["warning: the checkpoint lacks 2 variables, first new/kernel"]


def test_averages_that_begin_at_a_resume_are_no_warning(tmp_path: Path) -> None:
    stop_after(tmp_path, 2)
    run = Run(tmp_path)
    run.engine.state.load = lambda arrays: [f"{name}/{EMA}" for name in ("a/bias", "a/kernel")]
    with listening(run.said):
        assert run.trainer.resume()
    assert run.said == [
        "the checkpoint has no moving average of 2 variables: it begins at their present values"
    ]


def test_a_damaged_newest_checkpoint_costs_its_steps_only(tmp_path: Path) -> None:
    whole = Run(tmp_path / "whole", save_steps=2).fit()
    stop_after(tmp_path / "run", 7, save_steps=2)
    Path(tmp_path / "run" / f"model.ckpt-7{DATA_SUFFIX}").write_bytes(b"")
    run = Run(tmp_path / "run", save_steps=2).fit()
    assert "model.ckpt-7: not a readable checkpoint" in run.said[0]
    assert run.engine.seen == whole.engine.seen[6:] and run.weight == whole.weight


def test_a_full_disk_is_one_line_and_costs_its_steps_only(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    whole = Run(tmp_path / "whole", save_steps=2).fit()
    run = Run(tmp_path / "run", save_steps=2)

    def fill_up(step: int) -> None:
        if step == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))

    run.engine.before = fill_up
    try:
        with pytest.raises(UserError, match="model.ckpt-4: cannot write the checkpoint") as caught:
            run.fit()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert run.checkpoints.steps() == [0, 2]
    assert Run(tmp_path / "run", save_steps=2).fit().weight == whole.weight


def test_metrics_of_lost_steps_are_dropped(tmp_path: Path) -> None:
    run = Run(tmp_path, evaluate=Evaluate(), steps_per_epoch=12, save_steps=8)
    kill_at(run, 11)
    with pytest.raises(Killed):
        run.fit()
    assert [r["step"] for r in run.log.read()] == [1, 10]
    with run.log.path.open("a") as file:
        file.write('{"kind": "train", "st')
    run = Run(tmp_path, evaluate=Evaluate(), steps_per_epoch=12, save_steps=8, num_epochs=1)
    assert run.trainer.resume()
    assert [r["step"] for r in run.log.read()] == [1]
    run.trainer.fit()
    assert [r["step"] for r in run.log.read()] == [1, 10, 12]


TIMES = ("images_per_second", "data_wait", "rss_mb")


def lines(run: Run) -> list[dict]:
    """What stands in metrics.jsonl, but for what no two runs have the same of."""
    return [{k: v for k, v in r.items() if k not in TIMES} for r in run.log.read()]


@settings(max_examples=12, deadline=None)
@given(
    ends=st.lists(st.tuples(st.integers(0, 25), st.sampled_from(["kill", "stop"])), max_size=5),
    save_steps=st.sampled_from([1, 4, 7, 1000]),
    steps_per_epoch=st.sampled_from([6, 13]),
)
def test_a_run_in_many_starts_writes_the_lines_of_one_in_one_go(
    ends: list[tuple[int, str]], save_steps: int, steps_per_epoch: int
) -> None:
    plan = {"save_steps": save_steps, "steps_per_epoch": steps_per_epoch}
    plan["num_epochs"] = 26 // steps_per_epoch
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = Run(folder / "whole", evaluate=Evaluate(), **plan).fit()
        for step, how in ends:
            run = Run(folder / "run", evaluate=Evaluate(), **plan)
            if how == "kill":
                kill_at(run, step)
            else:
                send_at(run, step, signal.SIGTERM)
            with suppress(Killed, Stopped):
                run.fit()
        last = Run(folder / "run", evaluate=Evaluate(), **plan).fit()
        assert lines(last) == lines(whole) and last.weight == whole.weight


def test_metrics_of_a_run_whose_checkpoints_are_gone_are_dropped(tmp_path: Path) -> None:
    """Else the new run would take its own evaluations for done."""
    Run(tmp_path, evaluate=Evaluate(0.9, 0.9, 0.9)).fit()
    for path in tmp_path.glob("model.ckpt-*"):
        path.unlink()
    run = Run(tmp_path, evaluate=Evaluate(0.1, 0.2, 0.3)).fit()
    assert [record["AP"] for record in run.log.read("eval")] == [0.1, 0.2, 0.3]
