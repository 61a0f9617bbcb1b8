"""KITTI text folders -> what the metrics take in."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from efficientdet.dataset.kitti import CLASSES, DONT_CARE
from efficientdet.dataset.kitti_columns import Columns, read_columns
from efficientdet.errors import UserError
from efficientdet.evaluation.frames import FrameDetections, FrameTruth, ObjectRows
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
        source_ids = sorted(_ids(folder) or _ids(folder, deep=True))
    if not source_ids:
        raise UserError(f"{folder}: no label file; expected a folder such as training/label_2")
    read = read_columns(_paths(folder, source_ids), scored=False, names=_CLASS_IDS)
    return [
        FrameTruth(source_id, 0, 0, ObjectRows(*columns))
        for source_id, columns in _progress(source_ids, read, "Labels")
    ]


def read_result_folder(folder: Path, source_ids: Sequence[str]) -> ResultFolder:
    """Detections of `source_ids`: `<source_id>.txt` with 16 columns, empty where nothing was found.

    Raises:
        UserError: no folder, a bad line (named), or files of which not one is wanted.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; expected result files such as 000007.txt")
    present = _ids(folder, deep=True)
    wanted = [source_id for source_id in source_ids if source_id in present]
    if present and not wanted:
        raise UserError(
            f"{folder}: {min(present)}.txt and {len(present) - 1} more, but no file for any of the "
            f"{len(source_ids)} frames, such as {source_ids[0]}.txt; these are results of others"
        )
    read = read_columns(_paths(folder, wanted), scored=True, names=_CLASS_IDS)
    return ResultFolder(
        [
            _detections(source_id, *columns)
            for source_id, columns in _progress(wanted, read, "Results")
        ],
        missing=[source_id for source_id in source_ids if source_id not in present],
        unwanted=sorted(f"{name}.txt" for name in present.difference(source_ids)),
    )


def _detections(source_id: str, types: Sequence[str], numbers: np.ndarray) -> FrameDetections:
    ids = np.array([_CLASS_IDS[name] for name in types], int)
    return FrameDetections(source_id, numbers[:, 3:7], numbers[:, -1], ids)


def _ids(folder: Path, *, deep: bool = False) -> set[str]:
    """`000007`: the text files in a folder; `deep`: inside its folders, too, as `drive0/000007`."""
    ids: set[str] = set()
    for path, folders, files in os.walk(folder):
        inside = "" if Path(path) == folder else f"{Path(path).relative_to(folder).as_posix()}/"
        ids |= {f"{inside}{name[:-4]}" for name in (*folders, *files) if name.endswith(".txt")}
        if not deep:
            break
    return ids


def _paths(folder: Path, source_ids: Sequence[str]) -> list[str]:
    start = str(folder / "_")[:-1]  # joining each of thousands would take longer than reading it
    return [f"{start}{source_id}.txt" for source_id in source_ids]


def _progress(
    source_ids: Sequence[str], read: Iterator[Columns], description: str
) -> Iterable[tuple[str, Columns]]:
    """Ids and columns, with a bar where someone watches and it takes more than a moment."""
    shown = len(source_ids) >= 20_000
    return zip(source_ids, track(read, description, len(source_ids), shown=shown), strict=True)
