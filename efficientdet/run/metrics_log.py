"""metrics.jsonl: one JSON object a line, the one record of what a run has scored."""

import errno
import json
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efficientdet.atomic import atomic_open

logger = logging.getLogger(__name__)

Record = dict[str, Any]


class MetricsLog:
    """Lines `{"kind": "train" | "eval", "step": ..., "epoch": ..., <name>: <number>, ...}`."""

    def __init__(self, path: Path):
        self.path = Path(path)

    def append(self, kind: str, step: int, epoch: float | None, values: Mapping[str, Any]) -> None:
        """Adds one line; what is not a finite number becomes null, as JSON has no NaN."""
        finite = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in values.items()
        }
        epoch = None if epoch is None else round(epoch, 4)
        record = {"kind": kind, "step": step, "epoch": epoch, **finite}
        append_line(self.path, record)

    def read(self, kind: str | None = None) -> list[Record]:
        """All lines, or those of one kind; what is no line of this log is left out."""
        records = [record for _, record in self._lines() if record]
        return [record for record in records if kind in (None, record["kind"])]

    def truncate(self, step: float) -> None:
        """Drops what a crashed run logged after `step`, the checkpoint that is resumed.

        And what is no line of this log: without a word at the end, where a crash cut it short.
        """
        lines = self._lines()
        kept = [line for line, record in lines if record and record["step"] <= step]
        if len(kept) == len(lines) and all(line.endswith("\n") for line in kept):
            return
        strange = [number for number, (_, record) in enumerate(lines[:-1], 1) if not record]
        if strange:
            logger.warning(
                f"{self.path}:{strange[0]}: no line of metrics; {len(strange)} such are dropped"
            )
        with atomic_open(self.path) as file:
            file.writelines(line.rstrip("\n") + "\n" for line in kept)

    def _lines(self) -> list[tuple[str, Record | None]]:
        """Each line as it stands, and what it says; None where it is no line of this log."""
        if not self.path.exists():
            return []
        text = self.path.read_text(encoding="utf-8", errors="replace")
        return [(line, _record(line)) for line in text.splitlines(keepends=True)]


def append_line(path: Path, record: Mapping[str, Any]) -> None:
    """Adds `record` to a file as one line of JSON.

    Raises:
        OSError: names the file, also on a full disk.
    """
    line = (json.dumps(record) + "\n").encode()
    with path.open("ab", buffering=0) as file:  # one write: two processes mix no lines
        try:
            written = file.write(line)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from None
    if written < len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def _record(line: str) -> Record | None:
    try:
        record = json.loads(line)
        kind, step = record["kind"], record["step"]
        numbers = [value for name, value in record.items() if name != "kind" and value is not None]
        is_sound = isinstance(kind, str) and isinstance(step, int) and _are_numbers(numbers)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return record if is_sound else None


def _are_numbers(values: list[Any]) -> bool:
    """Whether all can be reckoned with; an integer of 400 digits cannot."""
    return all(isinstance(v, float) or isinstance(v, int) and abs(v) < 2**63 for v in values)
