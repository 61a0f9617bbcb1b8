"""--compare_labels: what was found beside what is there, frame by frame, and the counts."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from rich import box
from rich.table import Table

from efficientdet.dataset.file_names import file_name
from efficientdet.dataset.kitti import read_labels
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.tfrecord import expand_pattern
from efficientdet.errors import UserError
from efficientdet.evaluation.frames import FrameDetections, FrameTruth
from efficientdet.evaluation.verdict import FrameVerdict, judge, min_overlap
from efficientdet.inference.truths import read_truths
from efficientdet.input.images import is_record
from efficientdet.wording import counted


class ComparedLabels:
    """The labels of images, and what became of them.

    Args:
        where: folder of label files (`label_2`, or the KITTI root above it), or records.
        names: what the images are called, see `file_name`.

    Attributes:
        missing: names of images without a label.

    Raises:
        UserError: a bad label, or none for any of the images.
    """

    def __init__(self, where: str, names: Iterable[str], label_map: LabelMap):
        self._where, self._label_map = where, label_map
        names = list(names)
        read = _of_record if is_record(where) else _of_folder
        self._truths = read(where, names, label_map)
        self.missing = [name for name in names if name not in self._truths]
        if names and not self._truths:
            raise UserError(
                f"--compare_labels={where}: no label for any of the images, such as "
                f"{names[0]}.txt; name their label_2 folder, or the record that holds them"
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


def _of_record(where: str, names: list[str], label_map: LabelMap) -> dict[str, FrameTruth]:
    wanted = set(names)
    truths = read_truths(expand_pattern(where), label_map, strict=False)
    by_name = {file_name(truth.source_id): truth for truth in truths}
    return {name: truth for name, truth in by_name.items() if name in wanted}


def _of_folder(where: str, names: list[str], label_map: LabelMap) -> dict[str, FrameTruth]:
    """Text does not tell the size of an image: width and height are 0."""
    path = Path(where)
    folders = (path / "training/label_2", path / "label_2", path)
    folder = next(filter(Path.is_dir, folders), None)
    if folder is None:
        raise UserError(f"--compare_labels={where}: no such folder, and no record either")
    files = {name: folder / f"{name}.txt" for name in names}
    return {
        name: FrameTruth(name, 0, 0, read_labels(file))
        for name, file in files.items()
        if file.is_file()
    }
