"""COCO's detection metrics by pycocotools: the 12 numbers of AutoML's tags, and AP by class.

Every image counts, also one without detections. A DontCare region, and an object whose type the
label map does not name, is a crowd region of every class: a detection with enough of its own area
inside is neither right nor wrong. The area that decides small (< 32x32), medium and large
(> 96x96) is that of the box in pixels of the original image.
"""

import contextlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from efficientdet.dataset.label_map import LabelMap
from efficientdet.evaluation.frames import FrameDetections, FrameTruth, align

SUMMARY = ("AP", "AP50", "AP75", "APs", "APm", "APl")
SUMMARY += ("ARmax1", "ARmax10", "ARmax100", "ARs", "ARm", "ARl")


@dataclass(frozen=True)
class CocoResult:
    """NaN stands where there is no ground truth to find.

    Attributes:
        summary: the 12 numbers by name, in [0, 1].
        num_objects: class id -> ground truths without crowds.
        precision: float [10, 101, K, 4], at IoU 0.5, 0.55, ..., recall 0, 0.01, ..., by class and
            by size (all, small, medium, large), with at most 100 detections an image.
        scores: float [10, 101, K, 4], the score at which that recall is reached; 0 beyond.
    """

    summary: dict[str, float]
    num_objects: dict[int, int]
    precision: np.ndarray
    scores: np.ndarray

    def by_class(self, class_id: int) -> dict[str, float]:
        """`AP`, `AP50`, `AP75`, `APs`, `APm`, `APl` of one class."""
        of_class = self.precision[:, :, class_id - 1]
        means = of_class.mean(axis=(0, 1))
        values = (means[0], of_class[0, :, 0].mean(), of_class[5, :, 0].mean(), *means[1:])
        return dict(zip(SUMMARY, map(float, values), strict=False))


def evaluate(
    truths: Sequence[FrameTruth], detections: Iterable[FrameDetections], label_map: LabelMap
) -> CocoResult:
    """COCO metrics of `detections`, whose classes are ids of `label_map`."""
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        evaluation = COCOeval(
            _dataset(truths, _truth_annotations(truths, label_map), label_map),
            _dataset(truths, _detection_annotations(align(truths, detections)), label_map),
            iouType="bbox",
        )
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    precision, scores = (evaluation.eval[key][..., -1] for key in ("precision", "scores"))
    precision = np.where(precision < 0, np.nan, precision)
    stats = np.where(evaluation.stats < 0, np.nan, evaluation.stats)
    types = [label_map.id_of(o.type) for truth in truths for o in truth.objects]
    return CocoResult(
        summary=dict(zip(SUMMARY, stats.tolist(), strict=True)),
        num_objects={i: types.count(i) for i in label_map.names},
        precision=precision,
        scores=scores,
    )


def _dataset(truths: Sequence[FrameTruth], annotations: list[dict], label_map: LabelMap) -> COCO:
    """A COCO index; image ids are 1 + the frame's position, annotation ids count from 1."""
    coco = COCO()
    coco.dataset = {
        "images": [{"id": i, "file_name": t.source_id} for i, t in enumerate(truths, start=1)],
        "categories": [{"id": i, "name": name} for i, name in label_map.names.items()],
        "annotations": [{"id": i} | a for i, a in enumerate(annotations, start=1)],
    }
    coco.createIndex()
    return coco


def _truth_annotations(truths: Sequence[FrameTruth], label_map: LabelMap) -> list[dict]:
    annotations = []
    for image_id, truth in enumerate(truths, start=1):
        for o in truth.objects:
            class_id = label_map.id_of(o.type)
            annotation = _annotation(image_id, o.left, o.top, o.right, o.bottom)
            annotation["iscrowd"] = int(class_id is None)
            for category in label_map.names if class_id is None else (class_id,):
                annotations.append(annotation | {"category_id": category})
    return annotations


def _detection_annotations(detections: Sequence[FrameDetections]) -> list[dict]:
    return [
        _annotation(image_id, *box) | {"category_id": category, "score": score}
        for image_id, frame in enumerate(detections, start=1)
        for box, score, category in zip(
            np.asarray(frame.boxes, float).tolist(),
            np.asarray(frame.scores, float).tolist(),
            np.asarray(frame.classes, int).tolist(),
            strict=True,
        )
    ]


def _annotation(image_id: int, left: float, top: float, right: float, bottom: float) -> dict:
    width, height = right - left, bottom - top
    return {"image_id": image_id, "bbox": [left, top, width, height], "area": width * height}
