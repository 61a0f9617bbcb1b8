"""What the evaluations of a run have scored, and which of its checkpoints is the best."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from efficientdet.errors import UserError
from efficientdet.run.checkpoints import CheckpointManager, HeldCheckpoint
from efficientdet.run.lock import writing_alone
from efficientdet.run.metrics_log import MetricsLog

logger = logging.getLogger(__name__)

Metrics = Mapping[str, Any]


def evaluator_log(model_dir: Path) -> MetricsLog:
    """The evaluations of `--mode=eval`; training has `metrics.jsonl` to itself.

    Training and evaluators have a file each, so that none can cut the other's lines off; both read
    both. Several evaluators write in turn: see `lock.writing_alone`.
    """
    return MetricsLog(model_dir / "eval" / "metrics.jsonl")


class Scoreboard:
    """Compares the evaluations of a run and keeps the best checkpoint in `archive/`.

    Evaluations of as many images are compared with each other; one of a part of the images is no
    best where there is one of more.

    Args:
        checkpoints: of the run.
        metric: the best_metric; of a `val_` loss, the least is the best.
    """

    def __init__(self, checkpoints: CheckpointManager, metric: str):
        self._checkpoints, self._metric = checkpoints, metric
        folder = checkpoints.folder
        self._logs = (MetricsLog(folder / "metrics.jsonl"), evaluator_log(folder))

    def records(self) -> list[dict[str, Any]]:
        """All evaluations, by step."""
        found = [record for log in self._logs for record in log.read("eval")]
        return sorted(found, key=lambda record: record["step"])

    def has(self, step: int, num_images: int = 0) -> bool:
        """Whether a step was evaluated on at least so many images; older lines do not say."""
        return any(
            record["step"] == step and record.get("num_images", num_images) >= num_images
            for record in self.records()
        )

    def truncate(self, step: int) -> None:
        """Drops what was logged after `step`, the checkpoint that training goes on from."""
        training, evaluators = self._logs
        training.truncate(step)
        if evaluators.path.exists():
            with writing_alone(evaluators.path.parent):
                evaluators.truncate(step)

    def keep_if_best(
        self, checkpoint: HeldCheckpoint, metrics: Metrics, beside: Sequence[Path] = ()
    ) -> None:
        """Copies the checkpoint to `archive/` if no evaluation of the run is better.

        Args:
            metrics: of its evaluation, which is not in the logs yet.
            beside: files of this evaluation that go with it.

        Raises:
            UserError: `metrics` lack the best_metric.
        """
        name = self._metric
        if name not in metrics:
            known = ", ".join(metrics)
            raise UserError(f"--best_metric={name}: no such metric; there are {known}")
        records, num_images = self.records(), metrics.get("num_images", 0)
        if num_images < (most := _most_images(records)):
            logger.info(
                f"step {checkpoint.step} cannot be the best: evaluated on {num_images} images, and "
                f"there are evaluations of {most}"
            )
            return
        best = max(self._comparable(records, num_images), default=-math.inf)
        if self._score(metrics) > best:
            self._checkpoints.archive(checkpoint, name, metrics[name], metrics, beside)
            logger.info(
                f"best {name} so far: {metrics[name]:.4f} (kept in "
                f"{self._checkpoints.folder}/archive)"
            )

    def evaluations_since_best(self) -> int:
        """How many came after the best one, of those on the most images."""
        records = self.records()
        scores = self._comparable(records, _most_images(records))
        return len(scores) - 1 - scores.index(max(scores)) if scores else 0

    def _comparable(self, records: Sequence[Metrics], num_images: int) -> list[float]:
        """Scores of the evaluations on `num_images`; older lines do not say on how many."""
        return [self._score(r) for r in records if r.get("num_images", num_images) == num_images]

    def _score(self, metrics: Metrics) -> float:
        """The best_metric, turned so that more is better; -inf where it is not a number."""
        value = metrics.get(self._metric)
        if value is None or math.isnan(value):
            return -math.inf
        return -value if self._metric.startswith("val_") else value


def _most_images(records: Sequence[Metrics]) -> int:
    return max((record.get("num_images", 0) for record in records), default=0)
