"""What a detector misses and what it invents at a score threshold, and in which frames.

A detection is right when it has the class of a ground truth and an IoU of at least 0.5 with it. As
in COCO's metric the better detections choose first, and DontCare and unnamed objects excuse.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from efficientdet.dataset.label_map import LabelMap
from efficientdet.evaluation.coco import Matching
from efficientdet.evaluation.confusion import confusion_matrix
from efficientdet.evaluation.frames import FrameTruth, LabelledObject

MIN_IOU = 0.5


@dataclass(frozen=True)
class OperatingPoint:
    """One class at one score threshold: detections of at least that score count."""

    threshold: float
    precision: float
    recall: float
    num_objects: int
    num_missed: int
    num_false: int

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.precision * self.recall / max(self.precision + self.recall, 1e-12)


@dataclass(frozen=True)
class Misses:
    """How many objects of one class and one kind, such as `distance` `15-30 m`, were missed."""

    class_name: str
    property: str
    kind: str
    num_objects: int
    num_missed: int


@dataclass(frozen=True)
class FrameMistakes:
    """The missed objects and the false detections of one frame.

    Attributes:
        missed: ground truths that no detection found.
        found: float [F, 4], left, top, right, bottom of the right detections, pixels.
        false: float [N, 4], the same of those that are wrong; `false_classes`, `false_scores` [N].
    """

    source_id: str
    missed: list[LabelledObject]
    found: np.ndarray
    found_classes: np.ndarray
    false: np.ndarray
    false_classes: np.ndarray
    false_scores: np.ndarray

    @property
    def count(self) -> int:
        """Missed and false together."""
        return len(self.missed) + len(self.false)


def _size(o: LabelledObject) -> str:
    left, top, right, bottom = o.box
    area = (right - left) * (bottom - top)
    return _SIZES[int(area > 32**2) + int(area > 96**2)]


def _occlusion(o: LabelledObject) -> str:
    return _OCCLUSIONS[o.occluded] if 0 <= o.occluded < 3 else _UNKNOWN


def _distance(o: LabelledObject) -> str:
    if o.distance is None:
        return _UNKNOWN
    return _DISTANCES[int(np.searchsorted((15, 30, 50), o.distance, side="right"))]


_SIZES = ("small", "medium", "large")
_OCCLUSIONS = ("fully visible", "partly occluded", "largely occluded")
_DISTANCES = ("under 15 m", "15-30 m", "30-50 m", "over 50 m")
_UNKNOWN = "unknown"
PROPERTIES: dict[str, tuple[tuple[str, ...], Callable[[LabelledObject], str]]] = {
    "size": (_SIZES, _size),
    "occlusion": ((*_OCCLUSIONS, _UNKNOWN), _occlusion),
    "distance": ((*_DISTANCES, _UNKNOWN), _distance),
}


class Mistakes:
    """The verdict on every ground truth and every detection, for any score thresholds."""

    def __init__(self, truths: Sequence[FrameTruth], matching: Matching, label_map: LabelMap):
        self._source_ids = [truth.source_id for truth in truths]
        self._objects = [o for truth in truths for o in truth.objects]
        self._label_map = label_map
        self._truths, self._detections = matching.truths, matching.detections
        (partner,) = matching.partners(self._truths.crowd, [MIN_IOU])
        crowd = np.append(self._truths.crowd, False)[partner]
        self._right = (partner >= 0) & ~crowd
        self._wrong = partner < 0
        self._found_score = np.full(len(self._objects), -np.inf)
        self._found_score[partner[self._right]] = self._detections.score[self._right]

    def best_f1(self) -> dict[int, OperatingPoint]:
        """Class id -> the threshold of the greatest F1; absent for a class that was never right."""
        points = {}
        for class_id in self._label_map.names:
            of_class = self._detections.class_id == class_id
            judged = of_class & (self._right | self._wrong)
            scores = self._detections.score[judged]
            order = np.argsort(-scores, kind="stable")
            scores, tp = scores[order], np.cumsum(self._right[judged][order])
            # Equal scores pass a threshold together, so only the last of them is a choice.
            f1 = 2 * tp / (np.arange(1, len(tp) + 1) + np.sum(self._truths.class_id == class_id))
            f1 = np.where(np.diff(scores, append=-np.inf) != 0, f1, 0)
            if f1.any():
                points[class_id] = self.at(class_id, float(scores[np.argmax(f1)]))
        return points

    def at(self, class_id: int, threshold: float) -> OperatingPoint:
        """One class with only its detections of score >= `threshold`."""
        shown = (self._detections.class_id == class_id) & (self._detections.score >= threshold)
        num_right, num_false = np.sum(shown & self._right), np.sum(shown & self._wrong)
        num_objects = np.sum(self._truths.class_id == class_id)
        return OperatingPoint(
            threshold,
            precision=float(num_right / max(num_right + num_false, 1)),
            recall=float(num_right / max(num_objects, 1)),
            num_objects=int(num_objects),
            num_missed=int(num_objects - num_right),
            num_false=int(num_false),
        )

    def misses(self, thresholds: dict[int, float]) -> list[Misses]:
        """Missed objects of each class by size, occlusion and distance, without empty kinds."""
        missed = self._missed(thresholds)
        rows = []
        for class_id, class_name in self._label_map.names.items():
            indices = np.flatnonzero(self._truths.class_id == class_id)
            for name, (kinds, kind_of) in PROPERTIES.items():
                found = [kind_of(self._objects[i]) for i in indices]
                lost = [kind for kind, i in zip(found, indices, strict=True) if missed[i]]
                rows += [
                    Misses(class_name, name, kind, found.count(kind), lost.count(kind))
                    for kind in kinds
                    if kind in found
                ]
        return rows

    def confusion(self, thresholds: dict[int, float]) -> np.ndarray:
        """Objects by their class over detections by theirs, see `confusion_matrix`.

        The diagonal, rows and columns add up to what `at` counts as found, missed and false.
        """
        shown = self._shown(thresholds)
        return confusion_matrix(
            self._truths,
            self._detections,
            found=~self._missed(thresholds) & ~self._truths.crowd,
            right=shown & self._right,
            wrong=shown & self._wrong,
            num_classes=self._label_map.num_classes,
        )

    def worst_frames(self, thresholds: dict[int, float], count: int = 20) -> list[FrameMistakes]:
        """The frames with most mistakes, the worst first; frames without any are left out."""
        totals = self.counts(thresholds)
        worst = np.argsort(-totals, kind="stable")[:count]
        return self.frames([int(i) for i in worst if totals[i]], thresholds)

    def counts(self, thresholds: dict[int, float]) -> np.ndarray:
        """int [F]: missed objects and false detections of each frame."""
        num_frames = len(self._source_ids)
        false = self._shown(thresholds) & self._wrong
        missed = np.bincount(self._truths.frame[self._missed(thresholds)], minlength=num_frames)
        return missed + np.bincount(self._detections.frame[false], minlength=num_frames)

    def frames(self, numbers: Sequence[int], thresholds: dict[int, float]) -> list[FrameMistakes]:
        """The mistakes in each of these frames, by their place among the truths."""
        missed, shown = np.flatnonzero(self._missed(thresholds)), self._shown(thresholds)
        return [self._frame(number, missed, shown) for number in numbers]

    def _frame(self, frame: int, missed: np.ndarray, shown: np.ndarray) -> FrameMistakes:
        boxes = self._detections
        found = shown & self._right & (boxes.frame == frame)
        false = shown & self._wrong & (boxes.frame == frame)
        return FrameMistakes(
            self._source_ids[frame],
            [self._objects[i] for i in missed if self._truths.frame[i] == frame],
            boxes.ltrb[found],
            boxes.class_id[found],
            boxes.ltrb[false],
            boxes.class_id[false],
            boxes.score[false],
        )

    def _missed(self, thresholds: dict[int, float]) -> np.ndarray:
        """bool [truths]; a class without a threshold is missed altogether."""
        limits = self._limits(thresholds)[self._truths.class_id]
        return ~self._truths.crowd & (self._found_score < limits)

    def _shown(self, thresholds: dict[int, float]) -> np.ndarray:
        return self._detections.score >= self._limits(thresholds)[self._detections.class_id]

    def _limits(self, thresholds: dict[int, float]) -> np.ndarray:
        return np.array([thresholds.get(i, np.inf) for i in range(self._label_map.num_classes + 1)])
