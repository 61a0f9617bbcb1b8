"""The training loop where nothing disturbs it, and where nothing can be done."""

import dataclasses
from pathlib import Path

import pytest
from tiny_runs import CONFIG, Killed, Run, kill_at, order

from efficientdet.checkpoint.bundle import read_bundle
from efficientdet.errors import UserError


def test_a_run_from_beginning_to_end(tmp_path: Path) -> None:
    run = Run(tmp_path).fit()
    assert not run.resumed
    assert run.recorder.epochs == [(0, 0, 4, 3, True), (1, 0, 4, 3, False), (2, 0, 4, 3, False)]
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


def test_what_the_learner_cannot_do_ends_the_run(tmp_path: Path) -> None:
    run = Run(tmp_path)

    def no_memory(step: int) -> None:
        raise UserError("out of memory, and nothing is left to try")

    run.engine.before = no_memory
    with pytest.raises(UserError, match="nothing is left"):
        run.fit()
    assert run.recorder.closed == 1
