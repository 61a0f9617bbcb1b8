"""The HTML report of an evaluation: metrics, curves, misses, and the worst frames with boxes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from efficientdet.atomic import atomic_open
from efficientdet.evaluation.coco import SUMMARY
from efficientdet.evaluation.evaluate import MODERATE_MEAN, Result, kitti_metrics
from efficientdet.evaluation.frames import box_array
from efficientdet.evaluation.mistakes import PROPERTIES, FrameMistakes
from efficientdet.visualize.curves import coco_figure, kitti_figure
from efficientdet.visualize.drawing import Colour, draw_boxes
from efficientdet.visualize.html import figure_png, image_uri, render

MISSED: Colour = (255, 70, 70)
FALSE: Colour = (255, 176, 0)
FOUND: Colour = (0, 200, 130)


def write(
    path: str | Path, result: Result, images: Mapping[str, np.ndarray], description: str
) -> None:
    """Writes one HTML file that needs no other.

    Args:
        path: the file.
        result: of `evaluation.evaluate.evaluate`.
        images: uint8 [H, W, 3] by source id, for `result.worst_frames`; one without its image is
            listed without a picture.
        description: which checkpoint was judged on which split: no AP means anything without.
    """
    with atomic_open(path) as file:
        file.write(to_html(result, images, description))


def to_html(result: Result, images: Mapping[str, np.ndarray], description: str) -> str:
    """The text of the report; arguments as in `write`."""
    names = result.label_map.names
    return render(
        "eval_report.html",
        description=description,
        num_frames=len(result.truths),
        num_detections=sum(len(frame.scores) for frame in result.detections),
        summary=result.coco.summary,
        precision_columns=SUMMARY[:6],
        recall_columns=SUMMARY[6:],
        coco_rows=[(names[i], result.coco.num_objects[i], result.coco.by_class(i)) for i in names],
        kitti_curves=result.kitti,
        kitti_mean=kitti_metrics(result.kitti).get(MODERATE_MEAN),
        operating_rows=[(names[i], result.operating_points.get(i)) for i in names],
        kitti_plot=figure_png(kitti_figure(result.kitti)) if result.kitti else "",
        coco_plot=figure_png(coco_figure(result.coco, names)),
        miss_tables=[_miss_table(result, name) for name in PROPERTIES],
        worst=[_worst(frame, images.get(frame.source_id), names) for frame in result.worst_frames],
    )


def draw_mistakes(
    image: np.ndarray, frame: FrameMistakes, class_names: Mapping[int, str]
) -> np.ndarray:
    """A copy of `image` uint8 [H, W, 3]: found thin green, false orange, missed dashed red."""
    image = draw_boxes(image, frame.found, colours=FOUND, line_width=1)
    false = zip(frame.false_classes, frame.false_scores, strict=True)
    labels = [f"{class_names[int(i)]} {score:.2f}" for i, score in false]
    image = draw_boxes(image, frame.false, labels, FALSE)
    labels = [o.type for o in frame.missed]
    return draw_boxes(image, box_array(frame.missed), labels, MISSED, dashed=True)


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
    return {"frame": frame, "picture": drawn, "found": len(frame.found)}
