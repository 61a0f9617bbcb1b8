"""What a start decides before the first step."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from efficientdet.config import Config
from efficientdet.errors import UsageError
from efficientdet.training import start
from efficientdet.training.checkpoints import Checkpoints, Progress

LEARNER = SimpleNamespace(config=Config(image_size="128x64"), largest_batch=lambda *shape: 16)
RECORDS = SimpleNamespace(max_objects=9)


def test_an_automatic_batch_is_found_once_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(tmp_path)
    monkeypatch.setattr("efficientdet.backend.has_gpu", lambda: True)
    assert start._fitting_batch(checkpoints, LEARNER, RECORDS) == 16
    checkpoints.save({}, Progress(step=5, batch_size=12))  # before the ladder changed what fits
    assert start._fitting_batch(checkpoints, LEARNER, RECORDS) == 12


def test_an_unknown_best_metric_is_refused_at_once() -> None:
    start._check_metric("APs", ["AP", "APs"])
    with pytest.raises(UsageError, match="no such metric; did you mean 'AP'"):
        start._check_metric("mAP", ["AP", "APs"])


def test_an_automatic_batch_needs_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is none; say a number"):
        start._fitting_batch(Checkpoints(tmp_path), LEARNER, RECORDS)


@pytest.mark.parametrize(
    ("method", "told"),
    [
        ("cosine", "comes down to 0 by then or by the end of epoch 300, whichever is nearer"),
        ("polynomial", "comes down to 0 by then"),
        ("stepwise", "lr_decay_method=stepwise does not heed it"),
        ("constant", "lr_decay_method=constant does not heed it"),
    ],
)
def test_a_limit_of_time_says_what_the_rate_does(method: str, told: str) -> None:
    line = start._time_and_rate(Config(lr_decay_method=method), 480.0)
    assert line.startswith("--max_train_minutes=480: ") and told in line and "\n" not in line
