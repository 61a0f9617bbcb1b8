"""Medians of what is timed in turns, and each figure beside its limit from the same run."""

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from efficientdet.errors import UserError

Work = Callable[[], object]  # one that returns a float has timed itself
COLUMNS = ("what", "of the limit", "median", "rate", "peak")


@dataclass(frozen=True)
class Limit:
    """What nothing on this machine can be faster than, timed in turns with the work itself."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        part: of the benchmarks, as `--only` names it.
        seconds: median of one go.
        count, unit: what one go gets through: 400 `images`.
        limit: beside it; None where there is none.
        peak_mb: resident memory of the process at its highest; None: not looked at.
    """

    part: str
    what: str
    seconds: float
    count: float = 1
    unit: str = ""
    limit: Limit | None = None
    peak_mb: float | None = None

    @property
    def share(self) -> float | None:
        """Of the limit's speed; 1 is as fast as can be."""
        return self.limit.seconds / self.seconds if self.limit else None

    def json(self) -> dict[str, Any]:
        """All of it, with the rate and the share."""
        return asdict(self) | {"rate": self.count / self.seconds, "share": self.share}


def in_turns(works: Mapping[str, Work], turns: int) -> dict[str, float]:
    """Median seconds of each, which may say its own; a first turn is for warming up.

    Every turn does each of them once, so that another load on the machine falls on all alike.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(turns + 1):
        for name, work in works.items():
            start = time.perf_counter()
            told = work()
            seconds[name].append(told if isinstance(told, float) else time.perf_counter() - start)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def run_process(words: Sequence[object], **environment: str) -> tuple[float, float]:
    """Seconds and peak memory in MB of a process that must do well.

    Raises:
        UserError: it did not; with the last of what it said.
    """
    start = time.perf_counter()
    process = subprocess.Popen(
        [str(word) for word in words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, encoding="utf-8", errors="replace", env=os.environ | environment,
    )  # fmt: skip
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        last = " / ".join(said.strip().splitlines()[-3:]) or "nothing was said"
        raise UserError(f"{' '.join(map(str, words))}: exit code {process.returncode}: {last}")
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def table(rows: Sequence[Row]) -> Table:
    """The rows of a part, each limit above those that are held against it."""
    cells, limit = [], None
    for row in rows:
        if row.limit not in (None, limit):
            cells.append((f"limit: {row.limit.name}", "", duration(row.limit.seconds), "", ""))
        limit = row.limit
        rate = f"{row.count / row.seconds:.3g} {row.unit}/s" if row.unit else ""
        share = "" if row.share is None else f"{row.share:.2f}"
        peak = "" if row.peak_mb is None else f"{row.peak_mb:.0f} MB"
        cells.append((row.what, share, duration(row.seconds), rate, peak))
    columns = dict(zip(COLUMNS, zip(*cells, strict=True), strict=True))
    columns = {name: column for name, column in columns.items() if any(column)}
    drawn = Table(title=rows[0].part, title_justify="left")
    for name in columns:
        text = name == COLUMNS[0]
        drawn.add_column(name, justify="left" if text else "right", no_wrap=not text)
    for line in zip(*columns.values(), strict=True):
        drawn.add_row(*line)
    return drawn


def duration(seconds: float) -> str:
    """Three figures, in s or ms."""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"
