"""What a start decides before the first step."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from efficientdet.checkpoint.report import REPORT_FILE, Outcome, RestoreReport
from efficientdet.config import Config
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.manifest import Manifest, Shard
from efficientdet.errors import UsageError, UserError
from efficientdet.input.record_set import RecordSet
from efficientdet.run import record_prints
from efficientdet.run.checkpoints import CheckpointManager, Progress
from efficientdet.run.directory import RunDirectory
from efficientdet.run.lock import training_alone
from efficientdet.training import train
from efficientdet.training.options import TrainOptions

HPARAMS = {"image_size": "128x64", "grad_accum_steps": 8}


class Built(Exception):
    """The engine was reached."""


def _train(folder: Path, num_examples: int, batch_size: int | str | None, **other: object) -> None:
    """Starts on records of which there is only a manifest; ends where the engine is built."""
    record = folder / "train.record"
    record.write_bytes(b"0")
    label_map = LabelMap((("Car",),))
    shards = [Shard(record.name, num_examples, 1, "")]
    Manifest(num_examples, label_map, 9, {}, shards=shards).write(record)
    train.train(
        TrainOptions(
            str(folder / "run"),
            str(record),
            model_name="efficientdet-d0",
            hparams=HPARAMS | other,
            train_batch_size=batch_size,
            skip_preflight=True,
        )
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict]:
    """How the largest batch was asked for, by an engine that builds no model; there is a GPU."""
    calls: list[dict] = []

    class TrainingEngine:
        def __init__(self, config: Config, **other: object):
            self.config = config

        def largest_batch(self, *shape: int, **limits: int) -> None:
            calls.append(limits)
            raise Built

    monkeypatch.setattr(train, "TrainingEngine", TrainingEngine)
    monkeypatch.setattr("efficientdet.backend.has_gpu", lambda: True)
    return calls


@pytest.mark.parametrize(("devices", "multiple"), [(1, 8), (2, 16), (3, 24)])
def test_an_automatic_batch_has_equal_shares(
    tmp_path: Path, asked: list[dict], monkeypatch: pytest.MonkeyPatch, devices: int, multiple: int
) -> None:
    """For micro-batches and for devices."""
    monkeypatch.setattr("efficientdet.backend.num_devices", lambda: devices)
    with pytest.raises(Built):
        _train(tmp_path, 100, "auto")
    assert asked == [{"multiple_of": multiple, "at_most": 100}]


def test_too_many_objects_are_noticed_before_the_model_is_built(
    tmp_path: Path, asked: list[dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = SimpleNamespace(
        objects=lambda: [SimpleNamespace(classes=np.ones(9), source_id="7")],
        where=lambda number: f"train.record record {number}",
    )
    monkeypatch.setattr("efficientdet.input.record_set.RecordIndex", lambda files: index)
    with pytest.raises(UserError, match="7. has 9 objects, more than max_instances_per_image=5"):
        _train(tmp_path, 100, 8, max_instances_per_image=5)
    assert asked == []


def test_a_batch_that_cannot_be_is_noticed_before_the_model_is_built(
    tmp_path: Path, asked: list[dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    for batch_size in (64, None):
        with pytest.raises(UsageError, match="a batch of 64 images, .* records hold 63: lower"):
            _train(tmp_path, 63, batch_size)
    with pytest.raises(UsageError, match="a batch of 8 images, .* records hold 7: lower"):
        _train(tmp_path, 7, "auto")
    with pytest.raises(Built):  # frames are repeated: a pass is longer
        _train(tmp_path, 7, "auto", repeat_threshold=0.5)
    monkeypatch.setattr("efficientdet.backend.num_devices", lambda: 3)
    with pytest.raises(UsageError, match="=8 is no multiple of 3 GPUs x 8 micro-batches"):
        _train(tmp_path, 100, 8)
    with pytest.raises(UsageError, match="=8 is no multiple of 3 GPUs$"):
        _train(tmp_path, 100, 8, grad_accum_steps=1)


def test_a_second_training_on_the_folder_is_refused_before_anything_is_read(
    tmp_path: Path, asked: list[dict]
) -> None:
    with training_alone(tmp_path / "run"):
        with pytest.raises(UserError, match=r"run: process \d+ on .* is training here; let it end"):
            train.train(TrainOptions(str(tmp_path / "run"), "no/such.record"))
        (tmp_path / "run" / ".config.yaml.999999999.tmp").touch()
    with pytest.raises(Built):
        _train(tmp_path, 100, "auto")
    assert not list((tmp_path / "run").iterdir())  # what a dead process left is gone, too


def test_a_folder_that_cannot_be_is_told_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(UserError, match="run: cannot write there: a file, not a folder"):
        train.train(TrainOptions(str(tmp_path / "run"), "no/such.record", skip_preflight=True))


def test_a_resume_on_other_records_says_so(
    tmp_path: Path, asked: list[dict], said: list[str]
) -> None:
    CheckpointManager(tmp_path / "run").save({}, Progress(step=5, batch_size=8))
    old = RecordSet([], LabelMap((("Car",),)), 0, 1, None)
    record_prints.write(tmp_path / "run", {"train": old})
    with pytest.raises(UserError, match="convert again"):
        _train(tmp_path, 100, None)
    assert any("the train records changed since the run's last start" in line for line in said)


@pytest.mark.parametrize(
    ("asked", "stored", "batch", "line"),
    [
        (8, 12, 8, None),
        (None, 12, 12, "going on with the run's batch of 12 images"),
        ("auto", 12, 12, "going on with the run's batch of 12 images"),
        (None, None, 64, None),
        (None, 0, 64, "the run's checkpoint does not tell its batch: going on with 64"),
        ("auto", None, None, None),
        ("auto", 0, None, None),
    ],
)
def test_a_run_goes_on_with_its_own_batch(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: int | str | None,
    stored: int | None,
    batch: int | None,
    line: str | None,
    said,
) -> None:
    """`stored` None: no checkpoint; 0: one of before the batch was stored."""
    monkeypatch.setattr("efficientdet.backend.has_gpu", lambda: True)
    checkpoints = CheckpointManager(tmp_path)
    if stored is not None:
        checkpoints.save({}, Progress(step=5, batch_size=stored))
    assert train._known_batch(asked, checkpoints) == batch
    assert len(said) == bool(line) and all(text.startswith(line) for text in said)


def test_an_unknown_best_metric_is_refused_at_once() -> None:
    train.check_metric("APs", ["AP", "APs"])
    with pytest.raises(UsageError, match="no such metric; did you mean 'AP'"):
        train.check_metric("mAP", ["AP", "APs"])
    with pytest.raises(UsageError, match="no Car, Pedestrian or Cyclist .* say --best_metric=AP"):
        train.check_metric("kitti/moderate_R40", ["AP", "APs"])


def test_an_automatic_batch_needs_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is none; say a number"):
        train._known_batch("auto", CheckpointManager(tmp_path))


@pytest.mark.parametrize("resumes", [True, False])
def test_a_resumed_run_knows_whether_it_started_from_weights(tmp_path: Path, resumes: bool) -> None:
    """The report beside its config says so; that of a run that is gone says nothing."""
    report = RestoreReport("x", [Outcome("a/kernel", 1, "restored", complete=True)], [], 0)
    report.write(tmp_path)
    trainer = SimpleNamespace(engine=None, resume=lambda: resumes, progress=Progress(step=5))
    run = SimpleNamespace(directory=RunDirectory(tmp_path), label_map=LabelMap.kitti())
    names = train._resume_or_load(trainer, TrainOptions(str(tmp_path), "a.record"), run)
    assert names == (["a/kernel"] if resumes else None)
    assert (tmp_path / REPORT_FILE).exists() == resumes


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
    line = train._time_and_rate(Config(lr_decay_method=method), 480.0)
    assert line.startswith("--max_train_minutes=480: ") and told in line and "\n" not in line
