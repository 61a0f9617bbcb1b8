"""COCO's detection metrics by pycocotools: the 12 numbers of AutoML's tags, and AP by class.

Every image counts, also one without detections. A DontCare region, and an object whose type the
label map does not name, is a crowd region of every class: a detection with enough of its own area
inside is neither right nor wrong. The area that decides small (< 32x32), medium and large
(> 96x96) is that of the box in pixels of the original image.
"""

import contextlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pycocotools.cocoeval import COCOeval

from efficientdet.dataset.boxes import paired_intersection
from efficientdet.dataset.label_map import LabelMap
from efficientdet.evaluation.frames import (
    DetectionArrays,
    FrameDetections,
    FrameTruth,
    TruthArrays,
    align,
)
from efficientdet.evaluation.matching import (
    FrameBoxes,
    greedy,
    linked,
    pairs_of_frames,
    position_in_group,
    turns,
)

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
    frames with 100 detections each. Its parameters and summary are used as they are; overlaps,
    matching and precision come out the same to the last bit, ties included (the tests compare).
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
        self._pairs = _overlapping(
            self.detections, self.truths, min(self.params.iouThrs), len(truths)
        )
        self._ranks: dict[tuple[int, int], tuple] = {}
        # Class by class, best first: what is kept of the detections stands in this order.
        self._order = np.lexsort((-self.detections.score, self.detections.class_id))
        self._place = np.empty(len(self._order), int)
        self._place[self._order] = np.arange(len(self._order))

    def evaluate(self) -> None:
        """Matches, by size and IoU threshold."""
        truths, detections = self.truths, self.detections
        shape = (len(self.params.areaRng), len(self.params.iouThrs), len(detections.score))
        self._matched, self._excused = np.zeros(shape, bool), np.zeros(shape, bool)
        self._ignored = np.zeros((shape[0], len(truths.score)), bool)
        truth_area, area = truths.area, detections.area[self._order]
        for size, (low, high) in enumerate(self.params.areaRng):
            ignored = truths.crowd | (truth_area < low) | (truth_area > high)
            self._ignored[size] = ignored
            self._excused[size] = (area < low) | (area > high)
            for level, (det, truth) in enumerate(self._chosen(ignored, self.params.iouThrs)):
                self._matched[size, level, self._place[det]] = True
                self._excused[size, level, self._place[det]] = ignored[truth]

    def partners(self, ignored: np.ndarray, iou_thresholds: Sequence[float]) -> np.ndarray:
        """Which ground truth each detection matches at each threshold: int [thresholds, N], or -1.

        The better detections of a frame and class choose first: of what is free (a crowd always
        is), a truth not in `ignored` rather than an ignored one, then the greatest overlap.
        """
        partner = np.full((len(iou_thresholds), len(self.detections.score)), -1)
        for row, (det, truth) in zip(partner, self._chosen(ignored, iou_thresholds), strict=True):
            row[det] = truth
        return partner

    def _chosen(
        self, ignored: np.ndarray, iou_thresholds: Sequence[float]
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """At each threshold, the detections that match, and which ground truths; see `partners`."""
        det, truth, iou, turn = self._pairs
        picker = np.cumsum(np.diff(det, prepend=-1) != 0)
        order = np.argsort(2 * picker + ignored[truth], kind="stable")
        det, truth, iou, turn = (column[order] for column in (det, truth, iou, turn))
        for threshold in iou_thresholds:
            rows = np.flatnonzero(iou >= min(threshold, 1 - 1e-10))
            sought = truth[rows]
            chosen = greedy(turn[rows], det[rows], sought, len(ignored), self.truths.crowd)
            yield det[rows[chosen]], sought[chosen]

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
        position = position_in_group(self.detections.group)[self._order]
        score = self.detections.score[self._order]
        for k, class_id in enumerate(p.catIds):
            part = self._of_class(class_id)
            for a in sizes:
                num_objects = np.sum((truths.class_id == class_id) & ~self._ignored[a])
                if not num_objects:
                    continue
                for level in range(len(p.iouThrs)):
                    hits, rank = self._hits(a, level, part)
                    for m, most in enumerate(p.maxDets):
                        found = np.sum(position[part][hits] < most)
                        recall[level, k, a, m] = found / num_objects
                    precision[level, :, k, a, -1], scores[level, :, k, a, -1] = _interpolate(
                        hits, rank, score[part], num_objects, p.recThrs
                    )
        self.eval = {"precision": precision, "recall": recall, "scores": scores}

    def _hits(self, size: int, level: int, part: slice) -> tuple[np.ndarray, np.ndarray]:
        """Which of a class's detections are right, best first: indices into `part`, and ranks.

        The rank counts from 1 the detections that are right or wrong: neither are those excused.
        """
        counted = ~self._excused[size, level, part]
        hits = np.flatnonzero(counted & self._matched[size, level, part])
        return hits, np.cumsum(counted)[hits]

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
        part = self._of_class(class_id)
        frame = self.detections.frame[self._order[part]]
        by_level = []
        for level in range(len(self.params.iouThrs)):
            counted = frame[~self._excused[a, level, part]]
            hits = self._hits(a, level, part)[1] - 1
            by_level.append((counted[: hits[-1] + 1 if len(hits) else 0], hits))
        self._ranks[k, a] = sought, by_level
        return sought, by_level

    def _of_class(self, class_id: int) -> slice:
        """Its detections, in the order of `_order`."""
        of_class = self.detections.class_id[self._order]
        return slice(*np.searchsorted(of_class, (class_id, class_id + 1)).tolist())

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
    hits: np.ndarray, rank: np.ndarray, score: np.ndarray, num_objects: int, recalls: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Best precision at each recall or beyond, and the score at that recall; 0 if not reached.

    Recall rises at a right detection alone, and between two of them precision only falls: the
    others need not be looked at.

    Args:
        hits, rank: int [H], as of `Matching._hits`.
        score: float [N], of all detections, best first.
        recalls: float [R].

    Returns:
        Both float [R].
    """
    tp = np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate((tp / (rank + np.spacing(1)))[::-1])[::-1]
    at = np.searchsorted(tp / num_objects, recalls, side="left")
    first = score[0] if len(score) else 0.0  # recall 0 is reached before anything is right
    scores = np.where(recalls > 0, np.append(score[hits], 0.0)[at], first)
    return np.append(precision, 0.0)[at], scores


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

    @cached_property
    def ltrb(self) -> np.ndarray:
        """The same boxes as left, top, right, bottom."""
        return np.concatenate([self.ltwh[:, :2], self.ltwh[:, :2] + self.ltwh[:, 2:]], axis=1)

    @cached_property
    def area(self) -> np.ndarray:
        """Square pixels."""
        return self.ltwh[:, 2] * self.ltwh[:, 3]

    @property
    def boxes(self) -> FrameBoxes:
        """For what looks for overlaps."""
        return FrameBoxes(self.frame, self.ltrb)

    @cached_property
    def crowd(self) -> np.ndarray:
        """Which boxes are ignored regions, for every class."""
        return self.class_id == EVERY_CLASS

    def __getitem__(self, index: np.ndarray) -> "Boxes":
        return Boxes(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


def _boxes(
    frame: np.ndarray, class_id: np.ndarray, ltrb: np.ndarray, score: np.ndarray, num_classes: int
) -> Boxes:
    ltwh = np.concatenate([ltrb[:, :2], ltrb[:, 2:] - ltrb[:, :2]], axis=1)
    return Boxes(class_id, frame * (num_classes + 1) + class_id, frame, ltwh, score)


def _flatten_truths(truths: Sequence[FrameTruth], label_map: LabelMap) -> Boxes:
    found = TruthArrays.of(truths, lambda name: label_map.id_of(name) or EVERY_CLASS)
    nothing = np.zeros(len(found.type))
    return _boxes(found.frame, found.type, found.box, nothing, label_map.num_classes)


def _flatten_detections(
    detections: Sequence[FrameDetections], label_map: LabelMap, most: int
) -> Boxes:
    """The `most` best detections of each frame and class, best first."""
    found = DetectionArrays.of(detections)
    boxes = _boxes(found.frame, found.class_id, found.box, found.score, label_map.num_classes)
    boxes = boxes[np.lexsort((-boxes.score, boxes.group))]
    return boxes[position_in_group(boxes.group) < most]


def _overlapping(
    detections: Boxes, truths: Boxes, min_iou: float, num_frames: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Detections and truths that could match: their indices, their IoU (of a crowd: the share of
    the detection that lies in it), and how many of those that compete choose before it.

    By turn, by detection, the greatest overlap first.
    """
    parts = [(np.zeros(0, int), np.zeros(0, int), np.zeros(0))]
    for det, truth in pairs_of_frames(detections.boxes, truths.boxes, num_frames):
        crowd = truths.crowd[truth]
        same = np.flatnonzero(crowd | (detections.class_id[det] == truths.class_id[truth]))
        det, truth, crowd = det[same], truth[same], crowd[same]
        shared = paired_intersection(detections.ltrb[det], truths.ltrb[truth])
        area = detections.area[det]
        union = np.where(crowd, area, area + truths.area[truth] - shared)
        iou = np.divide(shared, union, out=np.zeros(len(shared)), where=shared > 0)
        kept = iou >= min_iou
        parts.append((det[kept], truth[kept], iou[kept]))
    det, truth, iou = map(np.concatenate, zip(*parts, strict=True))
    turn = turns(det, _group(det, truth, truths.crowd))
    order = np.lexsort((-truth, -iou, det, turn))
    return det[order], truth[order], iou[order], turn[order]


def _group(det: np.ndarray, truth: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """For each pair a number of the detections that compete with its own; for a crowd none does."""
    real = ~crowd[truth]
    group = np.arange(det.max(initial=-1) + 1)
    group[det[real]] = linked(det[real], truth[real])
    return group[det]
