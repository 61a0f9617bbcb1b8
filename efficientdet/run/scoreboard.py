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
from efficientdet.wording import counted

logger = logging.getLogger(__name__)

Metrics = Mapping[str, Any]
HEADLINE = {"AP": "AP", "AP50": "AP50", "kitti/moderate_R40": "KITTI moderate"}


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
    ) -> bool:
        """Copies the checkpoint to `archive/` if no evaluation of the run is better.

        Returns whether it did.

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
                f"step {checkpoint.step} cannot be the best: evaluated on "
                f"{counted(num_images, 'image')}, and there are evaluations of {most}"
            )
            return False
        best = max(self._scores(_comparable(records, num_images)), default=-math.inf)
        if self._score(metrics) <= best:
            return False
        self._checkpoints.archive(checkpoint, name, metrics[name], metrics, beside)
        return True

    def line(self, metrics: Metrics, is_best: bool) -> str:
        """What an evaluation scored, in a line of at most 80 characters where AP is best_metric.

        AP, AP50 and KITTI's moderate mean in %, each with its change against the best that an
        evaluation on as many images had in it. `metrics` are not in the logs yet.
        """
        before = _comparable(self.records(), metrics.get("num_images", 0))
        words = []
        for name in dict.fromkeys((*HEADLINE, self._metric)):
            if (value := metrics.get(name)) is None:
                continue
            unit, digits, better = (1, 4, min) if _is_loss(name) else (100, 2, max)
            words.append(f"{HEADLINE.get(name, name)} {unit * value:.{digits}f}")
            known = [record[name] for record in before if record.get(name) is not None]
            if known:  # z: no -0.00
                words[-1] += f" ({unit * (value - better(known)):+z.{digits}f})"
        return "  ".join(words + ["best so far"] * is_best)

    def best_line(self) -> str | None:
        """Which evaluation is the best, and where its checkpoint lies; None where there is none."""
        records = self.records()
        comparable = _comparable(records, _most_images(records))
        best = max(comparable, key=self._score, default={})
        if self._score(best) == -math.inf:
            return None
        place = self._checkpoints.folder / "archive"
        value = best[self._metric]
        shown = f"{value:.4f}" if _is_loss(self._metric) else f"{100 * value:.2f} %"
        return f"best {self._metric}: {shown} at step {best['step']}, in {place}"

    def evaluations_since_best(self) -> int:
        """How many came after the best one, of those on the most images."""
        records = self.records()
        scores = self._scores(_comparable(records, _most_images(records)))
        return len(scores) - 1 - scores.index(max(scores)) if scores else 0

    def _scores(self, records: Sequence[Metrics]) -> list[float]:
        return [self._score(record) for record in records]

    def _score(self, metrics: Metrics) -> float:
        """The best_metric, turned so that more is better; -inf where it is not a number."""
        value = metrics.get(self._metric)
        if value is None or math.isnan(value):
            return -math.inf
        return -value if _is_loss(self._metric) else value


def _is_loss(name: str) -> bool:
    """Whether less is better; all others are shares, said in percent."""
    return name.startswith("val_")


def _comparable(records: Sequence[Metrics], num_images: int) -> list[Metrics]:
    """The evaluations on `num_images`; older lines do not say on how many."""
    return [r for r in records if r.get("num_images", num_images) == num_images]


def _most_images(records: Sequence[Metrics]) -> int:
    return max((record.get("num_images", 0) for record in records), default=0)
