"""A process that dies between any two renames or removals, in the tests' own process."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from efficientdet import atomic


class Killed(BaseException):
    """As kill -9: nothing of the process happens after it, no cleaning up either."""


@contextmanager
def killed_at(monkeypatch: pytest.MonkeyPatch, call: int, *, after: bool) -> Iterator[list[str]]:
    """Inside, the process dies before or after so many renames and removals; lists those done."""
    done: list[str] = []

    def deadly(change: Callable) -> Callable:
        def changed(path, *args, **kwargs):
            if len(done) == call and not after:
                raise Killed
            if len(done) > call:
                raise Killed
            done.append(f"{change.__name__} {path}")
            result = change(path, *args, **kwargs)
            if len(done) > call:
                raise Killed
            return result

        return changed

    process = subprocess.Popen(["true"])
    process.wait()
    with monkeypatch.context() as patch:
        for name in ("replace", "unlink", "rename"):
            patch.setattr(Path, name, deadly(getattr(Path, name)))
        patch.setattr(os, "getpid", lambda: process.pid)  # a dead one
        patch.setattr(atomic, "_swept", set())
        yield done
    monkeypatch.setattr(atomic, "_swept", set())  # the next one is another process
