"""The progress bar of commands that go through many files: items/s, MB/s and the time left."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


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
    """A bar on stderr for the time of the block; silent where stderr is no terminal."""
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
