"""What the training loop does with its evaluations: log, archive, early end."""

import dataclasses
import os
import signal
from pathlib import Path

import pytest
from tiny_runs import CONFIG, Evaluate, Killed, Run

from efficientdet.checkpoint.bundle import read_bundle
from efficientdet.errors import Stopped, UserError


def test_every_epoch_is_evaluated_and_the_best_kept(tmp_path: Path) -> None:
    evaluate = Evaluate(0.2, 0.4, 0.3)
    run = Run(tmp_path, evaluate=evaluate).fit()
    assert run.eval_steps() == [4, 8, 12]
    best = read_bundle(tmp_path / "archive" / "model.ckpt-8")
    assert best["weight"] == evaluate.weights[1]
    assert run.said == [
        "AP 20.00  best so far",
        "AP 40.00 (+20.00)  best so far",
        "AP 30.00 (-10.00)",
    ]
    assert evaluate.shown == 1  # the tables, at the end
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
