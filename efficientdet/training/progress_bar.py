"""What a terminal shows while training goes on."""

import time

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from efficientdet import backend
from efficientdet.console import console
from efficientdet.run.callbacks import Callback, Logs

PLAIN_SECONDS = 10.0  # between lines where the output is no terminal


class ProgressBar(Callback):
    """Epoch, bar, smoothed losses, lr, img/s, data wait, memory, ETA; plain lines in a log."""

    def __init__(self, console: Console = console):
        self._console = console
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._smooth: dict[str, float] = {}
        self._last_line = time.monotonic()
        self._title, self._steps = "", 0

    def on_epoch(self, epoch: int, step_in_epoch: int, steps: int, num_epochs: int) -> None:
        self.close()
        self._title, self._steps = f"epoch {epoch + 1}/{num_epochs}", steps
        if self._console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                TextColumn("{task.completed}/{task.total}"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[text]}"),
            )
            self._bar = Progress(*columns, console=self._console)
            self._task = self._bar.add_task(
                self._title, total=steps, completed=step_in_epoch, text="first step: compiling"
            )
            self._bar.start()
        elif step_in_epoch == 0:
            self._console.print(f"{self._title}: {steps} steps; the first one compiles")

    def on_step(self, step: int, epoch: float, logs: Logs) -> None:
        for key, value in logs.items():
            if np.isfinite(value):
                self._smooth[key] = 0.9 * self._smooth.get(key, value) + 0.1 * value
        done = round((epoch % 1.0 or 1.0) * self._steps)
        text = describe({**logs, **self._smooth}, logs["learning_rate"])
        if self._bar is not None:
            self._bar.update(self._task, completed=done, text=text)
        elif time.monotonic() - self._last_line > PLAIN_SECONDS or done == self._steps:
            self._last_line = time.monotonic()
            self._console.print(f"{self._title} step {done}/{self._steps} {text}", soft_wrap=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def describe(logs: Logs, learning_rate: float) -> str:
    """One line of losses, rate and speed."""
    return (
        f"det {logs['det_loss']:.3f}  cls {logs['cls_loss']:.3f}  box {logs['box_loss']:.4f}"
        f"  lr {learning_rate:.2g}  {logs['images_per_second']:.1f} img/s"
        f"  input-bound {logs['data_wait']:.0%}  {backend.resident_mb():.0f} MB"
    )
