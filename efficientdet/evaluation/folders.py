"""KITTI text folders -> what the metrics take in."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from efficientdet.dataset.kitti import CLASSES, DONT_CARE, KittiObject, read_labels
from efficientdet.errors import UserError
from efficientdet.evaluation.frames import FrameDetections, FrameTruth, box_array
from efficientdet.progress import track

# Any type may stand in a result file, and so each has an id.
CLASS_NAMES = dict(enumerate((*CLASSES, DONT_CARE), start=1))
_CLASS_IDS = {name: class_id for class_id, name in CLASS_NAMES.items()}


@dataclass(frozen=True)
class ResultFolder:
    """Detections of the wanted frames, and what was odd about the folder.

    Attributes:
        missing: wanted frames without a file; they count as frames without detections.
        unwanted: names of text files that belong to no wanted frame; they were not read.
    """

    detections: list[FrameDetections]
    missing: list[str]
    unwanted: list[str]


def read_label_folder(folder: Path, source_ids: Sequence[str] | None = None) -> list[FrameTruth]:
    """The ground truth of `source_ids`, by default of every `*.txt` in the folder.

    Where there is none, those in the folders inside it are taken: `drive0/000001`. Text does not
    tell the size of an image: width and height are 0.

    Raises:
        UserError: no label file, a wanted one is missing, or a bad line (named), such as one with a
            score.
    """
    if source_ids is None:
        source_ids = sorted(_ids(folder, "*.txt") or _ids(folder, "**/*.txt"))
    if not source_ids:
        raise UserError(f"{folder}: no label file; expected a folder such as training/label_2")
    return [
        FrameTruth(source_id, 0, 0, read_labels(folder / f"{source_id}.txt", names=_CLASS_IDS))
        for source_id in _progress(source_ids, "Labels")
    ]


def read_result_folder(folder: Path, source_ids: Sequence[str]) -> ResultFolder:
    """Detections of `source_ids`: `<source_id>.txt` with 16 columns, empty where nothing was found.

    Raises:
        UserError: no folder, a bad line (named), or files of which not one is wanted.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected result files such as 000007.txt")
    present = _ids(folder, "**/*.txt")
    wanted = [source_id for source_id in source_ids if source_id in present]
    if present and not wanted:
        raise UserError(
            f"{folder}: {min(present)}.txt and {len(present) - 1} more, but no file for any of the "
            f"{len(source_ids)} frames, such as {source_ids[0]}.txt; these are results of others"
        )
    return ResultFolder(
        [_read_results(folder, source_id) for source_id in _progress(wanted, "Results")],
        missing=[source_id for source_id in source_ids if source_id not in present],
        unwanted=sorted(f"{name}.txt" for name in present.difference(source_ids)),
    )


def as_detections(source_id: str, objects: Sequence[KittiObject]) -> FrameDetections:
    """Objects as detections with ids of `CLASS_NAMES`; without a score they count as certain."""
    return FrameDetections(
        source_id,
        box_array(objects),
        np.array([1.0 if o.score is None else o.score for o in objects], float),
        np.array([_CLASS_IDS[o.type] for o in objects], int),
    )


def _ids(folder: Path, pattern: str) -> set[str]:
    """`000007`, `drive0/000007`: the text files that match, without the folder and the ending."""
    paths = (path.relative_to(folder).with_suffix("") for path in folder.glob(pattern))
    return {path.as_posix() for path in paths}


def _read_results(folder: Path, source_id: str) -> FrameDetections:
    path = folder / f"{source_id}.txt"
    return as_detections(source_id, read_labels(path, scored=True, names=_CLASS_IDS))


def _progress(items: Sequence, description: str) -> Iterable:
    """The items, with a bar where someone watches and it takes more than a moment."""
    return track(items, description, shown=len(items) >= 1000)
