"""The HTML report of an evaluation: metrics and their changes, curves, misses, worst frames."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from efficientdet.atomic import atomic_open
from efficientdet.evaluation.coco import SUMMARY
from efficientdet.evaluation.evaluate import Result
from efficientdet.evaluation.frames import box_array
from efficientdet.evaluation.kitti import Curve
from efficientdet.evaluation.kitti_table import MODERATE_MEAN, kitti_metrics
from efficientdet.evaluation.mistakes import PROPERTIES, FrameMistakes
from efficientdet.visualize.curves import coco_figure, kitti_figure
from efficientdet.visualize.drawing import FALSE, FOUND, MISSED, draw_boxes
from efficientdet.visualize.html import figure_png, image_uri, render
from efficientdet.visualize.learning_curves import single_figures

Line = Mapping[str, Any]


@dataclass(frozen=True)
class Subject:
    """Whose evaluation it is: no AP means anything without.

    Attributes:
        checkpoint: its path; `step`: None where nothing tells.
        training: lines of the run's metrics.jsonl up to here; empty for a checkpoint of no run.
        evaluations: likewise; the last one is this evaluation.
    """

    model: str
    checkpoint: str
    step: int | None
    split: str
    date: datetime
    best_metric: str = "AP"
    training: Sequence[Line] = ()
    evaluations: Sequence[Line] = ()


def write(
    path: str | Path, result: Result, images: Mapping[str, np.ndarray], subject: Subject
) -> None:
    """Writes one HTML file that needs no other.

    Args:
        path: the file.
        result: of `evaluation.evaluate.evaluate`.
        images: uint8 [H, W, 3] by source id, for `result.worst_frames`; one without its image is
            listed without a picture.
    """
    with atomic_open(path) as file:
        file.write(to_html(result, images, subject))


def to_html(result: Result, images: Mapping[str, np.ndarray], subject: Subject) -> str:
    """The text of the report; arguments as in `write`."""
    names = result.label_map.names
    best, changes = _changes(subject)
    classes = dict.fromkeys(curve.class_name for curve in result.kitti if curve.num_objects)
    kitti = [[c for c in result.kitti if c.class_name == name] for name in classes]
    learning = single_figures(subject.training, subject.evaluations, best and best["step"])
    return render(
        "eval_report.html",
        subject=subject,
        num_frames=len(result.truths),
        num_detections=sum(len(frame.scores) for frame in result.detections),
        best=best,
        before=_comparable(subject)[-1:],
        changes=changes,
        learning_plots={title: figure_png(figure) for title, figure in learning.items()}
        if len(subject.evaluations) > 1 or subject.training
        else {},
        summary=result.coco.summary,
        precision_columns=SUMMARY[:6],
        recall_columns=SUMMARY[6:],
        coco_rows=[(names[i], result.coco.num_objects[i], result.coco.by_class(i)) for i in names],
        coco_absent=[name for i, name in names.items() if not result.coco.num_objects[i]],
        kitti_curves=result.kitti,
        kitti_absent=_absent_from_kitti(result.kitti),
        kitti_mean=kitti_metrics(result.kitti).get(MODERATE_MEAN),
        operating_rows=[(names[i], result.operating_points.get(i)) for i in names],
        kitti_plots=[figure_png(kitti_figure(curves)) for curves in kitti],
        coco_plots=[figure_png(coco_figure(result.coco, names, [iou])) for iou in (0.5, 0.75)],
        confusion=_confusion_table(result),
        miss_tables=[_miss_table(result, name) for name in PROPERTIES],
        worst=[_worst(frame, images.get(frame.source_id), names) for frame in result.worst_frames],
    )


def draw_mistakes(
    image: np.ndarray, frame: FrameMistakes, class_names: Mapping[int, str]
) -> np.ndarray:
    """A copy of `image` uint8 [H, W, 3]: found thin green, false orange, missed dashed red."""
    false = zip(frame.false_classes, frame.false_scores, strict=True)
    width = max(1, round(max(image.shape[:2]) / 640))
    kinds = (
        (frame.found, [""] * len(frame.found), FOUND, 1),
        (frame.false, [f"{class_names[int(i)]} {score:.2f}" for i, score in false], FALSE, width),
        (box_array(frame.missed), [o.type for o in frame.missed], MISSED, width),
    )
    counts = [len(boxes) for boxes, *_ in kinds]
    return draw_boxes(  # in one go: the labels keep off each other
        image,
        np.concatenate([boxes for boxes, *_ in kinds]),
        [label for _, labels, *_ in kinds for label in labels],
        [
            colour
            for (*_, colour, _), count in zip(kinds, counts, strict=True)
            for _ in range(count)
        ],
        dashed=np.repeat([False, False, True], counts),
        line_width=np.repeat([kind[-1] for kind in kinds], counts),
    )


def _absent_from_kitti(curves: Sequence[Curve]) -> list[str]:
    """`Tram`, or `Cyclist easy` where other difficulties of the class have objects."""
    known = {curve.class_name for curve in curves if curve.num_objects}
    absent = [curve for curve in curves if not curve.num_objects]
    names = (
        f"{curve.class_name} {curve.difficulty.name}"
        if curve.class_name in known
        else curve.class_name
        for curve in absent
    )
    return list(dict.fromkeys(names))


def _comparable(subject: Subject) -> list[Line]:
    """The run's evaluations before this one, of as many images."""
    if not subject.evaluations:
        return []
    *earlier, now = subject.evaluations
    count = now.get("num_images")
    return [line for line in earlier if line.get("num_images", count) == count]


def _changes(subject: Subject) -> tuple[Line | None, list[dict[str, Any]]]:
    """The best evaluation up to this one, this one included; and a row for each metric that counts.

    A row's `before` and `best` are differences to the evaluation before and to the best before.
    """
    if not subject.evaluations:
        return None, []
    now, earlier, name = subject.evaluations[-1], _comparable(subject), subject.best_metric
    sign = -1 if name.startswith("val_") else 1
    known = [line for line in (*earlier, now) if _is_number(line.get(name))]
    best = max(known, key=lambda line: sign * line[name], default=None)
    best_before = max(
        (line for line in known if line is not now), key=lambda x: sign * x[name], default=None
    )
    moderate = [n for n in now if n.startswith("kitti/") and n.endswith("_moderate_R40")]
    names = dict.fromkeys([name, *SUMMARY[:6], MODERATE_MEAN, *moderate, "val_det_loss"])
    rows = []
    for metric in (n for n in names if _is_number(now.get(n))):
        scale = 1 if metric.startswith("val_") else 100
        rows.append({"name": metric, "value": scale * now[metric], "less": scale == 1})
        for key, other in (("before", earlier[-1] if earlier else None), ("best", best_before)):
            known = other is not None and _is_number(other.get(metric))
            rows[-1][key] = scale * (now[metric] - other[metric]) if known else None
    return best, rows


def _is_number(value: float | None) -> bool:
    return value is not None and not math.isnan(value)


def _confusion_table(result: Result) -> dict[str, Any]:
    """Classes that occur; rows of counts with the share of their row, the background last."""
    matrix = result.mistakes.confusion(result.score_thresholds)
    names = result.label_map.names
    ids = [i for i in names if matrix[i].any() or matrix[:, i].any()]
    rows = []
    for row in (*ids, 0):
        total = max(1, matrix[row].sum())
        cells = [
            {"count": int(matrix[row, i]), "share": matrix[row, i] / total, "right": row == i}
            for i in (*ids, 0)
        ]
        rows.append((names.get(row), cells))
    return {"columns": [names[i] for i in ids], "rows": rows}


def _miss_table(result: Result, name: str) -> dict[str, Any]:
    """One property: its kinds as columns, and per class the misses of each kind, or None."""
    cells = {(m.class_name, m.kind): m for m in result.misses if m.property == name}
    kinds = [kind for kind in PROPERTIES[name][0] if any(key[1] == kind for key in cells)]
    present = [c for c in result.label_map.names.values() if any(key[0] == c for key in cells)]
    rows = [(c, [cells.get((c, kind)) for kind in kinds]) for c in present]
    return {"property": name, "kinds": kinds, "rows": rows}


def _worst(
    frame: FrameMistakes, image: np.ndarray | None, class_names: Mapping[int, str]
) -> dict[str, Any]:
    drawn = "" if image is None else image_uri(draw_mistakes(image, frame, class_names))
    width = 0 if image is None else image.shape[1]
    return {"frame": frame, "picture": drawn, "width": width, "found": len(frame.found)}
