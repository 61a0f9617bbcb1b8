"""What a run writes while it trains and evaluates: metrics.jsonl and TensorBoard's events."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from efficientdet import backend, tensorflow_device  # noqa: F401 (no GPU for it beside JAX)
from efficientdet.errors import UserError, one_line
from efficientdet.run import dashboard
from efficientdet.run.metrics_log import MetricsLog

Logs = Mapping[str, float]
Pictures = Mapping[str, np.ndarray]
SUMMARY_STEPS = 10


class Callback:
    """Told of every step and every evaluation; does nothing by itself."""

    def on_epoch(
        self, epoch: int, step_in_epoch: int, steps: int, num_epochs: int, compiles: bool
    ) -> None:
        """An epoch begins (or goes on after a resume at `step_in_epoch`).

        `compiles`: its first step is compiled before it runs.
        """

    def on_epoch_end(self) -> None:
        """The epoch's steps, or the time for them, are over; it is saved, and maybe evaluated."""

    def on_step(self, step: int, epoch: float, logs: Logs) -> None:
        """A step was done; `logs` also holds `learning_rate`, `images_per_second`, `data_wait`."""

    def on_summary(self, step: int, epoch: float, rows: Sequence[Logs]) -> None:
        """A line of metrics is due; `rows` are the logs of the steps since the one before it."""

    def on_evaluation(
        self, step: int, epoch: float | None, metrics: Logs, pictures: Pictures
    ) -> None:
        """An evaluation was done; `pictures` are uint8 [H, W, 3], by name."""

    def close(self) -> None:
        """Training ended, for whatever reason."""


class MetricsFile(Callback):
    """metrics.jsonl: the mean of every SUMMARY_STEPS steps, and every evaluation."""

    def __init__(self, log: MetricsLog):
        self._log = log

    def on_summary(self, step: int, epoch: float, rows: Sequence[Logs]) -> None:
        self._log.append("train", step, epoch, means(rows) | {"rss_mb": backend.resident_mb()})

    def on_evaluation(self, step: int, epoch: float, metrics: Logs, pictures: Pictures) -> None:
        self._log.append("eval", step, epoch, metrics)


class TensorBoard(Callback):
    """AutoML's tags: training in model_dir, evaluation in model_dir/eval; see `dashboard` for more.

    The validation losses carry the training losses' tags, so that both stand on one chart.

    Args:
        hparams: by dotted name, as the run has them; None: another process of the run tells.
    """

    def __init__(self, model_dir: Path, hparams: Mapping[str, Any] | None = None):
        self._folder, self._config, self._hparams = model_dir, hparams, hparams  # None once told

    # Made when first written to: of two processes that share a run, the one that does not evaluate
    # leaves no newer, empty file in eval/, for which TensorBoard would leave the other's unread.

    @cached_property
    def _train(self) -> tf.summary.SummaryWriter:
        return tf.summary.create_file_writer(str(self._folder))

    @cached_property
    def _eval(self) -> tf.summary.SummaryWriter:
        return tf.summary.create_file_writer(str(self._folder / "eval"))

    def on_summary(self, step: int, epoch: float, rows: Sequence[Logs]) -> None:
        mean = means(rows)
        with self._writing(), self._train.as_default(step):
            if self._config is not None:
                dashboard.write_head(self._config, step)
                self._config = None
            for name in (name for name in mean if name.endswith("loss")):
                tf.summary.scalar(f"trainloss/{name}", mean[name])
            tf.summary.scalar("lrn_rate", rows[-1]["learning_rate"])
            tf.summary.scalar("train_epochs", epoch)
            tf.summary.scalar("clip/gradient_norm", mean["gradient_norm"])
            for name in ("images_per_second", "data_wait", "num_positives"):
                tf.summary.scalar(f"input/{name}", mean[name])

    def on_evaluation(self, step: int, epoch: float, metrics: Logs, pictures: Pictures) -> None:
        with self._writing(), self._eval.as_default(step):
            if self._hparams is not None:
                dashboard.write_hparams(self._hparams)
                self._hparams = None
            for name, value in metrics.items():
                if not dashboard.is_shown(name):
                    continue
                tag = f"trainloss/{name.removeprefix('val_')}" if name.startswith("val_") else name
                tf.summary.scalar(tag, value)
            for name, picture in pictures.items():
                tf.summary.image(name, dashboard.large(picture)[np.newaxis])
        self.close()

    def close(self) -> None:
        with self._writing():
            for writer in ("_train", "_eval"):
                if writer in self.__dict__:
                    getattr(self, writer).flush()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except tf.errors.OpError as error:
            raise UserError(
                f"{self._folder}: cannot write TensorBoard's events ({one_line(error)})"
            ) from error


def is_summary(step: int) -> bool:
    """Whether a line of metrics ends with this step: the first, which compiles, and every tenth.

    It depends on the step alone, so that a run that was stopped and resumed has the same lines.
    """
    return step == 1 or step % SUMMARY_STEPS == 0


def means(rows: Sequence[Logs]) -> dict[str, float]:
    """By name, the mean of what is finite in `rows`; NaN where nothing is."""
    names = dict.fromkeys(name for row in rows for name in row)
    finite = {n: [row[n] for row in rows if n in row and np.isfinite(row[n])] for n in names}
    return {n: float(np.mean(values)) if values else float("nan") for n, values in finite.items()}
