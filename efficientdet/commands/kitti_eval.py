"""Judges folders of KITTI text files, such as a submission, by the official 2D AP.

    python -m efficientdet.commands.kitti_eval --labels=training/label_2 \\
        --results=results/data --split_file=ImageSets/val.txt
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from efficientdet.commands import runner  # isort: skip (says what is not installed)
from absl import flags
from rich.console import Console

from efficientdet.errors import UsageError, UserError

if TYPE_CHECKING:  # what starts within a moment imports when it knows what to do
    from efficientdet.evaluation.folders import ResultFolder
    from efficientdet.evaluation.frames import FrameTruth

_LABELS = flags.DEFINE_string("labels", None, "Folder of label files, such as training/label_2.")
_RESULTS = flags.DEFINE_string(
    "results", None, "Folder of result files, 16 columns; empty where nothing was found."
)
_SPLIT_FILE = flags.DEFINE_string(
    "split_file", None, "List of the frames to judge, one id a line; default: every label file."
)
_JSON = flags.DEFINE_string("json", None, "Also write the metrics to this file.")
_CURVES = flags.DEFINE_string("curves", None, "Also draw the precision-recall curves to this PNG.")
_SELF_CHECK = flags.DEFINE_bool(
    "self_check", False, "Judge the labels against themselves instead of --results."
)


def main() -> None:
    """Judges one folder of results, or checks the evaluation itself."""
    if not _LABELS.value:
        raise UsageError("--labels is missing: the folder of label files, such as training/label_2")
    if bool(_RESULTS.value) == _SELF_CHECK.value:
        raise UsageError("expected either --results=FOLDER or --self_check")
    from efficientdet.dataset.splits import read_split_file
    from efficientdet.evaluation.folders import read_label_folder, read_result_folder

    source_ids = read_split_file(_SPLIT_FILE.value) if _SPLIT_FILE.value else None
    truths = read_label_folder(Path(_LABELS.value), source_ids)
    console = Console()
    if _SELF_CHECK.value:
        _check(truths, console)
    else:
        results = read_result_folder(Path(_RESULTS.value), [truth.source_id for truth in truths])
        _judge(truths, results, console)


def _check(truths: Sequence["FrameTruth"], console: Console) -> None:
    from efficientdet.dataset.label_map import LabelMap
    from efficientdet.evaluation.self_check import check_table, self_check

    checks = self_check(truths, LabelMap.kitti())
    console.print(check_table(checks))
    if wrong := [check.name for check in checks if not check.passed]:
        raise UserError(f"{len(wrong)} of {len(checks)} checks failed, first: {wrong[0]}")


def _judge(truths: Sequence["FrameTruth"], results: "ResultFolder", console: Console) -> None:
    import numpy as np

    from efficientdet.evaluation import kitti
    from efficientdet.evaluation.folders import CLASS_NAMES
    from efficientdet.evaluation.kitti_table import kitti_metrics, kitti_table

    curves = kitti.evaluate(truths, results.detections, CLASS_NAMES)
    console.print(kitti_table(curves))
    ids = [frame.classes for frame in results.detections]
    found = np.bincount(np.concatenate([*ids, []]).astype(int), minlength=max(CLASS_NAMES) + 1)
    counts = ", ".join(f"{found[i]} {name}" for i, name in CLASS_NAMES.items() if found[i])
    console.print(f"{len(truths)} frames. Detections: {counts or 'none'}.")
    _warn(truths, results, console)
    if _JSON.value:
        from efficientdet.atomic import atomic_open

        with atomic_open(_JSON.value) as file:
            json.dump(kitti_metrics(curves), file, indent=2)
    if _CURVES.value:
        from efficientdet.visualize import curves as pictures  # matplotlib is slow to import

        pictures.save(pictures.kitti_figure(curves), _CURVES.value)


def _warn(truths: Sequence["FrameTruth"], results: "ResultFolder", console: Console) -> None:
    if results.missing:
        console.print(
            f"[yellow]warning:[/] no result file for {len(results.missing)} of {len(truths)} "
            f"frames, first {results.missing[0]}.txt; they count as frames without detections "
            "(KITTI's server wants a file for each, empty if need be; --split_file names the "
            "frames to judge)"
        )
    if results.unwanted:
        console.print(
            "[yellow]warning:[/] files of no frame that is judged, not read: "
            f"{len(results.unwanted)}, first {results.unwanted[0]}"
        )


if __name__ == "__main__":
    runner.run(main)
