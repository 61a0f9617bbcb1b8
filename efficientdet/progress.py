"""Progress bars: `track` for a loop, `meter` for commands that go through many files."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import rich.progress
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from efficientdet.console import console

Item = TypeVar("Item")


def track(
    items: Iterable[Item], description: str, total: int | None = None, *, shown: bool = True
) -> Iterable[Item]:
    """The items, with a bar that goes when they end; none where no terminal is, or not `shown`."""
    return rich.progress.track(
        items,
        description,
        total,
        console=console,
        transient=True,
        disable=not (shown and console.is_terminal),
    )


class Meter:
    """One bar; `add` moves it."""

    def __init__(self, progress: Progress, total: int | None, unit: str):
        self._progress, self._unit, self._bytes = progress, unit, 0
        self._task = progress.add_task("", total=total, speed="")

    def add(self, num_bytes: int) -> None:
        """Counts one item of `num_bytes`."""
        self._bytes += num_bytes
        self._progress.advance(self._task)
        task = self._progress.tasks[self._task]
        if task.elapsed:
            items, megabytes = task.completed / task.elapsed, self._bytes / task.elapsed / 1e6
            self._progress.update(
                self._task, speed=f"{items:.0f} {self._unit}/s, {megabytes:.0f} MB/s"
            )


@contextmanager
def meter(description: str, total: int | None, unit: str = "img") -> Iterator[Meter]:
    """Items/s, MB/s and the time left, for the time of the block; on stderr, if a terminal."""
    console = Console(stderr=True)
    with Progress(
        TextColumn(description),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as progress:
        yield Meter(progress, total, unit)
