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
from pycocotools import mask
from pycocotools.cocoeval import COCOeval

from efficientdet.dataset.label_map import LabelMap
from efficientdet.evaluation.frames import (
    FrameDetections,
    FrameTruth,
    align,
    box_array,
    concatenate,
)
from efficientdet.evaluation.matching import greedy, position_in_group

SUMMARY = ("AP", "AP50", "AP75", "APs", "APm", "APl")
SUMMARY += ("ARmax1", "ARmax10", "ARmax100", "ARs", "ARm", "ARl")
EVERY_CLASS = 0  # the class of a crowd region


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

    @property
    def ap(self) -> float:
        """The mean over classes and IoU 0.5:0.95."""
        return self.summary["AP"]

    def by_class(self, class_id: int) -> dict[str, float]:
        """`AP`, `AP50`, `AP75`, `APs`, `APm`, `APl` of one class."""
        return average_precisions(self.precision[:, :, [class_id - 1]])


def average_precisions(precision: np.ndarray) -> dict[str, float]:
    """`AP`, `AP50`, `AP75`, `APs`, `APm`, `APl` over the classes that have ground truth.

    Args:
        precision: float [10, 101, K, 4] as in `CocoResult`.
    """
    parts = (
        precision[..., 0],
        precision[0, ..., 0],
        precision[5, ..., 0],
        *(precision[..., size] for size in (1, 2, 3)),
    )
    known = [part[~np.isnan(part)] for part in parts]
    means = [float(part.mean()) if part.size else np.nan for part in known]
    return dict(zip(SUMMARY, means, strict=False))


def evaluate(
    truths: Sequence[FrameTruth], detections: Iterable[FrameDetections], label_map: LabelMap
) -> CocoResult:
    """COCO metrics of `detections`, whose classes are ids of `label_map`."""
    return match(truths, detections, label_map).result()


def match(
    truths: Sequence[FrameTruth], detections: Iterable[FrameDetections], label_map: LabelMap
) -> "Matching":
    """Like `evaluate`, but stops at the matching, which can be summarised for any frames."""
    matching = Matching(truths, align(truths, detections), label_map)
    matching.evaluate()
    return matching


class Matching(COCOeval):
    """pycocotools' evaluation by arrays, for all images and classes at once.

    pycocotools runs nested Python loops, which take half a minute and 0.7 GB for KITTI's validation
    frames with 100 detections each. Its parameters, overlaps and summary are used as they are; the
    matching and the precision come out the same to the last bit, ties included (the tests compare).
    """

    def __init__(
        self,
        truths: Sequence[FrameTruth],
        detections: Sequence[FrameDetections],
        label_map: LabelMap,
    ):
        super().__init__(iouType="bbox")
        self.params.imgIds = list(range(len(truths)))
        self.params.catIds = list(label_map.names)
        self.truths = _flatten_truths(truths, label_map)
        self.detections = _flatten_detections(detections, label_map, self.params.maxDets[-1])
        self._pairs = _overlapping(self.detections, self.truths, min(self.params.iouThrs))
        self._ranks: dict[tuple[int, int], tuple] = {}

    def evaluate(self) -> None:
        """Matches, by size and IoU threshold."""
        truths, detections = self.truths, self.detections
        shape = (len(self.params.areaRng), len(self.params.iouThrs), len(detections.score))
        self._matched, self._excused = np.zeros(shape, bool), np.zeros(shape, bool)
        self._ignored = np.zeros((shape[0], len(truths.score)), bool)
        for size, (low, high) in enumerate(self.params.areaRng):
            ignored = truths.crowd | (truths.area < low) | (truths.area > high)
            outside = (detections.area < low) | (detections.area > high)
            partner = self.partners(ignored, self.params.iouThrs)
            matched = partner >= 0
            self._matched[size] = matched
            self._excused[size] = np.where(matched, np.append(ignored, False)[partner], outside)
            self._ignored[size] = ignored

    def partners(self, ignored: np.ndarray, iou_thresholds: Sequence[float]) -> np.ndarray:
        """Which ground truth each detection matches at each threshold: int [thresholds, N], or -1.

        The better detections of a frame and class choose first: of what is free (a crowd always
        is), a truth not in `ignored` rather than an ignored one, then the greatest overlap.
        """
        det, truth, iou = self._pairs
        turn = position_in_group(self.detections.group)[det]
        order = np.lexsort((-truth, -iou, ignored[truth], det, turn))
        partner = np.full((len(iou_thresholds), len(self.detections.score)), -1)
        for level, threshold in enumerate(iou_thresholds):
            rows = order[iou[order] >= min(threshold, 1 - 1e-10)]
            chosen = greedy(turn[rows], det[rows], truth[rows], len(ignored), self.truths.crowd)
            partner[level, det[rows[chosen]]] = truth[rows[chosen]]
        return partner

    def accumulate(self, sizes: Sequence[int] = range(4)) -> None:
        """Fills `eval` with precision and recall.

        Args:
            sizes: indices of `params.areaRng`; what is left out stays -1. So does the precision
                with less than the most detections an image, of which no summary tells.
        """
        p, truths = self.params, self.truths
        shape = (len(p.iouThrs), len(p.recThrs), len(p.catIds), len(p.areaRng), len(p.maxDets))
        precision, scores = np.full(shape, -1.0), np.full(shape, -1.0)
        recall = np.full((shape[0], *shape[2:]), -1.0)
        position = position_in_group(self.detections.group)
        for k, class_id in enumerate(p.catIds):
            rows = self._of_class(class_id)
            score = self.detections.score[rows]
            for a in sizes:
                num_objects = np.sum((truths.class_id == class_id) & ~self._ignored[a])
                if not num_objects:
                    continue
                counted = ~self._excused[a][:, rows] * 1
                hits = counted * self._matched[a][:, rows]
                for m, most in enumerate(p.maxDets):
                    recall[:, k, a, m] = hits[:, position[rows] < most].sum(axis=1) / num_objects
                precision[..., k, a, -1], scores[..., k, a, -1] = _interpolate(
                    hits, counted - hits, score, num_objects, p.recThrs
                )
        self.eval = {"precision": precision, "recall": recall, "scores": scores}

    def precision(
        self, weights: np.ndarray | None = None, sizes: Sequence[int] = range(4)
    ) -> np.ndarray:
        """`CocoResult.precision`.

        Args:
            weights: int [F], how many times each frame counts; by default once.
            sizes: as in `accumulate`; those left out are NaN.
        """
        if weights is not None:
            return self._resampled(weights, sizes)
        self.accumulate(sizes)
        precision = self.eval["precision"][..., -1]
        return np.where(precision < 0, np.nan, precision)

    def _resampled(self, weights: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
        """The same as by `accumulate` with each frame repeated, to the last bit.

        A thousand samples of a whole validation set would take hours that way. But only the
        precision at the right detections counts, and which those are does not depend on the draw.
        """
        levels, recalls = len(self.params.iouThrs), self.params.recThrs
        precision = np.full((levels, len(recalls), len(self.params.catIds), 4), np.nan)
        for k in range(len(self.params.catIds)):
            for a in sizes:
                sought, by_level = self._ranked(k, a)
                if not (num_objects := weights[sought].sum()):
                    continue
                for level, (frames, hits) in enumerate(by_level):
                    tp = np.cumsum(weights[frames[hits]])
                    best = tp / (np.cumsum(weights[frames])[hits] + np.spacing(1))
                    best = np.append(np.maximum.accumulate(best[::-1])[::-1], 0.0)
                    at = np.searchsorted(tp / num_objects, recalls, side="left")
                    precision[level, :, k, a] = best[at]
        return precision

    def _ranked(self, k: int, a: int) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
        """Of a class and a size: the frame of each object, and by IoU threshold the frame of each
        detection that counts, best first, down to the last right one, and which are right.
        """
        if (k, a) in self._ranks:
            return self._ranks[k, a]
        truths, class_id = self.truths, self.params.catIds[k]
        sought = truths.frame[(truths.class_id == class_id) & ~self._ignored[a]]
        rows = self._of_class(class_id)
        by_level = []
        for excused, matched in zip(self._excused[a][:, rows], self._matched[a][:, rows],
                                    strict=True):  # fmt: skip
            hits = np.flatnonzero(matched[~excused])
            last = hits[-1] + 1 if len(hits) else 0
            by_level.append((self.detections.frame[rows[~excused][:last]], hits))
        self._ranks[k, a] = sought, by_level
        return sought, by_level

    def _of_class(self, class_id: int) -> np.ndarray:
        """Its detections (indices), best first."""
        rows = np.flatnonzero(self.detections.class_id == class_id)
        return rows[np.argsort(-self.detections.score[rows], kind="stable")]

    def result(self) -> CocoResult:
        """Precision, recall and summary of what was matched."""
        precision = self.precision()
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its summary
            self.summarize()
        stats = np.where(self.stats < 0, np.nan, self.stats)
        counts = np.bincount(self.truths.class_id, minlength=len(self.params.catIds) + 1)
        return CocoResult(
            summary=dict(zip(SUMMARY, stats.tolist(), strict=True)),
            num_objects={i: int(counts[i]) for i in self.params.catIds},
            precision=precision,
            scores=self.eval["scores"][..., -1],
        )


def _interpolate(
    hits: np.ndarray, false: np.ndarray, score: np.ndarray, num_objects: int, recalls: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Best precision at each recall or beyond, and the score at that recall; 0 if not reached.

    Args:
        hits, false: int [T, N], whether each detection is right or wrong, best first.
        score: float [N].
        recalls: float [R].

    Returns:
        Both float [T, R].
    """
    tp, fp = np.cumsum(hits, axis=1), np.cumsum(false, axis=1)
    precision = tp / (fp + tp + np.spacing(1))
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    at = np.stack([np.searchsorted(row, recalls, side="left") for row in tp / num_objects])
    beyond = ((0, 0), (0, 1))
    best = np.take_along_axis(np.pad(precision, beyond), at, axis=1)
    return best, np.append(score, 0.0)[at]


@dataclass(frozen=True)
class Boxes:
    """Boxes of all frames, sorted by frame: `left, top, width, height` in pixels, [N, 4].

    `group`, frame * (K + 1) + class id, numbers the boxes of one class in one frame.
    """

    class_id: np.ndarray
    group: np.ndarray
    frame: np.ndarray
    ltwh: np.ndarray
    score: np.ndarray

    @property
    def ltrb(self) -> np.ndarray:
        """The same boxes as left, top, right, bottom."""
        return np.concatenate([self.ltwh[:, :2], self.ltwh[:, :2] + self.ltwh[:, 2:]], axis=1)

    @property
    def area(self) -> np.ndarray:
        """Square pixels."""
        return self.ltwh[:, 2] * self.ltwh[:, 3]

    @property
    def crowd(self) -> np.ndarray:
        """Which boxes are ignored regions, for every class."""
        return self.class_id == EVERY_CLASS

    def __getitem__(self, index: np.ndarray) -> "Boxes":
        return Boxes(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


def _boxes(
    counts: list[int], class_id: np.ndarray, ltrb: np.ndarray, score: np.ndarray, num_classes: int
) -> Boxes:
    frame = np.repeat(np.arange(len(counts)), counts)
    ltwh = np.concatenate([ltrb[:, :2], ltrb[:, 2:] - ltrb[:, :2]], axis=1)
    return Boxes(class_id, frame * (num_classes + 1) + class_id, frame, ltwh, score)


def _flatten_truths(truths: Sequence[FrameTruth], label_map: LabelMap) -> Boxes:
    objects = [o for truth in truths for o in truth.objects]
    class_id = np.array([label_map.id_of(o.type) or EVERY_CLASS for o in objects], int)
    return _boxes(
        [len(truth.objects) for truth in truths],
        class_id,
        box_array(objects),
        np.zeros(len(objects)),
        label_map.num_classes,
    )


def _flatten_detections(
    detections: Sequence[FrameDetections], label_map: LabelMap, most: int
) -> Boxes:
    """The `most` best detections of each frame and class, best first."""
    boxes = _boxes(
        [len(frame.scores) for frame in detections],
        concatenate([frame.classes for frame in detections]).astype(int),
        concatenate([frame.boxes for frame in detections], 4),
        concatenate([frame.scores for frame in detections]),
        label_map.num_classes,
    )
    boxes = boxes[np.lexsort((-boxes.score, boxes.group))]
    return boxes[position_in_group(boxes.group) < most]


def _overlapping(
    detections: Boxes, truths: Boxes, min_iou: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Detections and truths that could match: their indices and IoU, or coverage by a crowd."""
    parts = [(np.zeros(0, int), np.zeros(0, int), np.zeros(0))]
    for frame in np.intersect1d(detections.frame, truths.frame):
        begin, end = np.searchsorted(detections.frame, (frame, frame + 1))
        first, last = np.searchsorted(truths.frame, (frame, frame + 1))
        crowd = truths.class_id[first:last] == EVERY_CLASS
        iou = mask.iou(detections.ltwh[begin:end], truths.ltwh[first:last], crowd)
        same = detections.class_id[begin:end, None] == truths.class_id[None, first:last]
        det, truth = np.nonzero((iou >= min_iou) & (same | crowd))
        parts.append((det + begin, truth + first, iou[det, truth]))
    return tuple(map(np.concatenate, zip(*parts, strict=True)))
