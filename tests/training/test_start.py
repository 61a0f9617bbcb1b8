"""What a start decides before the first step."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from efficientdet.checkpoint.report import REPORT_FILE, Outcome, RestoreReport
from efficientdet.config import Config
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UsageError
from efficientdet.run_directory import RunDirectory
from efficientdet.training import start
from efficientdet.training.checkpoints import Checkpoints, Progress
from efficientdet.training.start import Start

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


@pytest.mark.parametrize("resumes", [True, False])
def test_a_resumed_run_knows_whether_it_started_from_weights(tmp_path: Path, resumes: bool) -> None:
    """The report beside its config says so; that of a run that is gone says nothing."""
    report = RestoreReport("x", [Outcome("a/kernel", 1, "restored", complete=True)], [], 0)
    report.write(tmp_path)
    said = []
    trainer = SimpleNamespace(
        learner=SimpleNamespace(started_from=said.append),
        resume=lambda: resumes,
        progress=Progress(step=5),
    )
    start._resume_or_load(trainer, Start(), RunDirectory(tmp_path), LabelMap.kitti(), Console())
    assert said == ([{"a/kernel"}] if resumes else [])
    assert (tmp_path / REPORT_FILE).exists() == resumes
