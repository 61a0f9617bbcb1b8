"""What a run has logged, put together: a row an evaluation, for `results.csv` and the curves."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from efficientdet.run.checkpoints import CheckpointManager
from efficientdet.run.metrics_log import MetricsLog
from efficientdet.run.scoreboard import Scoreboard

Line = Mapping[str, Any]

_FIRST = ("epoch", "step", "num_images", "learning_rate")
_LOSSES = ("loss", "det_loss", "cls_loss", "box_loss", "reg_l2_loss")


@dataclass(frozen=True)
class History:
    """Lines of metrics.jsonl, by step.

    Attributes:
        training: means of a few steps each: losses, `learning_rate` and so on.
        evaluations: of training and of `--mode=eval`: metrics, losses as `val_...`, `num_images`.
    """

    training: Sequence[Line] = ()
    evaluations: Sequence[Line] = ()

    @classmethod
    def read(cls, model_dir: Path) -> "History":
        """All that a model_dir has of it; empty where it has nothing."""
        training = MetricsLog(model_dir / "metrics.jsonl").read("train")
        evaluations = Scoreboard(CheckpointManager(model_dir), "").records()
        return cls(sorted(training, key=lambda line: line["step"]), evaluations)

    def until(self, step: int, metrics: Line) -> "History":
        """What was there at `step`, whose evaluation found `metrics`; no other of that step."""
        now = {"step": step, "epoch": None, **metrics}
        epochs = [line["epoch"] for line in self.training if line["step"] == step]
        return replace(
            self,
            training=[line for line in self.training if line["step"] <= step],
            evaluations=[
                *(line for line in self.evaluations if line["step"] < step),
                now | {"epoch": epochs[0] if epochs else None},
            ],
        )

    def rows(self) -> list[dict[str, Any]]:
        """A row an evaluation, all with the same names; None where a value is not known.

        `train/...` is the mean over the steps since the evaluation before, by `metrics.jsonl`.
        """
        rows, before = [], 0
        for line in self.evaluations:
            since = [t for t in self.training if before < t["step"] <= line["step"]]
            metrics = {name: line[name] for name in line if name not in ("kind", *_FIRST)}
            losses = {f"val/{n}": metrics.pop(f"val_{n}") for n in _LOSSES if f"val_{n}" in metrics}
            learnt = {f"train/{name}": _mean(since, name) for name in _LOSSES}
            rate = since[-1].get("learning_rate") if since else None
            first = {name: line.get(name) for name in _FIRST} | {"learning_rate": rate}
            rows.append(first | learnt | losses | metrics)
            before = line["step"] if line["step"] > before else before
        names = dict.fromkeys(name for row in rows for name in row)
        return [{name: row.get(name) for name in names} for row in rows]

    def csv(self) -> str:
        """`rows` as text, six digits a number; empty where a value is not known."""
        text, rows = io.StringIO(), self.rows()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(rows[0] if rows else _FIRST)
        writer.writerows([_text(value) for value in row.values()] for row in rows)
        return text.getvalue()


def _mean(lines: Sequence[Line], name: str) -> float | None:
    values = [line[name] for line in lines if line.get(name) is not None]
    return float(np.mean(values)) if values else None


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
