"""What an evaluation outside training leaves in the run: its curve, and the best checkpoint."""

import logging
import math
import re
from collections.abc import Sequence
from pathlib import Path

from efficientdet.checkpoint.identity import identify
from efficientdet.run.callbacks import Logs, MetricsFile, Pictures, TensorBoard
from efficientdet.run.checkpoints import CheckpointManager, HeldCheckpoint
from efficientdet.run.directory import RunDirectory
from efficientdet.run.lock import writing_alone
from efficientdet.run.scoreboard import Scoreboard, evaluator_log

logger = logging.getLogger(__name__)


class EvaluationCurve:
    """TensorBoard's events, `eval/metrics.jsonl` and `archive/`, as `train_and_eval` has them.

    Each step has one point, whoever evaluated it first; one on more images is another.

    Args:
        model_dir: of the run; its training may be going on.
        metric: the best_metric, or None to keep no best.
    """

    def __init__(self, model_dir: Path, metric: str | None):
        self._metric = metric
        self._scoreboard = Scoreboard(CheckpointManager(model_dir), metric or "")
        log = evaluator_log(model_dir)
        with writing_alone(log.path.parent):
            log.truncate(math.inf)  # drops nothing but what a crash cut short
        self._callbacks = (MetricsFile(log), TensorBoard(model_dir))

    def add(
        self,
        checkpoint: HeldCheckpoint,
        metrics: Logs,
        pictures: Pictures,
        beside: Sequence[Path],
    ) -> None:
        """Adds one evaluation, within `writing_alone`; for `beside` see `keep_if_best`."""
        step = checkpoint.step
        if self._scoreboard.has(step, metrics["num_images"]):
            logger.info(f"step {step} is on the curve already: no second point")
            return
        # Archived before it is logged: a crash in between repeats both.
        is_best = bool(self._metric) and self._scoreboard.keep_if_best(checkpoint, metrics, beside)
        logger.info(self._scoreboard.line(metrics, is_best))
        for callback in self._callbacks:
            callback.on_evaluation(step, checkpoint.epoch, metrics, pictures)


def own_prefix(path: str | Path, run: RunDirectory) -> Path | None:
    """Prefix of the checkpoint at `path` if `run` trained it (its model_dir or archive/)."""
    prefix = Path(identify(path).name)
    return prefix if is_own(prefix, run) else None


def is_own(prefix: Path, run: RunDirectory) -> bool:
    """Whether `run` trained the checkpoint at `prefix`, which need not be there any more."""
    homes = (run.path.resolve(), (run.path / "archive").resolve())
    is_named = re.fullmatch(r"model\.ckpt-\d+", prefix.name) is not None
    return run.exists and is_named and prefix.parent.resolve() in homes
