"""A command is killed at a chosen event, and given again: it ends as if nothing had been."""

import functools
import os
import signal
import threading
from pathlib import Path
from random import Random

from benchmarks.campaign import commands
from benchmarks.campaign.case import Wrong, what_is_unclear
from benchmarks.campaign.commands import Done
from benchmarks.campaign.comparison import require_no_temporaries, require_same
from benchmarks.campaign.scene import COMMANDS, Scene

AGAIN = 0.25  # how often the repetition is killed, too
LATEST = 0.05  # seconds after an event, where the kill does not come at once


def kill(name: str, chance: Random, scene: Scene, folder: Path) -> None:
    """Kills one of COMMANDS, once or twice, and repeats it."""
    command, needed = COMMANDS[name]
    work = folder / "work"
    work.mkdir()
    scene.copy(work, *needed)
    stopped = False
    for _ in range(1 + (chance.random() < AGAIN)):
        event, count = choose_event(chance, scene, name)
        number = chance.choice((signal.SIGKILL,) * 5 + (signal.SIGTERM, signal.SIGINT))
        delay = chance.choice((0, 0, chance.uniform(0, LATEST)))
        disturb = functools.partial(_send, number, delay, event, count)
        done = commands.run(command(), work, disturb=disturb)
        with told(f"{number.name} {delay:.3f} s after {event!r} number {count}", done):
            require_readable(done)
            if number != signal.SIGKILL:
                stopped = True
                require_no_temporaries(work)
    after = f"after {number.name} at {event!r}"
    repeat(command(), scene.reference(name), work, after, stopped=stopped)


def repeat(
    command: commands.Command, reference: Path, work: Path, after: str, *, stopped: bool = False
) -> None:
    """Gives the command again, undisturbed: it succeeds, and leaves what `reference` holds.

    Args:
        stopped: see `require_same`.
    """
    done = commands.run(command, work)
    with told(f"again, {after}", done):
        require_readable(done)
        if done.code:
            raise Wrong("difference", f"it ends with {done.code}: {done.output[-400:]}")
    with told(after, None):
        require_same(work, reference, stopped=stopped)


def choose_event(
    chance: Random, scene: Scene, name: str, of: tuple[str, ...] = ("",)
) -> tuple[str, int]:
    """An event of the undisturbed command and its number among the same; rare ones as often.

    Args:
        of: how its name starts.
    """
    events = [e for e in scene.events_file(name).read_text().splitlines() if e.startswith(of)]
    event = chance.choice(sorted(set(events)))
    return event, chance.randrange(events.count(event))


def require_readable(done: Done) -> None:
    """Raises Wrong where a command hung, crashed, or said what no user can read."""
    if done.code is None:
        raise Wrong("hang", f"over {commands.SECONDS} seconds: {done.output[-300:]}")
    if commands.TRACEBACK in done.output:
        raise Wrong("traceback", done.output[done.output.rfind(commands.TRACEBACK) :][-600:])
    if done.code < 0 and -done.code not in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        raise Wrong("crash", f"{signal.Signals(-done.code).name}: {done.output[-300:]}")
    error = done.last_error.strip()
    if done.code in (1, 2) and (unclear := what_is_unclear(error)):
        raise Wrong("unclear", f"{unclear}: {error[:400] or done.output[-400:]}")


class told:  # noqa: N801 (reads as a sentence)
    """Puts before the text of a Wrong what was done to the command."""

    def __init__(self, what: str, done: Done | None):
        self._what, self._done = what, done

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Wrong):
            raise Wrong(error.outcome, f"{self._what}: {error}") from None


def _send(
    number: signal.Signals, delay: float, event: str, count: int, name: str, path: str, at: int
) -> None:
    """A Disturb: the signal at, or soon after, one event."""
    if (name, at) != (event, count):
        return
    if delay:
        threading.Timer(delay, os.kill, (os.getpid(), number)).start()
    else:
        os.kill(os.getpid(), number)


KINDS = {f"kill_{name}": functools.partial(kill, name) for name in COMMANDS}
