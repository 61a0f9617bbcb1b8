"""The project's commands as real processes, forked; disturbed where a case says so.

An audit hook of the child sees every file that it makes, renames or removes before that happens:
the place for a kill or a fault that comes again at the very same moment.
"""

import importlib
import multiprocessing
import os
import re
import runpy
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[2]
TRACEBACK = "Traceback (most recent call last)"
SECONDS = 240  # a command takes 20 at most; the machine may be busy
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.link"}
# What has no file to show, and is an event all the same: module, class, method.
_MARKS = (
    ("efficientdet.dataset.record_writer", "RecordWriter", "write"),
    ("efficientdet.training.train_step", "TrainStep", "__call__"),
    ("efficientdet.inference.detector", "Detector", "evaluate_each"),
    ("efficientdet.inference.detector", "Detector", "detect"),
    ("efficientdet.inference.detector", "Detector", "_start"),
)
_fork = multiprocessing.get_context("fork")


class Command(tuple):
    """A script below the project's folder, and its arguments."""

    def __new__(cls, *words: str) -> "Command":
        """Makes it of its words."""
        return super().__new__(cls, words)

    def __str__(self) -> str:
        return " ".join(self)


@dataclass(frozen=True)
class Done:
    """A command that ended.

    Attributes:
        code: exit code, negative after a signal; None: killed because it did not end.
        output: stdout and stderr.
        events: what it did to files, in order; empty where it was killed.
    """

    code: int | None
    output: str
    events: list[str]

    @property
    def last_error(self) -> str:
        """The line that says what went wrong, and what follows it."""
        return self.output[self.output.rfind("error: ") :] if "error: " in self.output else ""


# Called in the child before each event: (its name, such as `os.rename val.record`, the path as the
# command gave it, how often this event came before).
Disturb = Callable[[str, str, int], None]


def run(
    command: Command,
    folder: Path,
    *,
    disturb: Disturb | None = None,
    prepare: Callable[[], None] = lambda: None,
    seconds: float = SECONDS,
) -> Done:
    """Runs a command in `folder`.

    Args:
        disturb: see `Disturb`; it may kill, or raise OSError in the place of the change.
        prepare: called in the child, before the command.
    """
    ours, theirs = _fork.Pipe(duplex=False)
    log = tempfile.TemporaryFile()  # noqa: SIM115 (not in `folder`, whose disk may be full)
    arguments = (command, folder, log.fileno(), theirs, disturb, prepare)
    process = _fork.Process(target=_child, args=arguments)
    process.start()
    theirs.close()
    events, deadline = [], time.monotonic() + seconds
    while ours.poll(max(0.0, deadline - time.monotonic())):
        try:
            events.append(ours.recv())
        except EOFError:
            break
    process.join(max(0.1, deadline - time.monotonic()))
    code = process.exitcode
    if code is None:
        process.kill()
        process.join()
    ours.close()
    with log:
        log.seek(0)
        return Done(code, log.read().decode(errors="replace"), events)


def _child(
    command: Command,
    folder: Path,
    output: int,
    pipe: Connection,
    disturb: Disturb | None,
    prepare: Callable[[], None],
) -> NoReturn:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.chdir(folder)
    forget_flags()
    script = ROOT / command[0]
    sys.argv = [str(script), *command[1:]]
    sys.path.insert(0, str(script.parent))
    _watch(folder, pipe, disturb)
    prepare()
    runpy.run_path(str(script), run_name="__main__")
    sys.exit(0)


def forget_flags() -> None:
    """Takes away the campaign's own flags: a command may have one of the same name."""
    from absl import flags

    for module, found in flags.FLAGS.flags_by_module_dict().items():
        if not module.startswith("absl"):
            for flag in list(found):
                delattr(flags.FLAGS, flag.name)


def _watch(folder: Path, pipe: Connection, disturb: Disturb | None) -> None:
    """Tells the parent of every change of a file below `folder`, and `disturb` before it."""
    home, seen = str(folder), {}

    def tell(name: str, path: str) -> None:
        count = seen[name] = seen.get(name, -1) + 1
        pipe.send(name)
        if disturb:
            disturb(name, path, count)

    def hook(event: str, arguments: tuple) -> None:
        if event == "open" and isinstance(arguments[0], str) and _is_writing(arguments[2]):
            path = arguments[0]
        elif event in _CHANGES:
            path = os.fspath(arguments[1 if event == "os.rename" else 0])
        else:
            return
        place = os.path.join(home, path)  # noqa: PTH118 (a Path would be slow here)
        if place.startswith(home + os.sep):
            tell(f"{event} {_without_numbers(place[len(home) + 1 :])}", path)

    sys.addaudithook(hook)
    for module, name, method in _MARKS:
        _mark(getattr(importlib.import_module(module), name), method, tell)


def _mark(kind: type, method: str, tell: Callable[[str, str], None]) -> None:
    """Lets `kind.method` tell of itself before it works."""
    work = getattr(kind, method)

    def marked(*args: object, **more: object) -> object:
        tell(f"{kind.__name__}.{method}", "")
        return work(*args, **more)

    setattr(kind, method, marked)


def _without_numbers(path: str) -> str:
    """Process ids and random letters out of temporary names, so that a repetition has the same."""
    return re.sub(r"(?<=[.])[0-9]+(?=[.]tmp)|tmp[a-z0-9_]{8}", "N", path)


def _is_writing(flags: int) -> bool:
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
