"""Steps whose loss is not finite: skipped, kept to look at, and gone back from."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from tiny_runs import CONFIG, Killed, Run, batch_of, kill_at, order

from efficientdet.errors import UserError
from efficientdet.training.trainer import BAD_STREAK, MAX_ROLLBACKS


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


def test_after_going_back_each_step_counts_once(tmp_path: Path) -> None:
    run = Run(tmp_path, config=CONSTANT, save_steps=4)
    run.engine.is_finite = lambda step, images, rate: step < 4 or rate < 0.6 * RATE
    run.fit()
    first, ten = run.log.read()
    assert (first["step"], ten["step"]) == (1, 10) and ten["finite"] == 1.0
