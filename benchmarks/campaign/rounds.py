"""Which cases a campaign does, in which order, and how one is done.

Importing it takes seconds: all that is forked is imported before, and computes nothing yet.
"""

import dataclasses
import itertools
import time
from collections.abc import Iterator, Sequence

from efficientdet.commands import runner, quiet_tensorflow  # isort: skip  # noqa: F401

import efficientdet.inference.prediction
import efficientdet.inspection.report
import efficientdet.training.train  # noqa: F401
import efficientdet.visualize.curves  # noqa: F401
from benchmarks.campaign import faults, hparams, inputs, kills, record_inputs, run_inputs, scene
from benchmarks.campaign.case import REFUSED, Case, Result, run_case
from benchmarks.campaign.lanes import Job
from benchmarks.campaign.scene import Scene
from efficientdet.errors import UsageError

INPUTS = inputs.KINDS | hparams.KINDS | record_inputs.KINDS | run_inputs.KINDS
COMMANDS = kills.KINDS | faults.KINDS
KINDS = INPUTS | COMMANDS
# In one round, beside --batch inputs of each kind; of records, which take long, a third as many.
SEVERAL = {"kill_convert": 3, "kill_overwrite": 3, "fault_input": 3}
INPUT_SECONDS, COMMAND_SECONDS = 240, 900  # the machine may be busy


@dataclasses.dataclass(frozen=True)
class Options:
    """How much is done.

    Attributes:
        end: when no new round begins, by the monotonic clock.
        rounds: instead of `end`: how many.
        batch: inputs of each kind in a round.
        commands: names of those to kill and to fail.
    """

    seed: int
    end: float
    rounds: int | None
    batch: int
    commands: Sequence[str]


def do(case: Case, stage: Scene) -> Result:
    """One case, in a process of its own lane."""
    result = run_case(case, KINDS[case.kind], stage)
    if case.kind in COMMANDS and result.outcome == REFUSED:  # by what looks at the files afterwards
        return dataclasses.replace(result, outcome="difference")
    return result


def schedule(only: Sequence[str], options: Options) -> Iterator[Job]:
    """Round after round: a kill and a fault of each kind, a batch of each kind of input.

    Args:
        only: kinds.
    """
    absent = {f"kill_{name}" for name in scene.COMMANDS if name not in options.commands}
    only = [kind for kind in only if kind not in absent]
    slow = [kind for kind in only if kind in record_inputs.KINDS]  # share one network
    for number in itertools.count() if options.rounds is None else range(options.rounds):
        if options.rounds is None and time.monotonic() > options.end:
            return
        first = 1_000_000 * options.seed + 1000 * number
        if slow:
            numbers = range(first, first + -(-options.batch // 3))
            yield Job([Case(kind, i) for i in numbers for kind in slow], INPUT_SECONDS)
        for kind in only:
            if kind in COMMANDS:
                for i in range(SEVERAL.get(kind, 1)):
                    yield Job([Case(kind, first + i)], COMMAND_SECONDS)
            elif kind not in slow:
                yield Job([Case(kind, first + i) for i in range(options.batch)], INPUT_SECONDS)


def disturbed(only: Sequence[str], options: Options) -> tuple[str, ...]:
    """The commands that these kinds of cases disturb."""
    has_fault = not faults.KINDS.keys().isdisjoint(only)
    return tuple(name for name in options.commands if has_fault or f"kill_{name}" in only)


def one_case(text: str) -> Job:
    """The job of `KIND:NUMBER` alone; raises UsageError where it is not of that form."""
    kind, _, number = text.partition(":")
    if not number.isdecimal():
        raise UsageError(f"--case={text}: expected KIND:NUMBER, such as labels:17")
    return Job([Case(kind, int(number))], COMMAND_SECONDS)
