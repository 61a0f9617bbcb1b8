"""The training loop with a made-up engine: where it is after whatever came in between.

The engine's one weight depends on every batch, its order, the step and the learning rate, down to
the last bit: a step that is left out, repeated or given another batch shows.
"""

import dataclasses
import functools
import itertools
import math
import os
import resource
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from listening import listening

from efficientdet.checkpoint.bundle import DATA_SUFFIX, read_bundle
from efficientdet.config import Config
from efficientdet.errors import Stopped, UserError
from efficientdet.run.callbacks import Callback, MetricsFile
from efficientdet.run.checkpoints import CheckpointManager
from efficientdet.run.metrics_log import MetricsLog
from efficientdet.training.train_state import EMA
from efficientdet.training.trainer import BAD_STREAK, MAX_ROLLBACKS, Plan, Trainer

NUM_IMAGES = 12
CONFIG = Config(learning_rate=6.4, lr_warmup_init=0.1, lr_warmup_epoch=0.5)


class Killed(BaseException):
    """Stands for kill -9: nothing catches it, nothing is saved."""


class State:
    """One number to train."""

    def __init__(self) -> None:
        self.weight = np.float64(0.1)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"weight": np.array(self.weight)}

    def load(self, arrays: dict[str, np.ndarray]) -> list[str]:
        self.weight = np.float64(arrays["weight"])
        return []

    def evaluation_values(self) -> tuple[list, list]:
        return [self.weight], []


class TrainingEngine:
    """Does what `training.engine.TrainingEngine` does, in microseconds."""

    def __init__(self, config: Config):
        self.config, self.state = config, State()
        self.seen: list[tuple[int, list[int]]] = []  # (step, images)
        self.heads_only: list[bool] = []
        self.before: Callable[[int], None] = lambda step: None
        self.is_finite: Callable[[int, list[int], float], bool] = lambda *args: True
        self.loss_scale, self.compilations = 1.0, 1

    def detector(self) -> SimpleNamespace:
        return SimpleNamespace(values=self.state.evaluation_values())

    def train_heads_only(self, heads_only: bool) -> None:
        self.heads_only.append(heads_only)

    def update(self, batch: dict, *, step: int, learning_rate: float) -> dict[str, float]:
        self.before(step)
        images = [int(name) for name in batch["source_id"]]
        self.seen.append((step, images))
        finite = self.is_finite(step, images, learning_rate)
        if finite:
            places = np.arange(1, len(images) + 1)
            self.state.weight += learning_rate * np.sin(self.state.weight + step + images @ places)
        loss = float(abs(self.state.weight)) if finite else float("nan")
        losses = dict.fromkeys(("cls_loss", "box_loss", "det_loss", "reg_l2_loss", "loss"), loss)
        return losses | {
            "gradient_norm": loss, "num_positives": 3.0, "finite": float(finite),
            "loss_scale": self.loss_scale,
        }  # fmt: skip


class Recorder(Callback):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.epochs, self.steps, self.rates, self.closed = [], [], [], 0

    def on_epoch(self, *args: int) -> None:
        self.epochs.append(args)

    def on_step(self, step: int, epoch: float, logs: dict) -> None:
        self.steps.append((step, epoch))
        self.rates.append(logs["learning_rate"])

    def close(self) -> None:
        self.closed += 1


class Evaluate:
    """Gives AP values of a list, by the epoch's number of calls; else one made from the weight."""

    def __init__(self, *values: float, name: str = "AP"):
        self.values, self.name = list(values), name
        self.weights: list[float] = []
        self.before: Callable[[], None] = lambda: None

    kept, num_images = (), 0

    def written(self, evaluated: SimpleNamespace) -> AbstractContextManager:
        return nullcontext()

    def __call__(self, detector: SimpleNamespace, checkpoint: Path) -> SimpleNamespace:
        ((weight,), _) = detector.values
        assert read_bundle(checkpoint)["weight"] == weight
        self.before()
        self.weights.append(float(weight))
        value = self.values.pop(0) if self.values else float(abs(weight))
        return SimpleNamespace(metrics={self.name: value}, pictures={})


def order(epoch: int) -> np.ndarray:
    return np.random.default_rng(epoch).permutation(NUM_IMAGES)


def batch_of(step: int) -> list[int]:
    """The images of a step, of three images each."""
    return order(step // 4).reshape(-1, 3)[step % 4].tolist()


class Run:
    """One start of the program on `folder`: a trainer with everything new around it."""

    def __init__(
        self,
        folder: Path,
        *,
        config: Config = CONFIG,
        batch_size: int = 3,
        steps_per_epoch: int | None = None,
        num_epochs: int = 3,
        save_steps: int = 1000,
        evaluate: Evaluate | None = None,
        best_metric: str = "AP",
        max_seconds: float = math.inf,
    ):
        self.folder, self.said, self.recorder = folder, [], Recorder()
        self.engine, self._batch_size = TrainingEngine(config), batch_size
        self.log = MetricsLog(folder / "metrics.jsonl")
        self.checkpoints = CheckpointManager(folder)
        plan = Plan(
            batch_size,
            steps_per_epoch or NUM_IMAGES // batch_size,
            num_epochs,
            save_steps=save_steps,
            best_metric=best_metric,
            max_seconds=max_seconds,
        )
        self.trainer = Trainer(
            self.engine, plan, self.checkpoints, batches=self._batches, evaluate=evaluate,
            callbacks=[self.recorder, MetricsFile(self.log)],
        )  # fmt: skip

    def _batches(self, epoch: int, skip: int) -> Iterator[dict[str, np.ndarray]]:
        batches = order(epoch)[: NUM_IMAGES // self._batch_size * self._batch_size]
        for images in batches.reshape(-1, self._batch_size)[skip:]:
            names = np.array([f"{image:06d}".encode() for image in images])
            yield {"images": images.astype(np.float32), "source_id": names}

    def fit(self) -> "Run":
        with listening(self.said):
            self.resumed = self.trainer.resume()
            self.trainer.fit()
        return self

    @property
    def weight(self) -> float:
        return float(self.engine.state.weight)

    @property
    def images(self) -> list[int]:
        return [image for _, images in self.engine.seen for image in images]

    def eval_steps(self) -> list[int]:
        return [record["step"] for record in self.log.read("eval")]


def kill_at(run: Run, step: int) -> None:
    """Ends the process (so to speak) in the middle of a step."""

    def before(present: int) -> None:
        if present == step:
            raise Killed

    run.engine.before = before


def send_at(run: Run, step: int, number: signal.Signals) -> None:
    run.engine.before = lambda now: os.kill(os.getpid(), number) if now == step else None


def stop_after(folder: Path, steps: int, **changes) -> Run:
    """A run that a SIGTERM ended after so many steps."""
    run = Run(folder, **changes)
    send_at(run, steps - 1, signal.SIGTERM)
    with pytest.raises(Stopped):
        run.fit()
    assert run.trainer.progress.step == steps
    return run


# --- without disturbance


def test_a_run_from_beginning_to_end(tmp_path: Path) -> None:
    run = Run(tmp_path).fit()
    assert not run.resumed
    assert run.recorder.epochs == [(0, 0, 4, 3), (1, 0, 4, 3), (2, 0, 4, 3)]
    assert run.recorder.steps == [(step, step / 4) for step in range(1, 13)]
    assert run.recorder.closed == 1
    assert run.images == [*order(0), *order(1), *order(2)]
    assert run.checkpoints.steps() == [4, 8, 12]  # the end of each epoch; step 0 made room
    assert read_bundle(run.checkpoints.prefix(12))["weight"] == run.weight


def test_a_checkpoint_stands_before_the_first_step(tmp_path: Path) -> None:
    run = Run(tmp_path)
    kill_at(run, 0)
    with pytest.raises(Killed):
        run.fit()
    assert run.checkpoints.steps() == [0] and run.recorder.closed == 1


def test_checkpoints_by_steps_and_at_the_end_of_each_epoch(tmp_path: Path) -> None:
    run = Run(tmp_path, save_steps=3, num_epochs=2)
    saved = []
    save = run.checkpoints.save
    run.checkpoints.save = lambda arrays, at: (saved.append(at.step), save(arrays, at))
    run.fit()
    assert saved == [0, 3, 4, 6, 8]


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


def test_the_learning_rate_follows_schedule_and_batch(tmp_path: Path) -> None:
    run = Run(tmp_path, config=dataclasses.replace(CONFIG, lr_decay_method="constant")).fit()
    assert run.recorder.rates[-1] == pytest.approx(6.4 * 3 / 64)
    assert run.recorder.rates[0] == pytest.approx(0.1 * 3 / 64)  # the warm-up's start


def test_heads_first(tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, heads_only_epochs=2)
    assert Run(tmp_path, config=config).fit().engine.heads_only == [True, True, False]
    again = Run(tmp_path, config=config, num_epochs=4).fit()
    assert again.engine.heads_only == [False]


def test_an_epoch_that_is_no_pass_over_the_records(tmp_path: Path) -> None:
    """--num_examples_per_epoch: passes go on across the ends of epochs."""
    run = Run(tmp_path, steps_per_epoch=5, num_epochs=2).fit()
    assert run.images == [*order(0), *order(1), *order(2)[:6]]


def test_fewer_images_than_a_batch(tmp_path: Path) -> None:
    run = Run(tmp_path, batch_size=13, steps_per_epoch=1)
    with pytest.raises(UserError, match="fewer images than one batch of 13; lower --train_batch"):
        run.fit()


# --- resume


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


# --- damage


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


def test_after_going_back_each_step_counts_once(tmp_path: Path) -> None:
    run = Run(tmp_path, config=CONSTANT, save_steps=4)
    run.engine.is_finite = lambda step, images, rate: step < 4 or rate < 0.6 * RATE
    run.fit()
    first, ten = run.log.read()
    assert (first["step"], ten["step"]) == (1, 10) and ten["finite"] == 1.0


def test_metrics_of_a_run_whose_checkpoints_are_gone_are_dropped(tmp_path: Path) -> None:
    """Else the new run would take its own evaluations for done."""
    Run(tmp_path, evaluate=Evaluate(0.9, 0.9, 0.9)).fit()
    for path in tmp_path.glob("model.ckpt-*"):
        path.unlink()
    run = Run(tmp_path, evaluate=Evaluate(0.1, 0.2, 0.3)).fit()
    assert [record["AP"] for record in run.log.read("eval")] == [0.1, 0.2, 0.3]


# --- evaluation


def test_every_epoch_is_evaluated_and_the_best_kept(tmp_path: Path) -> None:
    evaluate = Evaluate(0.2, 0.4, 0.3)
    run = Run(tmp_path, evaluate=evaluate).fit()
    assert run.eval_steps() == [4, 8, 12]
    best = read_bundle(tmp_path / "archive" / "model.ckpt-8")
    assert best["weight"] == evaluate.weights[1]
    assert [line.split(" (")[0] for line in run.said] == [
        "best AP so far: 0.2000",
        "best AP so far: 0.4000",
    ]
    Run(tmp_path, evaluate=Evaluate(0.35, 0.5), num_epochs=5).fit()  # best of all, after a resume
    assert (tmp_path / "archive" / "model.ckpt-20.index").exists()


@pytest.mark.parametrize("place", ["evaluation", "archive", "log"])
def test_killed_between_checkpoint_and_log_it_evaluates_again(tmp_path: Path, place: str) -> None:
    evaluate = Evaluate(0.2, 0.4)
    run = Run(tmp_path, evaluate=evaluate, num_epochs=2)

    def killed(*args: object) -> None:
        if run.trainer.progress.epoch == 2:
            raise Killed

    if place == "evaluation":
        evaluate.before = killed
    else:
        patched = {"archive": run.checkpoints, "log": run.recorder}[place]
        name = {"archive": "archive", "log": "on_evaluation"}[place]
        original = getattr(patched, name)
        setattr(patched, name, lambda *args: (killed(), original(*args)))
    with pytest.raises(Killed):
        run.fit()
    assert run.eval_steps() == [4]
    again = Evaluate(0.4)
    second = Run(tmp_path, evaluate=again, num_epochs=2).fit()
    assert not second.engine.seen and again.weights == [run.weight]
    assert second.eval_steps() == [4, 8]
    assert (tmp_path / "archive" / "model.ckpt-8.index").exists()


def test_a_signal_ends_an_evaluation_at_once(tmp_path: Path) -> None:
    evaluate = Evaluate(0.2)
    evaluate.before = lambda: os.kill(os.getpid(), signal.SIGTERM)
    run = Run(tmp_path, evaluate=evaluate)
    with pytest.raises(Stopped):
        run.fit()
    assert run.trainer.progress.step == 4 and not evaluate.weights
    assert Run(tmp_path, evaluate=Evaluate()).fit().eval_steps() == [4, 8, 12]


def test_an_unknown_best_metric_names_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--best_metric=mAP: no such metric; there are AP"):
        Run(tmp_path, evaluate=Evaluate(0.2), best_metric="mAP").fit()
    run = Run(tmp_path, evaluate=Evaluate(0.2, 0.3, 0.4)).fit()  # nothing is lost
    assert run.eval_steps() == [4, 8, 12] and len(run.engine.seen) == 8


NAN = float("nan")


@pytest.mark.parametrize(
    ("name", "values", "epochs", "best"),
    [
        ("AP", [0.1, 0.3, 0.2, 0.25, 0.9], 4, 2),
        ("AP", [0.1, 0.3, 0.2, 0.31, 0.2, 0.1, 0.9], 6, 4),
        ("AP", [0.3, 0.3, 0.3, 0.9], 3, 1),
        ("AP", [NAN, 0.1, 0.2, NAN, 0.3, 0.1, 0.1], 7, 5),
        ("AP", [NAN, NAN, NAN, 0.9], 3, None),
        ("val_det_loss", [3.0, 2.0, 1.0, 1.5, 1.2], 5, 3),  # less is better
    ],
)
def test_stops_early_after_two_evaluations_without_a_better_one(
    tmp_path: Path, name: str, values: list[float], epochs: int, best: int | None
) -> None:
    config = dataclasses.replace(CONFIG, early_stopping_epochs=2)
    plan = {"config": config, "best_metric": name, "num_epochs": 7}
    run = Run(tmp_path, evaluate=Evaluate(*values, name=name), **plan).fit()
    assert run.eval_steps() == [4 * (epoch + 1) for epoch in range(epochs)]
    assert run.said[-1] == f"no better {name} in 2 evaluations: stopping early"
    kept = [path.name for path in (tmp_path / "archive").glob("*.index")]
    assert kept == ([f"model.ckpt-{4 * best}.index"] if best else [])
    again = Run(tmp_path, evaluate=Evaluate(name=name), **plan).fit()
    assert not again.engine.seen


# --- not finite


def test_a_bad_batch_is_skipped_named_and_kept(tmp_path: Path) -> None:
    run = Run(tmp_path, num_epochs=1)
    run.engine.is_finite = lambda step, images, rate: step != 1
    run.fit()
    assert [step for step, _ in run.recorder.steps] == [1, 2, 3, 4]
    images = [f"{image:06d}" for image in order(0)[3:6]]
    with np.load(tmp_path / "bad_batches" / "step-2.npz") as batch:
        assert [name.decode() for name in batch["source_id"]] == images
        assert batch["images"].tolist() == order(0)[3:6].tolist()
    (line,) = run.said
    assert line.startswith("step 2: loss nan, gradient norm nan: update skipped; images ")
    assert ", ".join(images) in line and str(tmp_path / "bad_batches" / "step-2.npz") in line
    assert run.trainer.progress.bad_streak == run.trainer.progress.rollbacks == 0


def test_overflow_while_the_loss_scale_is_found_is_no_fault(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.engine.loss_scale = 2.0**15
    run.engine.is_finite = lambda step, images, rate: step > 8
    run.fit()
    assert not run.said and not (tmp_path / "bad_batches").exists()


CONSTANT = dataclasses.replace(CONFIG, lr_decay_method="constant", lr_warmup_epoch=0.0)
RATE = CONSTANT.learning_rate * 3 / 64


def test_it_goes_back_at_half_the_learning_rate(tmp_path: Path) -> None:
    run = Run(tmp_path, config=CONSTANT, save_steps=2)
    run.engine.is_finite = lambda step, images, rate: step < 4 or rate < 0.3 * RATE
    run.fit()
    steps = [*range(4), 4, 5, 6, 6, 7, 8, *range(8, 12)]
    assert run.engine.seen == [(step, batch_of(step)) for step in steps]
    progress = run.trainer.progress
    assert (progress.rollbacks, progress.lr_factor, progress.step) == (2, 0.25, 12)
    assert run.recorder.rates[-1] == pytest.approx(RATE / 4)
    back = [line for line in run.said if line.startswith("not finite 3 times in a row: back to ")]
    assert [line.rpartition("learning rate ")[2] for line in back] == [
        "x 0.5 from here on",
        "x 0.25 from here on",
    ]


def test_it_goes_back_over_the_whole_epoch(tmp_path: Path) -> None:
    run = Run(tmp_path, config=CONSTANT, num_epochs=2)
    run.engine.is_finite = lambda step, images, rate: step < 5 or rate < 0.6 * RATE
    run.fit()
    steps = [*range(8), *range(4, 8)]
    assert run.engine.seen == [(step, batch_of(step)) for step in steps]


def test_a_crash_after_going_back_does_not_forget_the_halved_rate(tmp_path: Path) -> None:
    first, second = Run(tmp_path, config=CONSTANT), Run(tmp_path, config=CONSTANT)
    for run in (first, second):
        run.engine.is_finite = lambda step, images, rate: step < 4 or rate < 0.6 * RATE
    first.engine.before = lambda step: kill_at(first, 5) if len(first.engine.seen) == 7 else None
    with pytest.raises(Killed):
        first.fit()
    assert [step for step, _ in first.engine.seen] == [*range(7), 4]
    second.fit()
    assert second.recorder.rates == pytest.approx([RATE / 2] * 8) and not second.said


def test_it_gives_up_with_a_report(tmp_path: Path) -> None:
    run = Run(tmp_path, config=CONSTANT)
    run.engine.is_finite = lambda step, images, rate: step < 5
    with pytest.raises(UserError) as caught:
        run.fit()
    line = str(caught.value)
    assert "\n" not in line and f"{tmp_path}/bad_batches" in line and "learning_rate" in line
    assert f"not finite {BAD_STREAK} times in a row, {MAX_ROLLBACKS + 1} times over" in line
    assert run.recorder.rates[-1] == pytest.approx(RATE / 2**MAX_ROLLBACKS)
    assert run.checkpoints.steps() == [0, 4] and run.recorder.closed == 1


def test_what_the_learner_cannot_do_ends_the_run(tmp_path: Path) -> None:
    run = Run(tmp_path)

    def no_memory(step: int) -> None:
        raise UserError("out of memory, and nothing is left to try")

    run.engine.before = no_memory
    with pytest.raises(UserError, match="nothing is left"):
        run.fit()
    assert run.recorder.closed == 1
