"""The training loop with a made-up engine, started and ended as often as a test likes.

The engine's one weight depends on every batch, its order, the step and the learning rate, down to
the last bit: a step that is left out, repeated or given another batch shows.
"""

import math
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from listening import listening

from efficientdet.checkpoint.bundle import read_bundle
from efficientdet.config import Config
from efficientdet.errors import Stopped
from efficientdet.run.callbacks import Callback, MetricsFile
from efficientdet.run.checkpoints import CheckpointManager
from efficientdet.run.metrics_log import MetricsLog
from efficientdet.training.trainer import Plan, Trainer

NUM_IMAGES = 12
CONFIG = Config(learning_rate=6.4, lr_warmup_init=0.1, lr_warmup_epoch=0.5)


class Killed(BaseException):
    """Stands for kill -9: nothing catches it, nothing is saved."""


class State:
    """One number to train."""

    def __init__(self) -> None:
        self.weight = np.float64(0.1)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"weight": np.array(self.weight)}

    def load(self, arrays: dict[str, np.ndarray]) -> list[str]:
        self.weight = np.float64(arrays["weight"])
        return []

    def evaluation_values(self) -> tuple[list, list]:
        return [self.weight], []


class TrainingEngine:
    """Does what `training.engine.TrainingEngine` does, in microseconds."""

    def __init__(self, config: Config):
        self.config, self.state = config, State()
        self.seen: list[tuple[int, list[int]]] = []  # (step, images)
        self.fetches = 0
        self.heads_only: list[bool] = []
        self.before: Callable[[int], None] = lambda step: None
        self.is_finite: Callable[[int, list[int], float], bool] = lambda *args: True
        self.loss_scale, self.compilations, self.steps_in_flight = 1.0, 1, 0

    def detector(self) -> SimpleNamespace:
        return SimpleNamespace(values=self.state.evaluation_values())

    def train_heads_only(self, heads_only: bool) -> None:
        self.heads_only.append(heads_only)

    def fetch(self, dispatched: list[dict[str, float]]) -> list[dict[str, float]]:
        self.fetches += 1
        return dispatched

    def dispatch(self, batch: dict, *, step: int, learning_rate: float) -> dict[str, float]:
        self.before(step)
        images = [int(name) for name in batch["source_id"]]
        self.seen.append((step, images))
        finite = self.is_finite(step, images, learning_rate)
        if finite:
            places = np.arange(1, len(images) + 1)
            self.state.weight += learning_rate * np.sin(self.state.weight + step + images @ places)
        loss = float(abs(self.state.weight)) if finite else float("nan")
        losses = dict.fromkeys(("cls_loss", "box_loss", "det_loss", "reg_l2_loss", "loss"), loss)
        return losses | {
            "gradient_norm": loss, "num_positives": 3.0, "finite": float(finite),
            "loss_scale": self.loss_scale,
        }  # fmt: skip


class Recorder(Callback):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.epochs, self.steps, self.rates, self.closed = [], [], [], 0

    def on_epoch(self, *args: int) -> None:
        self.epochs.append(args)

    def on_step(self, step: int, epoch: float, logs: dict) -> None:
        self.steps.append((step, epoch))
        self.rates.append(logs["learning_rate"])

    def close(self) -> None:
        self.closed += 1


class Evaluate:
    """Gives AP values of a list, by the epoch's number of calls; else one made from the weight."""

    def __init__(self, *values: float, name: str = "AP"):
        self.values, self.name = list(values), name
        self.weights: list[float] = []
        self.before: Callable[[], None] = lambda: None

    kept, num_images = (), 0
    shown = 0

    def show_last(self) -> None:
        self.shown += 1

    def written(self, evaluated: SimpleNamespace) -> AbstractContextManager:
        return nullcontext()

    def __call__(self, detector: SimpleNamespace, checkpoint: Path) -> SimpleNamespace:
        ((weight,), _) = detector.values
        assert read_bundle(checkpoint)["weight"] == weight
        self.before()
        self.weights.append(float(weight))
        value = self.values.pop(0) if self.values else float(abs(weight))
        return SimpleNamespace(metrics={self.name: value}, pictures={})


def order(epoch: int) -> np.ndarray:
    return np.random.default_rng(epoch).permutation(NUM_IMAGES)


def batch_of(step: int) -> list[int]:
    """The images of a step, of three images each."""
    return order(step // 4).reshape(-1, 3)[step % 4].tolist()


class Run:
    """One start of the program on `folder`: a trainer with everything new around it."""

    def __init__(
        self,
        folder: Path,
        *,
        config: Config = CONFIG,
        batch_size: int = 3,
        steps_per_epoch: int | None = None,
        num_epochs: int = 3,
        save_steps: int = 1000,
        evaluate: Evaluate | None = None,
        best_metric: str = "AP",
        max_seconds: float = math.inf,
    ):
        self.folder, self.said, self.recorder = folder, [], Recorder()
        self.engine, self._batch_size = TrainingEngine(config), batch_size
        self.log = MetricsLog(folder / "metrics.jsonl")
        self.checkpoints = CheckpointManager(folder)
        plan = Plan(
            batch_size,
            steps_per_epoch or NUM_IMAGES // batch_size,
            num_epochs,
            save_steps=save_steps,
            best_metric=best_metric,
            max_seconds=max_seconds,
        )
        self.trainer = Trainer(
            self.engine, plan, self.checkpoints, batches=self._batches, evaluate=evaluate,
            callbacks=[self.recorder, MetricsFile(self.log)],
        )  # fmt: skip

    def _batches(self, epoch: int, skip: int) -> Iterator[dict[str, np.ndarray]]:
        batches = order(epoch)[: NUM_IMAGES // self._batch_size * self._batch_size]
        for images in batches.reshape(-1, self._batch_size)[skip:]:
            names = np.array([f"{image:06d}".encode() for image in images])
            yield {"images": images.astype(np.float32), "source_id": names}

    def fit(self) -> "Run":
        with listening(self.said):
            self.resumed = self.trainer.resume()
            self.trainer.fit()
        return self

    @property
    def weight(self) -> float:
        return float(self.engine.state.weight)

    @property
    def images(self) -> list[int]:
        return [image for _, images in self.engine.seen for image in images]

    def eval_steps(self) -> list[int]:
        return [record["step"] for record in self.log.read("eval")]


def kill_at(run: Run, step: int) -> None:
    """Ends the process (so to speak) in the middle of a step."""

    def before(present: int) -> None:
        if present == step:
            raise Killed

    run.engine.before = before


def send_at(run: Run, step: int, number: signal.Signals) -> None:
    run.engine.before = lambda now: os.kill(os.getpid(), number) if now == step else None


def stop_after(folder: Path, steps: int, **changes) -> Run:
    """A run that a SIGTERM ended after so many steps."""
    run = Run(folder, **changes)
    send_at(run, steps - 1, signal.SIGTERM)
    with pytest.raises(Stopped):
        run.fit()
    assert run.trainer.progress.step == steps
    return run
