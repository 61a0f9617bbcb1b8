"""records.json: the files that a run was trained and evaluated on, to tell when they changed."""

import itertools
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efficientdet.atomic import atomic_open
from efficientdet.input.record_set import RecordSet

logger = logging.getLogger(__name__)

FILE_NAME = "records.json"
_EFFECT = {
    "train": "training goes on with what is there now, so the run is no longer one that can be "
    "repeated bit for bit",
    "val": "what was scored before does not compare with what is scored now",
}
Print = dict[str, Any]
Prints = list[Print]


def fingerprint(records: RecordSet) -> Prints:
    """Name, size in bytes and SHA-256 of each file; "" where no manifest tells the latter."""
    shards = records.manifest.shards if records.manifest else []
    known = {(shard.name, shard.num_bytes): shard.sha256 for shard in shards}
    sizes = [(file.name, file.stat().st_size) for file in records.files]
    return [
        {"name": name, "num_bytes": size, "sha256": known.get((name, size), "")}
        for name, size in sizes
    ]


def tell_changes(model_dir: Path, sets: Mapping[str, RecordSet | None]) -> None:
    """Says of each of `sets` (`train`, `val`) that is not what the run had at its last start."""
    path = model_dir / FILE_NAME
    stored = read(model_dir)
    if path.exists() and not stored:
        logger.warning(f"{path}: not readable, so the records are not compared with it")
    for role, records in sets.items():
        if records is None or role not in stored:
            continue
        changed = _changes(stored[role], fingerprint(records))
        if changed:
            before, now = map(_told, changed[0])
            logger.warning(
                f"the {role} records changed since the run's last start: there was {before}, now "
                f"there is {now}; {_EFFECT[role]}"
            )


def write(model_dir: Path, sets: Mapping[str, RecordSet | None]) -> None:
    """Stores the fingerprints of `sets`; what this start does not use stays as it was."""
    path = model_dir / FILE_NAME
    prints = {role: fingerprint(records) for role, records in sets.items() if records}
    stored = read(model_dir)
    if stored | prints != stored:
        with atomic_open(path) as file:
            json.dump(stored | prints, file, indent=1)
            file.write("\n")


def read(model_dir: Path) -> dict[str, Prints]:
    """The stored fingerprints by role; empty where there are none that can be read."""
    path = model_dir / FILE_NAME
    if not path.exists():
        return {}
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        for one in itertools.chain(*stored.values()):
            one["name"] + one["sha256"], one["num_bytes"] + 0
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    return stored


def is_same(before: Prints, now: Prints) -> bool:
    """Whether both are of the same files, as far as can be known."""
    return not _changes(before, now)


def _changes(before: Prints, now: Prints) -> list[tuple[Print | None, Print | None]]:
    pairs = itertools.zip_longest(before, now)
    return [pair for pair in pairs if not _is_same(*pair)]


def _is_same(before: Print | None, now: Print | None) -> bool:
    """By the bytes, or else, as far as can be known, by name and size."""
    if before is None or now is None:
        return False
    if before["sha256"] and now["sha256"]:
        return before["sha256"] == now["sha256"]
    return (before["name"], before["num_bytes"]) == (now["name"], now["num_bytes"])


def _told(one: Print | None) -> str:
    if one is None:
        return "none"
    digest = f", SHA-256 {one['sha256'][:8]}" if one["sha256"] else ""
    return f"{one['name']} ({one['num_bytes']} bytes{digest})"
