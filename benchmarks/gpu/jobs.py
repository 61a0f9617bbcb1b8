"""Runs jobs as processes: a few get ready side by side, then each has the card to itself.

Imports and tracing take a core for half a minute and no card, so they are done by several jobs at
once; nothing is compiled or timed then. A job that fails or takes too long is a row with its error,
and the others go on.
"""

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu.results import Found
from benchmarks.gpu.settings import Settings

Job = tuple[Settings, dict[str, str]]  # with its environment


class Running:
    """The process of one job.

    Args:
        log: receives what it says on stderr.
    """

    def __init__(self, settings: Settings, environment: dict[str, str], log: Path):
        self.settings, self._log = settings, log
        self._said: queue.Queue[str | None] = queue.Queue()
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.gpu.child", settings.dumped()],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file,
                text=True, encoding="utf-8", env=environment,
            )  # fmt: skip
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._said.put(line)
        self._said.put(None)

    def messages(self, until: float) -> Iterator[dict[str, Any]]:
        """What it says, to its end or until then; after `ready` it is to be asked again."""
        while True:
            try:
                line = self._said.get(timeout=max(0.1, until - time.monotonic()))
            except queue.Empty:
                yield {"failed": "stopped: its time was over"}
                return
            if line is None:
                yield {"failed": self._why()}
                return
            message = json.loads(line)
            yield message
            if "ready" in message or "done" in message:
                return

    def go(self) -> None:
        """Lets it have the card."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        except BrokenPipeError:  # it has failed, as its messages say
            pass

    def end(self) -> None:
        """Stops it if it still runs, and waits until its memory is free."""
        self._process.kill()
        self._process.wait()

    def _why(self) -> str:
        code = self._process.wait()
        lines = [
            line for line in self._log.read_text(errors="replace").splitlines() if line.strip()
        ]
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        return f"{how}: {lines[-1].strip()[:200] if lines else 'nothing was said'}"


def run(
    jobs: Sequence[Job],
    add: Callable[[Found], None],
    *,
    logs: Path,
    at_once: int,
    until: float,
    job_seconds: float,
) -> None:
    """Does the jobs in their order, and gives each row to `add`.

    Args:
        at_once: jobs that get ready side by side.
        until: of time.monotonic(); what has not begun by then is a row that says so.
        job_seconds: that one may take, to get ready and again with the card.
    """
    for first in range(0, len(jobs), at_once):
        wave = jobs[first : first + at_once]
        if time.monotonic() >= until:
            for settings, _ in wave:
                add(_failed(settings, "not begun: --minutes were over"))
            continue
        _wave(wave, add, logs, lambda: min(until, time.monotonic() + job_seconds))


def _wave(
    jobs: Sequence[Job], add: Callable[[Found], None], logs: Path, limit: Callable[[], float]
) -> None:
    running = [
        Running(settings, environment, logs / f"{settings.name}.txt")
        for settings, environment in jobs
    ]
    try:
        ready, end = [], limit()
        for one in running:
            if _rows(one, end, add):
                ready.append(one)
            else:
                one.end()
        for one in ready:
            one.go()
            _rows(one, limit(), add)
            one.end()
    finally:
        for one in running:
            one.end()


def _rows(one: Running, until: float, add: Callable[[Found], None]) -> bool:
    """Adds the rows that a job tells until it is ready or done; whether it is ready."""
    ready = False
    for message in one.messages(until):
        if "row" in message:
            add(Found(**message["row"]))
        elif "failed" in message:
            add(_failed(one.settings, message["failed"]))
        ready = "ready" in message
    return ready


def _failed(settings: Settings, why: str) -> Found:
    return Found(settings.part, settings.what, dtype=settings.precision, error=why)
