"""What the folder of a run tells, read without changing it; what is missing is said, not an error.

A run may be in training: each file is read once, whole lines only.
"""

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from efficientdet.checkpoint.bundle import INDEX_SUFFIX, read_entry
from efficientdet.checkpoint.report import REPORT_FILE
from efficientdet.config import Config, flatten, load_yaml
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UsageError, UserError
from efficientdet.run import journal, record_prints
from efficientdet.run.checkpoints import CheckpointManager, Progress
from efficientdet.run.directory import RunDirectory
from efficientdet.run.history import History, Line
from efficientdet.run.lock import TRAINING, Holder

logger = logging.getLogger(__name__)

MOST_RUNS = 8  # that a page has room and colours for


@dataclass(frozen=True)
class StoredRun:
    """One run as it lies there.

    Attributes:
        name: short, and no other's on the page.
        config: by dotted name, as config.yaml has it; empty where there is none.
        history: what was logged.
        progress: of the newest checkpoint; None where none tells.
        prints: `train` and `val` records, see `record_prints`.
        journal: lines of journal.jsonl.
        weights: what it began with; None where nothing tells.
        trainer: the process that trains it now, or may: it is on another host.
        notes: what is missing or damaged, in sentences.
    """

    path: Path
    name: str
    config: Mapping[str, Any]
    label_map: LabelMap | None
    history: History
    progress: Progress | None
    prints: Mapping[str, record_prints.Prints]
    journal: Sequence[journal.Line]
    weights: str | None
    trainer: Holder | None
    notes: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path, name: str) -> "StoredRun":
        """Reads the folder `path`.

        Raises:
            UsageError: it is none of a run.
        """
        if not path.is_dir():
            raise UsageError(f"--model_dir={path}: no such folder; expected that of a run")
        if not any((path / n).exists() for n in ("config.yaml", "metrics.jsonl", "checkpoint")):
            raise UsageError(
                f"--model_dir={path}: no run: neither config.yaml nor metrics.jsonl is in it"
                f"{_runs_inside(path)}"
            )
        notes: list[str] = []

        def read(what: str, reader: Any, default: Any) -> Any:
            try:
                return reader()
            except (UserError, OSError, ValueError) as error:
                notes.append(f"{what} cannot be read: {error}")
                return default

        config = {}
        if (path / "config.yaml").exists():
            config = read("config.yaml", lambda: load_yaml(path / "config.yaml"), {})
        else:
            notes.append("config.yaml is not there, so its settings are not known")
        if not (path / record_prints.FILE_NAME).exists():
            notes.append("records.json is not there, so what it was trained on is not known")
        return cls(
            path,
            name,
            config,
            read("label_map.txt", lambda: RunDirectory(path).stored_label_map, None),
            read("metrics.jsonl", lambda: History.read(path), History()),
            _progress(path, notes),
            read("records.json", lambda: record_prints.read(path), {}),
            read("journal.jsonl", lambda: journal.read(path), []),
            read("restore_report.json", lambda: _weights(path), None),
            _trainer(path),
            notes,
        )

    @property
    def starts(self) -> list[journal.Line]:
        """Every start of its training, with the command that was typed."""
        return [line for line in self.journal if line["kind"] == "start"]

    @property
    def step(self) -> int:
        """The last one that anything tells of."""
        logged = [line["step"] for line in (*self.history.training[-1:], *self.evaluations[-1:])]
        return max([*logged, self.progress.step if self.progress else 0])

    @property
    def metric(self) -> str:
        """Its best_metric."""
        return str(self.config.get("best_metric", "AP"))

    @cached_property
    def evaluations(self) -> list[Line]:
        """Those on the most images: others do not compare with them."""
        lines = self.history.evaluations
        most = max((line.get("num_images") or 0 for line in lines), default=0)
        return [line for line in lines if line.get("num_images", most) == most]

    @property
    def best(self) -> Line | None:
        """The evaluation that its `metric` calls the best, or its last one where none has that."""
        known = [line for line in self.evaluations if line.get(self.metric) is not None]
        sign = -1 if self.metric.startswith("val_") else 1
        last = self.evaluations[-1] if self.evaluations else None
        return max(known, key=lambda line: sign * line[self.metric], default=last)

    @property
    def state(self) -> str:
        """In a few words: finished, in training, or where it stopped."""
        progress, epochs = self.progress, self.config.get("num_epochs")
        of = f" of {epochs}" if isinstance(epochs, int) else ""
        if self.trainer:
            where = f", on {self.trainer.host}" if not self.trainer.is_here else ""
            return f"in training{where} (since {self.trainer.since}), step {self.step:,}"
        if progress is None:
            return f"no checkpoint that tells; logged to step {self.step:,}"
        end = self.journal[-1].get("how") if self.journal else None
        if end == "done" or (isinstance(epochs, int) and progress.epoch >= epochs):
            early = f", of {epochs}" if progress.epoch != epochs and of else ""
            return f"finished after {_epochs(progress.epoch)}{early}"
        why = f" ({end})" if end and end != "done" else ""
        return f"stopped in epoch {progress.epoch + 1}{of}, at step {progress.step:,}{why}"


def read_runs(folders: Sequence[str]) -> tuple[list[StoredRun], list[str]]:
    """The runs in their order, each once, and what is odd about the list, in sentences.

    Raises:
        UsageError: no folder, one without a run, or more than `MOST_RUNS`.
    """
    notes, paths = [], {}
    for folder in folders:
        path = Path(folder)
        other = paths.setdefault(path.resolve(), path)
        if other is not path:
            notes.append(f"{folder} was named twice, or leads to {other}: it stands here once")
    if len(paths) > MOST_RUNS:
        raise UsageError(f"--model_dir names {len(paths)} runs; a page has room for {MOST_RUNS}")
    names = short_names(list(paths))
    pairs = zip(paths.values(), names, strict=True)
    return [StoredRun.read(path, name) for path, name in pairs], notes


def short_names(paths: Sequence[Path]) -> list[str]:
    """The last parts of each path, as many as tell it from the others: `a/exp`, `b/exp`."""
    longest = max((len(path.parts) for path in paths), default=1)
    names = []
    for path in paths:
        for count in range(1, longest + 1):
            tail = path.parts[-count:]
            if [other.parts[-count:] for other in paths].count(tail) == 1:
                break
        names.append("/".join(tail) or str(path))
    return names


def defaults(config: Mapping[str, Any]) -> dict[str, Any]:
    """What its model has where nobody says otherwise, by dotted name; empty for an unknown one."""
    try:
        return flatten(Config.for_model(str(config.get("name", "efficientdet-d1"))).to_dict())
    except UsageError:
        return {}


def _epochs(number: int) -> str:
    return f"{number} epoch" + "s" * (number != 1)


def _runs_inside(path: Path) -> str:
    inside = sorted(child.parent for child in path.glob("*/config.yaml"))
    return f"; say --model_dir={','.join(map(str, inside[:MOST_RUNS]))}" if inside else ""


def _progress(path: Path, notes: list[str]) -> Progress | None:
    """Of the newest checkpoint; training may drop one while it is looked at."""
    checkpoints = CheckpointManager(path)
    for step in reversed(checkpoints.steps()):
        prefix = checkpoints.prefix(step)
        try:
            text = read_entry(prefix, "state/progress")
            if text is None:
                continue
            return Progress.parse(text, prefix)
        except (UserError, OSError) as error:
            if Path(f"{prefix}{INDEX_SUFFIX}").exists():
                notes.append(f"{prefix.name} cannot be read: {error}")
    return None


def _weights(path: Path) -> str | None:
    """The checkpoint that restore_report.json names."""
    file = path / REPORT_FILE
    if not file.exists():
        return None
    found = json.loads(file.read_text(encoding="utf-8"))
    path = found.get("checkpoint") if isinstance(found, dict) else None
    return str(path) if path else None


def _trainer(path: Path) -> Holder | None:
    """Who holds the training lock; of another host it is not known whether it lives."""
    try:
        with (path / TRAINING).open("rb") as file:
            holder = Holder.read(file)
    except OSError:
        return None
    return holder if holder and (not holder.is_here or holder.is_alive) else None


def skipped_updates(path: Path) -> list[tuple[int, str]]:
    """Step and file of each batch that the guard against NaN kept."""
    files = (path / "bad_batches").glob("step-*.npz")
    matches = ((re.fullmatch(r"step-(\d+)\.npz", file.name), file) for file in files)
    return sorted((int(match[1]), str(file)) for match, file in matches if match)
