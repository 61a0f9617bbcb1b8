"""A row an evaluation, out of what a run has logged."""

import csv
import io
from pathlib import Path

import pytest

from efficientdet.run.history import History
from efficientdet.run.metrics_log import MetricsLog


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two epochs of 20 steps; the evaluator has looked at step 30."""
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append("train", 10, 0.5, {"cls_loss": 4.0, "learning_rate": 0.1})
    log.append("train", 20, 1.0, {"cls_loss": 2.0, "learning_rate": 0.2})
    log.append("eval", 20, 1.0, {"AP": 0.25, "val_cls_loss": 3.0, "num_images": 9})
    log.append("train", 30, 1.5, {"cls_loss": float("nan"), "learning_rate": 0.3})
    log.append("train", 40, 2.0, {"cls_loss": 1.0, "learning_rate": 0.4})
    log.append("eval", 40, 2.0, {"AP": 0.123456789, "kitti/Car_easy_R40": 0.5, "num_images": 9})
    (tmp_path / "eval").mkdir()
    MetricsLog(tmp_path / "eval" / "metrics.jsonl").append("eval", 30, 1.5, {"AP": 0.3})
    return tmp_path


def read(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_a_row_has_the_losses_since_the_evaluation_before(folder: Path) -> None:
    rows = read(History.read(folder).csv())
    assert [(row["epoch"], row["step"], row["num_images"]) for row in rows] == [
        ("1", "20", "9"), ("1.5", "30", ""), ("2", "40", "9"),
    ]  # fmt: skip
    assert [row["train/cls_loss"] for row in rows] == ["3", "", "1"]
    assert [row["val/cls_loss"] for row in rows] == ["3", "", ""]
    assert [row["learning_rate"] for row in rows] == ["0.2", "0.3", "0.4"]
    assert [row["AP"] for row in rows] == ["0.25", "0.3", "0.123457"]
    assert [row["kitti/Car_easy_R40"] for row in rows] == ["", "", "0.5"]


def test_after_going_back_nothing_of_the_future_is_left(folder: Path) -> None:
    MetricsLog(folder / "metrics.jsonl").truncate(20)
    MetricsLog(folder / "eval" / "metrics.jsonl").truncate(20)
    assert [row["step"] for row in read(History.read(folder).csv())] == ["20"]


def test_a_run_without_evaluations(tmp_path: Path) -> None:
    assert History.read(tmp_path).csv().startswith("epoch,step,")


def test_what_was_there_at_a_step(folder: Path) -> None:
    then = History.read(folder).until(30, {"AP": 0.9})
    assert [line["step"] for line in then.training] == [10, 20, 30]
    assert [(line["step"], line["AP"]) for line in then.evaluations] == [(20, 0.25), (30, 0.9)]
