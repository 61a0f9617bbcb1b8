"""What a terminal shows while training goes on."""

import math
import time
from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from efficientdet import backend
from efficientdet.console import console
from efficientdet.progress import bar_width
from efficientdet.run.callbacks import Callback, Logs
from efficientdet.wording import counted, duration

PLAIN_SECONDS = 30.0  # between lines where the output is no terminal
COMPILING = "compiling"
GAP = "  "


class _Words(ProgressColumn):
    """The field `text`; of what compiles, how long: nothing else moves meanwhile."""

    def render(self, task: Task) -> Text:
        text = task.fields["text"]
        return Text(f"{text}, {duration(task.elapsed or 0)}" if text == COMPILING else text)


class ProgressBar(Callback):
    """Epoch, bar, step, time left, and as much of `fields` as fits; plain lines in a log."""

    def __init__(self, console: Console = console):
        self._console = console
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._smooth: dict[str, float] = {}
        self._last_line = time.monotonic()
        self._title, self._steps, self._room = "", 0, 0
        self._first: tuple[int, float] | None = None  # of this epoch: step, and when it was done

    def on_epoch(
        self, epoch: int, step_in_epoch: int, steps: int, num_epochs: int, compiles: bool
    ) -> None:
        self.close()
        self._title, self._steps, self._first = f"epoch {epoch + 1}/{num_epochs}", steps, None
        if self._console.is_terminal:
            width = bar_width(self._console)
            self._room = len(f"{self._title} {steps}/{steps} -:--:--- ") + width + 1
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=width),
                TextColumn("{task.completed}/{task.total}"),
                TimeRemainingColumn(elapsed_when_finished=True),
                _Words(),
            )
            self._bar = Progress(*columns, console=self._console)
            self._task = self._bar.add_task(
                self._title,
                total=steps,
                completed=step_in_epoch,
                text=COMPILING if compiles else "",
            )
            self._bar.start()
        elif step_in_epoch == 0:
            note = "; the first one compiles" if compiles else ""
            self._console.print(f"{self._title}: {counted(steps, 'step')}{note}")

    def on_step(self, step: int, epoch: float, logs: Logs) -> None:
        for key, value in logs.items():
            if math.isfinite(value):
                self._smooth[key] = 0.9 * self._smooth.get(key, value) + 0.1 * value
        done, now = round((epoch % 1.0 or 1.0) * self._steps), time.monotonic()
        self._first = self._first or (done, now)
        shown = fields({**logs, **self._smooth}, logs["learning_rate"])
        if self._bar is not None:
            text = fitting(shown, self._console.width - self._room)
            self._bar.update(self._task, completed=done, text=text)
        elif now - self._last_line > PLAIN_SECONDS or done == self._steps:
            self._last_line = now
            words = [f"{self._title} step {done}/{self._steps}", *self._left(done, now), *shown]
            self._console.print(GAP.join(words), soft_wrap=True, highlight=False)

    def on_epoch_end(self) -> None:
        self.close()

    def close(self) -> None:
        """Leaves the bar as a line that stands."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _left(self, done: int, now: float) -> list[str]:
        """The time to the end of the epoch, where it can be told already."""
        first, since = self._first
        if not first < done < self._steps:
            return []
        seconds = (now - since) / (done - first) * (self._steps - done)
        return [f"{timedelta(seconds=round(seconds))} left"]


def fields(logs: Logs, learning_rate: float) -> list[str]:
    """Losses, rate and speed, the most important first."""
    return [
        f"det {logs['det_loss']:.3f}",
        f"{logs['images_per_second']:.1f} img/s",
        f"lr {learning_rate:.2g}",
        f"cls {logs['cls_loss']:.3f}",
        f"box {logs['box_loss']:.4f}",
        f"input-bound {logs['data_wait']:.0%}",
        f"{backend.resident_mb():.0f} MB",
    ]


def fitting(shown: list[str], width: int) -> str:
    """As many of the first fields as `width` characters hold."""
    while shown and len(GAP.join(shown)) > width:
        shown = shown[:-1]
    return GAP.join(shown)
