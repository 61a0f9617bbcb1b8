"""--compare_labels: what was found beside what is there, frame by frame, and the counts."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich import box
from rich.table import Table

from efficientdet.dataset.file_names import file_name
from efficientdet.dataset.kitti import KittiObject, read_labels
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.tfrecord import expand_pattern
from efficientdet.errors import UserError
from efficientdet.evaluation.frames import FrameDetections, FrameTruth
from efficientdet.evaluation.verdict import FrameVerdict, judge, min_overlap
from efficientdet.inference.truths import read_truths
from efficientdet.input.images import InputImage, file_of, is_record
from efficientdet.wording import counted

logger = logging.getLogger(__name__)


class ComparedLabels:
    """The labels of images, and what became of them.

    Args:
        where: folder of label files (`label_2`, or the KITTI root above it), or records.
        images: what they are beside; `cam1/0001.png` has the label `cam1/0001`, else `0001`.

    Attributes:
        missing: names of images without a label.

    Raises:
        UserError: a bad label, or none for any of the images.
    """

    def __init__(self, where: str, images: Sequence[InputImage], label_map: LabelMap):
        self._label_map = label_map
        ids = {image.stem: _ids(image) for image in images}
        read = _of_record if is_record(where) else _of_folder
        self._truths = read(where, ids, label_map)
        self.missing = [name for name in ids if name not in self._truths]
        if ids and not self._truths:
            raise UserError(
                f"--compare_labels={where}: no label for any of the images, such as "
                f"{images[0].stem}.txt; name their label_2 folder, or the record that holds them"
            )
        self._counts = np.zeros((label_map.num_classes + 1, 3), int)
        self._num_frames = 0

    def judge(self, shown: FrameDetections) -> FrameVerdict | None:
        """The verdict on one frame, which is counted; None for one without a label.

        Args:
            shown: its detections of at least the score threshold.
        """
        if (truth := self._truths.get(shown.source_id)) is None:
            return None
        verdict = judge(truth, shown, self._label_map)
        self._counts += verdict.counts(self._label_map)
        self._num_frames += 1
        return verdict

    def line(self) -> str:
        """The counts in a line."""
        found, missed, false = self._counts.sum(axis=0)
        return (
            f"beside the labels of {counted(self._num_frames, 'image')}: {found:,} found, "
            f"{missed:,} missed, {counted(int(false), 'false alarm')}"
        )

    def table(self) -> Table:
        """The counts by class; those without any are left out."""
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for column in ("class", "objects", "found", "missed", "false", "least IoU"):
            table.add_column(column, justify="left" if column == "class" else "right")
        for class_id, name in self._label_map.names.items():
            found, missed, false = self._counts[class_id].tolist()
            if found or missed or false:
                numbers = (found + missed, found, missed, false)
                table.add_row(name, *map(str, numbers), f"{min_overlap(name):g}")
        return table


def _ids(image: InputImage) -> list[str]:
    """Ids that the label of an image may have, the most precise first."""
    if (file := file_of(image)) is None:
        return [image.stem]
    parts = (*file.absolute().parts[1:-1], file.stem)
    return ["/".join(parts[first:]) for first in range(len(parts))]


def _of_record(
    where: str, ids: Mapping[str, Iterable[str]], label_map: LabelMap
) -> dict[str, FrameTruth]:
    truths = read_truths(expand_pattern(where), label_map, strict=False)
    by_id = {file_name(truth.source_id): truth for truth in truths}
    found = {name: next(filter(by_id.__contains__, those), None) for name, those in ids.items()}
    return {name: replace(by_id[i], source_id=name) for name, i in found.items() if i}


def _of_folder(
    where: str, ids: Mapping[str, Iterable[str]], label_map: LabelMap
) -> dict[str, FrameTruth]:
    """Text does not tell the size of an image: width and height are 0."""
    path = Path(where)
    folders = (path / "training/label_2", path / "label_2", path)
    folder = next(filter(Path.is_dir, folders), None)
    if folder is None:
        raise UserError(f"--compare_labels={where}: no such folder, and no record either")
    objects: dict[str, list[KittiObject]] = {}
    for name, those in ids.items():
        files = (folder / f"{label_id}.txt" for label_id in those)
        if file := next(filter(Path.is_file, files), None):
            objects[name] = read_labels(file, scored=None)
    if scored := sum(any(x.score is not None for x in those) for those in objects.values()):
        logger.warning(
            f"{where}: a score, which no ground truth has, in {counted(scored, 'file')}; it is "
            "dropped"
        )
    return {name: FrameTruth(name, 0, 0, those) for name, those in objects.items()}
