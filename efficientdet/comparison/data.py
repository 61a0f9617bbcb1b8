"""What runs were trained and judged on: the prints of their records, and what manifests count."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efficientdet.comparison.runs import StoredRun
from efficientdet.dataset.manifest import Manifest, manifest_path
from efficientdet.errors import UserError
from efficientdet.input.record_set import RecordSet
from efficientdet.run.record_prints import Prints, is_same

ROLES = ("train", "val")


@dataclass(frozen=True)
class RecordGroup:
    """Runs on the same records.

    Attributes:
        names: of the runs.
        facts: a row each: what, of the training and of the validation records.
        classes: a row each: class, objects in both; empty where no manifest is found.
    """

    names: list[str]
    facts: list[tuple[str, str, str]]
    classes: list[tuple[str, str, str]]


def record_groups(runs: Sequence[StoredRun], records: RecordSet | None) -> list[RecordGroup]:
    """The runs by their records; those that do not tell theirs together.

    Args:
        records: for validation, beside which manifests are looked for as well.
    """
    groups: list[list[StoredRun]] = []
    for run in runs:
        same = (g for g in groups if all(_is_same_role(run, g[0], role) for role in ROLES))
        if (group := next(same, None)) is None:
            groups.append([run])
        else:
            group.append(run)
    return [_group(group, records) for group in groups]


def _is_same_role(run: StoredRun, other: StoredRun, role: str) -> bool:
    return is_same(run.prints.get(role, []), other.prints.get(role, []))


def _group(runs: Sequence[StoredRun], records: RecordSet | None) -> RecordGroup:
    prints = [runs[0].prints.get(role, []) for role in ROLES]
    found = [
        _manifest(of_role, _folders(runs, role, records))
        for role, of_role in zip(ROLES, prints, strict=True)
    ]
    rows = {
        "records": [_listed([one["name"] for one in p]) for p in prints],
        "bytes": [f"{sum(one['num_bytes'] for one in p):,}" if p else "" for p in prints],
        "SHA-256": [_listed([one["sha256"][:12] for one in p if one["sha256"]]) for p in prints],
        "images": [f"{m.num_examples:,}" if m else "" for m in found],
        "frames": [m.origin if m else "" for m in found],
        "drives": [f"{len(m.drives):,}" if m and m.drives else "" for m in found],
    }
    names = dict.fromkeys(name for m in found if m for name in m.class_counts)
    classes = [
        (name, *(f"{m.class_counts.get(name, 0):,}" if m else "" for m in found)) for name in names
    ]
    facts = [(name, *texts) for name, texts in rows.items() if any(texts)]
    return RecordGroup([run.name for run in runs], facts, classes)


def _folders(runs: Sequence[StoredRun], role: str, records: RecordSet | None) -> list[Path]:
    """Where these records lay, or may lie."""
    told: list[Any] = [line["records"].get(role, []) for run in runs for line in run.starts
                       if line.get("records")]  # fmt: skip
    files = [Path(str(file)) for one in told if isinstance(one, list) for file in one]
    files += records.files if records else []
    return list(dict.fromkeys(file.parent for file in files))


def _manifest(prints: Prints, folders: Sequence[Path]) -> Manifest | None:
    """That of these very records; None where it is not found."""
    for folder in folders if prints else ():
        paths = dict.fromkeys(manifest_path(folder / one["name"]) for one in prints)
        try:
            manifests = [Manifest.load(path) for path in paths if path.exists()]
        except UserError:
            continue
        shards = {(shard.name, shard.sha256) for one in manifests for shard in one.shards}
        if len(manifests) == 1 and shards == {(one["name"], one["sha256"]) for one in prints}:
            return manifests[0]
    return None


def _listed(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - 3} more" if len(texts) > 3 else ""
    return ", ".join(texts[:3]) + more
