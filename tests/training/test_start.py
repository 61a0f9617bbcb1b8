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
    start.check_metric("APs", ["AP", "APs"])
    with pytest.raises(UsageError, match="no such metric; did you mean 'AP'"):
        start.check_metric("mAP", ["AP", "APs"])
    with pytest.raises(UsageError, match="no Car, Pedestrian or Cyclist .* say --best_metric=AP"):
        start.check_metric("kitti/moderate_R40", ["AP", "APs"])


def test_an_automatic_batch_needs_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is none; say a number"):
        start._fitting_batch(Checkpoints(tmp_path), LEARNER, RECORDS)
