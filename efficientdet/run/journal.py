"""journal.jsonl: how a run was started, how each start ended, and what a lack of memory changed.

A line is `{"kind": "start" | "memory" | "end", "time": "2026-03-04T05:06:07+00:00", ...}`.
"""

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import efficientdet
from efficientdet.errors import UserError
from efficientdet.run.metrics_log import append_line

FILE_NAME = "journal.jsonl"
_PACKAGES = ("tensorflow", "jax", "keras", "numpy")
Line = dict[str, Any]


def this_command() -> Line:
    """How this process was started: `argv` as typed, `cwd`, and the `versions` that it has."""
    versions = {"efficientdet": efficientdet.__version__, "python": platform.python_version()}
    for name in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    argv = list(sys.orig_argv)
    if backend := os.environ.get("KERAS_BACKEND"):  # part of what decides the result
        argv.insert(0, f"KERAS_BACKEND={backend}")
    return {"argv": argv, "cwd": os.getcwd(), "versions": versions}  # noqa: PTH109


def write(model_dir: Path, kind: str, values: Mapping[str, Any]) -> None:
    """Adds one line."""
    line = {"kind": kind, "time": datetime.now(UTC).isoformat(timespec="seconds"), **values}
    append_line(model_dir / FILE_NAME, line)


@contextmanager
def start(model_dir: Path, records: Mapping[str, Sequence[Path]]) -> Iterator[None]:
    """Writes down that this process trains here, and, when it leaves, how that ended.

    A process that was killed leaves no end.

    Args:
        records: the files of `train` and `val`.
    """
    files = {role: [str(path.resolve()) for path in paths] for role, paths in records.items()}
    write(model_dir, "start", this_command() | {"records": files})
    how = "done"
    try:
        yield
    except KeyboardInterrupt:
        how = "interrupted"
        raise
    except BaseException as error:
        how = str(error) or type(error).__name__
        raise
    finally:
        with suppress(OSError):  # on a full disk it is the other error that matters
            write(model_dir, "end", {"how": how})


def read(model_dir: Path) -> list[Line]:
    """All lines, in their order; what is no line of a journal is left out.

    Raises:
        UserError: the file cannot be read.
    """
    path = model_dir / FILE_NAME
    if not path.exists():
        return []
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    return [line for line in map(_parse, text.splitlines()) if line]


_FIELDS = {"argv": list, "cwd": str, "versions": dict, "records": dict, "how": str, "changes": dict}


def _parse(text: str) -> Line | None:
    try:
        line = json.loads(text)
        is_sound = isinstance(line["kind"], str) and isinstance(line["time"], str)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    fields = all(isinstance(line.get(name, kind()), kind) for name, kind in _FIELDS.items())
    return line if is_sound and fields else None
