"""Bad input, kills and faults, thousands of times over: does anything get lost, or end in a trace?

    python -m benchmarks.campaign --minutes=30 --seed=1          over 10,000 inputs, over 50 kills
    python -m benchmarks.campaign --rounds=1 --seed=1            a small one
    python -m benchmarks.campaign --case=labels:1000017          one case again
    python -m benchmarks.campaign --only=kill_train,bundles      some kinds alone

Prints a table of what came of the cases, by kind, and for each that is wrong the command that does
it again; exit code 1 if there is one. `passed`: the input was taken by all that read it, or the
repeated command gave what an undisturbed one gives; `refused`: one clear line. What must not be:
`traceback`; `unclear`, an error text that is empty, long or of many lines; `difference`, readers
that contradict each other, or other bytes than the undisturbed command's; `left over`, temporary
files; `hang`; `crash`. `skipped`: no permission to mount a disk.
"""

import dataclasses
import itertools
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from efficientdet.commands import runner, quiet_tensorflow  # isort: skip  # noqa: F401
from absl import flags
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

# Imported before anything is forked; none of them computes with TensorFlow yet.
import efficientdet.inference.prediction
import efficientdet.inspection.report
import efficientdet.training.train  # noqa: F401
import efficientdet.visualize.curves  # noqa: F401
from benchmarks.campaign import faults, hparams, inputs, kills, record_inputs, run_inputs, scene
from benchmarks.campaign.case import REFUSED, Case, Result, run_case
from benchmarks.campaign.lanes import Job, run_jobs
from benchmarks.campaign.report import Tally
from benchmarks.campaign.scene import Scene
from efficientdet.errors import UsageError, UserError

INPUTS = inputs.KINDS | hparams.KINDS | record_inputs.KINDS | run_inputs.KINDS
COMMANDS = kills.KINDS | faults.KINDS
KINDS = INPUTS | COMMANDS
# In one round, beside --batch inputs of each kind; of records, which take long, a third as many.
SEVERAL = {"kill_convert": 3, "kill_overwrite": 3, "fault_input": 3}
INPUT_SECONDS, COMMAND_SECONDS = 240, 900  # the machine may be busy

MINUTES = flags.DEFINE_float("minutes", 30, "Begin no new round after so long.", lower_bound=0)
ROUNDS = flags.DEFINE_integer("rounds", None, "So many rounds, however long.", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 0, "Of all chance.", lower_bound=0)
CASE = flags.DEFINE_string("case", None, "Do this one case, KIND:NUMBER, again.")
ONLY = flags.DEFINE_list("only", [], f"Kinds, of {', '.join(KINDS)}; default: all.")
BATCH = flags.DEFINE_integer("batch", 60, "Inputs of each kind in a round.", lower_bound=1)
NAMES = flags.DEFINE_list("commands", list(scene.COMMANDS), "Commands to kill and to fail.")
LANES = flags.DEFINE_integer("lanes", 2, "Processes side by side.", lower_bound=1)
LISTED = flags.DEFINE_integer("listed", 5, "Failures to print of each kind and outcome.")


def main() -> None:
    """Makes the scene, does the cases, and tells."""
    only = [CASE.value.partition(":")[0]] if CASE.value else ONLY.value or list(KINDS)
    if unknown := [kind for kind in only if kind not in KINDS]:
        raise UsageError(f"no such kind: {', '.join(unknown)}; there are {', '.join(KINDS)}")
    console, tally, start = Console(), Tally(), time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends what it has forked, too
    folder = Path(tempfile.mkdtemp(prefix="campaign-"))
    try:
        with console.status("making frames, records and a run"):
            stage = Scene(folder / "scene", _commands(only)).make()
        made = time.monotonic() - start
        jobs = iter([_job(CASE.value)]) if CASE.value else schedule(only, SEED.value, start)
        with _bar(console) as progress:
            task = progress.add_task("", total=None)
            told = time.monotonic()
            for result in run_jobs(jobs, lambda case: do(case, stage), LANES.value):
                tally.add(result)
                progress.update(task, description=_line(tally))
                progress.refresh()
                if not console.is_terminal and time.monotonic() > told + 60:
                    told = time.monotonic()
                    print(_line(tally), flush=True)
                if CASE.value:
                    console.print(f"{result.outcome} {result.text}", markup=False, soft_wrap=True)
    finally:
        _remove(folder)
    _tell(tally, console, f"seed {SEED.value}, {made:.0f} s to make the scene, "
          f"{(time.monotonic() - start) / 60:.1f} minutes in all")  # fmt: skip


def do(case: Case, stage: Scene) -> Result:
    """One case, in a process of its own lane."""
    result = run_case(case, KINDS[case.kind], stage)
    if case.kind in COMMANDS and result.outcome == REFUSED:  # by what looks at the files afterwards
        return dataclasses.replace(result, outcome="difference")
    return result


def schedule(only: list[str], seed: int, start: float) -> Iterator[Job]:
    """Round after round: a kill and a fault of each kind, a batch of each kind of input.

    Args:
        start: when the campaign began, by the monotonic clock.
    """
    absent = {f"kill_{name}" for name in scene.COMMANDS if name not in NAMES.value}
    only = [kind for kind in only if kind not in absent]
    slow = [kind for kind in only if kind in record_inputs.KINDS]  # share one network
    for number in itertools.count() if ROUNDS.value is None else range(ROUNDS.value):
        if ROUNDS.value is None and time.monotonic() - start > 60 * MINUTES.value:
            return
        first = 1_000_000 * seed + 1000 * number
        if slow:
            numbers = range(first, first + -(-BATCH.value // 3))
            yield Job([Case(kind, i) for i in numbers for kind in slow], INPUT_SECONDS)
        for kind in only:
            if kind in COMMANDS:
                for i in range(SEVERAL.get(kind, 1)):
                    yield Job([Case(kind, first + i)], COMMAND_SECONDS)
            elif kind not in slow:
                yield Job([Case(kind, first + i) for i in range(BATCH.value)], INPUT_SECONDS)


def _commands(only: list[str]) -> tuple[str, ...]:
    """The commands that these kinds of cases disturb."""
    has_fault = not faults.KINDS.keys().isdisjoint(only)
    return tuple(name for name in NAMES.value if has_fault or f"kill_{name}" in only)


def _job(text: str) -> Job:
    kind, _, number = text.partition(":")
    if not number.isdecimal():
        raise UsageError(f"--case={text}: expected KIND:NUMBER, such as labels:17")
    return Job([Case(kind, int(number))], COMMAND_SECONDS)


def _bar(console: Console) -> Progress:
    # Not refreshed by a thread: processes are forked while it is shown.
    return Progress(
        TimeElapsedColumn(), BarColumn(), TextColumn("{task.description}"), console=console,
        transient=True, auto_refresh=False, disable=not console.is_terminal,
    )  # fmt: skip


def _line(tally: Tally) -> str:
    return (
        f"{tally.count(INPUTS)} inputs, {tally.count(kills.KINDS)} kills, "
        f"{tally.count(faults.KINDS)} faults, {len(tally.wrong)} wrong"
    )


def _tell(tally: Tally, console: Console, title: str) -> None:
    if not CASE.value:
        console.print(tally.table(title))
    print(_line(tally))
    chosen = (
        ""
        if flags.FLAGS["commands"].using_default_value
        else f" --commands={','.join(NAMES.value)}"
    )
    for line in tally.failures(LISTED.value, chosen):
        print(line)
    if tally.wrong:
        raise UserError(f"{len(tally.wrong)} cases are wrong")


def _remove(folder: Path) -> None:
    """The folder, and the disks that a killed case has left mounted in it."""
    for line in Path("/proc/mounts").read_text().splitlines():
        if (place := line.split()[1]).startswith(f"{folder}/"):
            subprocess.run(["umount", "-l", place], capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    runner.run(main)
