"""The disk or the memory fails a command: one line that says where, and the repetition is whole."""

import errno
import functools
import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import tensorflow as tf

from benchmarks.campaign import commands
from benchmarks.campaign.case import Skip, Wrong
from benchmarks.campaign.commands import Done
from benchmarks.campaign.comparison import require_no_temporaries, require_same
from benchmarks.campaign.kills import choose_event, repeat, require_readable, told
from benchmarks.campaign.mutations import damage, damage_text, put
from benchmarks.campaign.scene import COMMANDS, Scene, inspect

_ERRNOS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS, errno.EDQUOT, errno.ENAMETOOLONG)
INSPECTED = ("val.record", "val.record.manifest.json")
_NAMED = ("run", ".record", "found", "events")  # an error of the disk says of what


def disk(chance: Random, scene: Scene, folder: Path) -> None:
    """A file cannot be made, renamed or removed, once or from then on."""
    name, work = _copy(chance, scene, folder / "work")
    event, count = choose_event(chance, scene, name, ("open ", "os."))
    number, lasts = chance.choice(_ERRNOS), chance.random() < 0.3
    fault = _Fault(event, count, OSError(number, os.strerror(number)), lasts)
    done = commands.run(COMMANDS[name][0](), work, disturb=fault)
    what = f"{name}: {errno.errorcode[number]} at {event!r} number {count}"
    with told(what, done):
        _require_line(done)
        if not lasts and not event.startswith(("os.remove", "os.rmdir")):
            require_no_temporaries(work)
    if event.startswith(("os.remove", "os.rmdir")) and not done.code:
        return  # what could not be removed is there still; the next start takes it
    _finish(name, scene, work, what, done)


def limit(chance: Random, scene: Scene, folder: Path) -> None:
    """No file may grow beyond some size: what a full disk is to Python and TensorFlow alike."""
    name, work = _copy(chance, scene, folder / "work")
    size = int(60_000 * 40 ** chance.random())
    limits = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size))
    done = commands.run(COMMANDS[name][0](), work, prepare=limits)
    what = f"{name}: no file over {size} bytes"
    _require_clean_end(name, scene, work, what, done)


def full(chance: Random, scene: Scene, folder: Path) -> None:
    """A disk that fills up (needs the permission to mount one)."""
    with _mounted(folder / "disk") as remount:
        name, work = _copy(chance, scene, folder / "disk/work")
        size = int(2 ** chance.uniform(12, 22))
        used = sum(path.stat().st_blocks * 512 for path in work.rglob("*"))
        remount(f"size={used + size}")
        done = commands.run(COMMANDS[name][0](), work)
        what = f"{name}: {size} bytes free"
        remount("size=256m")
        _require_clean_end(name, scene, work, what, done)


def read_only(chance: Random, scene: Scene, folder: Path) -> None:
    """A disk that cannot be written to (needs the permission to mount one)."""
    with _mounted(folder / "disk") as remount:
        name, work = _copy(chance, scene, folder / "disk/work")
        remount("ro")
        command = COMMANDS[name][0]()
        if name == "train" and chance.random() < 0.5:
            command = commands.Command(*command, "--skip_preflight")
        done = commands.run(command, work)
        remount("rw")
        with told(f"{name}: read-only", done):
            _require_line(done)
            if not done.code:
                raise Wrong("difference", "it wrote nothing, and says nothing of it")
        repeat(COMMANDS[name][0](), scene.reference(name), work, "after a read-only disk")


def memory(chance: Random, scene: Scene, folder: Path) -> None:
    """A step, an evaluation or a prediction finds no memory: a way out, or one line."""
    able = [name for name in ("train", "evaluate", "predict") if name in scene.commands]
    if not able:
        raise Skip("no command that computes")
    name = chance.choice(able)
    name, work = _copy(chance, scene, folder / "work", name)
    steps = ("TrainStep.__call__", "Detector._start") if name == "train" else ("Detector._start",)
    event = chance.choice(steps)
    error = tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
    times = chance.choice((1, 1, 99))
    fault = _Fault(event, chance.randrange(2), error, lasts=times > 1)
    done = commands.run(COMMANDS[name][0](), work, disturb=fault)
    with told(f"{name}: no memory at {event}", done):
        require_readable(done)
        if done.code not in (0, 1):
            raise Wrong("crash", f"exit code {done.code}")
        require_no_temporaries(work)


def damaged(chance: Random, scene: Scene, folder: Path) -> None:
    """A command finds one of its files damaged, whichever: success, or one line."""
    _, work = _copy(chance, scene, folder / "work", name := chance.choice((*scene.commands, "")))
    command = COMMANDS[name][0]() if name else inspect()
    path = chance.choice(sorted(path for path in work.rglob("*") if path.is_file()))
    data = path.read_bytes()
    is_text = path.suffix in (".txt", ".yaml", ".json", ".jsonl") or path.name == "checkpoint"
    if is_text and chance.random() < 0.7:
        data = damage_text(chance, data.decode(), ' ,:"\n')
    else:
        data = damage(chance, data)
    put(chance, path, data, pipes=path.suffix in (".png", ".txt") and "KIT" in path.parts)
    done = commands.run(command, work)
    with told(f"{name or 'inspect'} with {path.relative_to(work)} damaged", done):
        require_readable(done)
        if done.code not in (0, 1, 2):
            raise Wrong("crash", f"exit code {done.code}: {done.output[-300:]}")


class _Fault:
    """A Disturb: raises at one event, or from then on."""

    def __init__(self, event: str, count: int, error: Exception, lasts: bool):
        self._event, self._count, self._error = event, count, error
        self._lasts, self._begun = lasts, False

    def __call__(self, event: str, path: str, count: int) -> None:
        is_file = isinstance(self._error, OSError)
        if (event, count) == (self._event, self._count) or (
            self._begun and self._lasts and (bool(path) == is_file)
        ):
            self._begun = True
            if is_file:
                raise OSError(self._error.errno, self._error.strerror, path)
            raise self._error


def _copy(chance: Random, scene: Scene, work: Path, name: str | None = None) -> tuple[str, Path]:
    """A command of COMMANDS, and a folder with what it needs."""
    name = chance.choice(scene.commands) if name is None else name
    work.mkdir()
    return name, scene.copy(work, *(COMMANDS[name][1] if name else INSPECTED))


def _require_line(done: Done) -> None:
    """Success, or exit code 1 with one line that names a file or a folder."""
    require_readable(done)
    if done.code not in (0, 1):
        raise Wrong("crash", f"exit code {done.code}: {done.output[-300:]}")
    if done.code and not any(word in done.last_error for word in _NAMED):
        raise Wrong("unclear", f"of no file: {done.last_error[:300]}")


def _require_clean_end(name: str, scene: Scene, work: Path, what: str, done: Done) -> None:
    """One line at most, nothing half-written, and a repetition that is whole."""
    with told(what, done):
        _require_line(done)
        require_no_temporaries(work)
    _finish(name, scene, work, what, done)


def _finish(name: str, scene: Scene, work: Path, what: str, done: Done) -> None:
    """Where the command failed, it is repeated; where it did not, it has done all."""
    if done.code:
        repeat(COMMANDS[name][0](), scene.reference(name), work, what)
    else:
        with told(what, done):
            require_same(work, scene.reference(name))


@contextmanager
def _mounted(folder: Path) -> Iterator:
    """A disk of its own at `folder`; yields what changes its options."""

    def mount(options: str) -> None:
        words = ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]
        if subprocess.run(words, capture_output=True).returncode:
            raise Skip("no permission to mount")

    folder.mkdir()
    mount("size=256m")
    try:
        yield lambda options: mount(f"remount,{options}")
    finally:
        subprocess.run(["umount", "-l", str(folder)], capture_output=True)


KINDS = {
    "fault_input": damaged,
    "fault_disk": disk,
    "fault_limit": limit,
    "fault_full": full,
    "fault_read_only": read_only,
    "fault_memory": memory,
}
