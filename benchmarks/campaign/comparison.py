"""Is a folder, after all that happened in it, what it is after the undisturbed command?"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.campaign.case import Wrong
from efficientdet.checkpoint.bundle import DATA_SUFFIX, INDEX_SUFFIX, read_bundle
from efficientdet.run import scored_frames
from efficientdet.run.scored_frames import ScoredFrames

# TensorBoard's files have times in them and in their names; a lock says nothing afterwards; a
# journal tells of each start.
_UNCOMPARED = re.compile(r"events\.out\.tfevents|preflight\.png$|(^|[./])lock$|journal\.jsonl$")
_TEMPORARY = re.compile(r"\.tmp\b|\.part$|~$")
_LISTED = "run/checkpoint"  # which are kept
_DATE = re.compile(r"Evaluated on [-0-9]{10} \d\d:\d\d \w*")
_FOUND = ("boxes", "scores", "classes")
_TIMES = {"images_per_second", "data_wait", "rss_mb", "seconds", "digest"}


def require_same(folder: Path, reference: Path, *, stopped: bool = False) -> None:
    """Raises Wrong: temporary files, other files, or files of other content.

    Args:
        stopped: by a signal that let it save: one checkpoint more, for which an older one went.
    """
    require_no_temporaries(folder)
    found, expected = _files(folder), _files(reference)
    if stopped:
        newest = max(expected, key=_step)
        found, expected = (
            {name for name in names if _step(name) in (-1, _step(newest)) and name != _LISTED}
            for names in (found, expected)
        )
    if found != expected:
        raise Wrong("difference", f"too many {found - expected}, missing {expected - found}")
    for name in sorted(found):
        if not name.endswith(DATA_SUFFIX) and not _is_same(folder / name, reference / name):
            raise Wrong("difference", f"{name} is not what an undisturbed command writes")


def require_no_temporaries(folder: Path) -> None:
    """Raises Wrong where a temporary file or folder lies."""
    names = (str(path.relative_to(folder)) for path in folder.rglob("*"))
    if left := sorted(name for name in names if _TEMPORARY.search(name)):
        raise Wrong("left over", ", ".join(left[:5]))


def _files(folder: Path) -> set[str]:
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}
    return {name for name in names if not _UNCOMPARED.search(name)}


def _step(name: str) -> int:
    match = re.fullmatch(r"run/model\.ckpt-(\d+)\..*", name)
    return int(match[1]) if match else -1


def _is_same(path: Path, reference: Path) -> bool:
    if path.name.startswith("model.ckpt-") and path.name.endswith(INDEX_SUFFIX):
        prefixes = (str(file)[: -len(INDEX_SUFFIX)] for file in (path, reference))
        first, second = map(read_bundle, prefixes)
        return first.keys() == second.keys() and all(
            _without_times(first[name]) == _without_times(second[name])
            if name == "state/progress"
            else np.array_equal(first[name], second[name])
            for name in first
        )
    if path.suffix in (".json", ".jsonl") or path.name == "best_eval.txt":
        texts = [file.read_text() for file in (path, reference)]
        if path.suffix == ".jsonl":
            texts = [f"[{','.join(text.splitlines())}]" for text in texts]
        return _without_times(texts[0]) == _without_times(texts[1])
    if path.name == scored_frames.FILE_NAME:
        first, second = map(ScoredFrames.read, (path, reference))
        frames = zip(first.frames, second.frames, strict=True)
        return first.label_map == second.label_map and all(
            one.source_id == other.source_id
            and all(np.array_equal(getattr(one, name), getattr(other, name)) for name in _FOUND)
            for one, other in frames
        )
    if path.name == "report.html":
        first, second = (_DATE.sub("", file.read_text()) for file in (path, reference))
        return first == second
    return path.read_bytes() == reference.read_bytes()


def _without_times(text: Any) -> str:
    """JSON without what no two runs have alike."""
    text = text.item() if hasattr(text, "item") else text

    def drop(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return {key: value for key, value in pairs if key not in _TIMES}

    return json.dumps(json.loads(text, object_pairs_hook=drop))
