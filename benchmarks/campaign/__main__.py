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

import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from efficientdet.commands import runner  # isort: skip (says what is not installed)
from absl import flags
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.campaign.report import Tally
from efficientdet.errors import UsageError, UserError

MINUTES = flags.DEFINE_float("minutes", 30, "Begin no new round after so long.", lower_bound=0)
ROUNDS = flags.DEFINE_integer("rounds", None, "So many rounds, however long.", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 0, "Of all chance.", lower_bound=0)
CASE = flags.DEFINE_string("case", None, "Do this one case, KIND:NUMBER, again.")
ONLY = flags.DEFINE_list("only", [], "Kinds of case, a wrong one tells which there are. []: all.")
BATCH = flags.DEFINE_integer("batch", 60, "Inputs of each kind in a round.", lower_bound=1)
NAMES = flags.DEFINE_list("commands", [], "Commands to kill and to fail. []: all.")
LANES = flags.DEFINE_integer("lanes", 2, "Processes side by side.", lower_bound=1)
LISTED = flags.DEFINE_integer("listed", 5, "Failures to print of each kind and outcome.")


def main() -> None:
    """Makes the scene, does the cases, and tells; also when it is interrupted."""
    console, tally, start = Console(), Tally(), time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends what it has forked, too
    folder = Path(tempfile.mkdtemp(prefix="campaign-"))
    try:
        _run(folder, console, tally, start)
    finally:
        _remove(folder)
        _tell(tally, console, f"seed {SEED.value}, {(time.monotonic() - start) / 60:.1f} minutes")
    if tally.wrong:
        raise UserError(f"{len(tally.wrong)} cases are wrong")


def _tell(tally: Tally, console: Console, title: str) -> None:
    """What came of what was done so far."""
    if tally.cases and not CASE.value:
        console.print(tally.table(title))
    chosen = f" --commands={','.join(NAMES.value)}" if NAMES.value else ""
    for line in tally.failures(LISTED.value, chosen):
        print(line)


def _run(folder: Path, console: Console, tally: Tally, start: float) -> None:
    """Does the cases in `folder`, one after another into `tally`."""
    from benchmarks.campaign import rounds
    from benchmarks.campaign.lanes import run_jobs
    from benchmarks.campaign.scene import COMMANDS, Scene

    only = [CASE.value.partition(":")[0]] if CASE.value else ONLY.value or list(rounds.KINDS)
    if unknown := [kind for kind in only if kind not in rounds.KINDS]:
        raise UsageError(f"no such kind: {', '.join(unknown)}; there are {', '.join(rounds.KINDS)}")
    options = rounds.Options(
        SEED.value,
        start + 60 * MINUTES.value,
        ROUNDS.value,
        BATCH.value,
        NAMES.value or tuple(COMMANDS),
    )
    with console.status("making frames, records and a run"):
        stage = Scene(folder / "scene", rounds.disturbed(only, options)).make()
    jobs = iter([rounds.one_case(CASE.value)]) if CASE.value else rounds.schedule(only, options)
    with _bar(console) as progress:
        task = progress.add_task("", total=None)
        told = time.monotonic()
        for result in run_jobs(jobs, lambda case: rounds.do(case, stage), LANES.value):
            tally.add(result)
            progress.update(task, description=_line(tally))
            progress.refresh()
            if not console.is_terminal and time.monotonic() > told + 60:
                told = time.monotonic()
                print(_line(tally), flush=True)
            if CASE.value:
                console.print(f"{result.outcome} {result.text}", markup=False, soft_wrap=True)
    print(_line(tally))


def _bar(console: Console) -> Progress:
    # Not refreshed by a thread: processes are forked while it is shown.
    return Progress(
        TimeElapsedColumn(), BarColumn(), TextColumn("{task.description}"), console=console,
        transient=True, auto_refresh=False, disable=not console.is_terminal,
    )  # fmt: skip


def _line(tally: Tally) -> str:
    from benchmarks.campaign.rounds import INPUTS, faults, kills

    return (
        f"{tally.count(INPUTS)} inputs, {tally.count(kills.KINDS)} kills, "
        f"{tally.count(faults.KINDS)} faults, {len(tally.wrong)} wrong"
    )


def _remove(folder: Path) -> None:
    """The folder, and the disks that a killed case has left mounted in it."""
    for line in Path("/proc/mounts").read_text().splitlines():
        if (place := line.split()[1]).startswith(f"{folder}/"):
            subprocess.run(["umount", "-l", place], capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    runner.run(main)
