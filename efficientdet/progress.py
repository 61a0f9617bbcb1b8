"""Progress bars: `track` for a loop, `meter` for commands that go through many files."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console

from efficientdet.console import console

if TYPE_CHECKING:  # it is half of what a quick command needs to start
    from rich.progress import Progress

Item = TypeVar("Item")


def track(
    items: Iterable[Item], description: str, total: int | None = None, *, shown: bool = True
) -> Iterator[Item]:
    """The items, with a bar that goes when they end; none where no terminal is, or not `shown`."""
    if not (shown and console.is_terminal):
        yield from items
        return
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=bar_width(console)),
        TaskProgressColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as progress:
        yield from progress.track(items, total, description=description)


def bar_width(console: Console) -> int:
    """Characters of a bar: so many that what stands beside it has room from 60 columns on."""
    return 20 if console.width >= 100 else 10


class Meter:
    """One bar; `add` moves it."""

    def __init__(self, progress: "Progress", total: int | None, unit: str):
        self._progress, self._unit, self._bytes = progress, unit, 0
        self._is_wide = progress.console.width >= 80
        self._task = progress.add_task("", total=total, speed="")

    def add(self, num_bytes: int) -> None:
        """Counts one item of `num_bytes`."""
        self._bytes += num_bytes
        self._progress.advance(self._task)
        task = self._progress.tasks[self._task]
        if task.elapsed:
            speed = f"{task.completed / task.elapsed:.0f} {self._unit}/s"
            if self._is_wide:
                speed += f", {self._bytes / task.elapsed / 1e6:.0f} MB/s"
            self._progress.update(self._task, speed=speed)


@contextmanager
def meter(description: str, total: int | None, unit: str = "img") -> Iterator[Meter]:
    """Items/s, MB/s and the time left, for the time of the block; on stderr, if a terminal."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column

    console = Console(stderr=True)
    with Progress(
        TextColumn(description),
        BarColumn(bar_width=bar_width(console)),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        TimeRemainingColumn(),
        TextColumn("{task.fields[speed]}"),
        console=console,
        disable=not console.is_terminal,
    ) as progress:
        yield Meter(progress, total, unit)


@contextmanager
def byte_bar(description: str, total: int, start: int = 0) -> Iterator[Callable[[int], None]]:
    """A bar on stderr that goes when the block ends; what it yields takes the bytes so far."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(stderr=True)
    is_wide = console.width >= 80
    shown = description if is_wide else description.partition(" ")[0]
    columns = [TextColumn(shown), BarColumn(bar_width(console)), DownloadColumn()]
    columns += [TransferSpeedColumn()] if is_wide else []
    columns.append(TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=total, completed=start)
        yield lambda done: progress.update(task, completed=done)
