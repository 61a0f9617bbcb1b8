"""Forked processes that do cases side by side; one that hangs or dies costs one case."""

import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from benchmarks.campaign.case import Case, Result

# An input that makes a reader ask for more is a failure here, not the end of the machine.
MEMORY = 8 << 30
_fork = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Job:
    """Cases that one process does one after the other, each in `seconds` at most."""

    cases: Sequence[Case]
    seconds: float


@dataclass
class _Lane:
    """A process at work on a job.

    Attributes:
        done: how many of its cases.
        begin: of the present one.
    """

    job: Job
    process: BaseProcess
    results: Connection
    done: int = 0
    begin: float = field(default_factory=time.monotonic)

    @property
    def case(self) -> Case:
        return self.job.cases[self.done]

    @property
    def time_left(self) -> float:
        return max(0.0, self.begin + self.job.seconds - time.monotonic())

    def kill(self) -> None:
        """Ends the process and the commands that it has started."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            self.process.kill()
        self.process.join()
        self.results.close()


def run_jobs(
    jobs: Iterator[Job], run: Callable[[Case], Result], num_lanes: int
) -> Iterator[Result]:
    """The results of all jobs, as they come; `jobs` may be endless.

    Args:
        run: does a case, in a child process.
    """
    lanes: list[_Lane] = []
    try:
        while True:
            while len(lanes) < num_lanes and (job := next(jobs, None)):
                lanes.append(_start(job, run))
            if not lanes:
                return
            ready = wait([lane.results for lane in lanes], min(lane.time_left for lane in lanes))
            for lane in list(lanes):
                if lane.results in ready:
                    result = _receive(lane)
                elif not lane.time_left:
                    result = Result(lane.case, "hang", f"over {lane.job.seconds:.0f} seconds")
                else:
                    continue
                lane.done, lane.begin = lane.done + 1, time.monotonic()
                broken = result.outcome in ("hang", "crash")
                rest = lane.job.cases[lane.done :]
                if broken or not rest:
                    lanes.remove(lane)
                    if broken:
                        lane.kill()
                    else:
                        lane.process.join()
                        lane.results.close()
                if broken and rest:
                    lanes.append(_start(Job(rest, lane.job.seconds), run))
                yield result
    finally:
        for lane in lanes:
            lane.kill()


def _receive(lane: _Lane) -> Result:
    try:
        return lane.results.recv()
    except EOFError:
        lane.process.join()
        text = f"the process ended with {lane.process.exitcode}"
        return Result(lane.case, "crash", text, time.monotonic() - lane.begin)


def _start(job: Job, run: Callable[[Case], Result]) -> _Lane:
    ours, theirs = _fork.Pipe(duplex=False)
    process = _fork.Process(target=_work, args=(job.cases, run, theirs))
    process.start()
    theirs.close()
    return _Lane(job, process, ours)


def _work(cases: Sequence[Case], run: Callable[[Case], Result], results: Connection) -> None:
    os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    for case in cases:
        results.send(run(case))
