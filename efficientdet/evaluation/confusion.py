"""Which classes are taken for which: objects against detections, background included."""

import numpy as np

from efficientdet.dataset.boxes import iou
from efficientdet.evaluation.coco import Boxes
from efficientdet.evaluation.matching import greedy

MIN_IOU = 0.5


def confusion_matrix(
    truths: Boxes,
    detections: Boxes,
    *,
    found: np.ndarray,
    right: np.ndarray,
    wrong: np.ndarray,
    num_classes: int,
) -> np.ndarray:
    """How often an object of one class (row) was called another (column); 0 is the background.

    What is right stands on the diagonal. Of the rest the best detection of a frame chooses first,
    among the objects of any class that nobody found, the one with the greatest IoU of at least 0.5.
    A detection without such an object counts as background called its class, an object without a
    detection as its class called background. Who found nothing but DontCare, or an object that the
    label map does not name, is in neither `right` nor `wrong`, as in KITTI's metric, and counts
    nowhere.

    Args:
        truths, detections: with class ids 1..K, pixels of the original.
        found: bool [truths], found by a right detection.
        right, wrong: bool [detections], of those that are shown.

    Returns:
        int [K + 1, K + 1]; `[0, 0]` is 0.
    """
    matrix = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    of_right = detections.class_id[right]
    np.add.at(matrix, (of_right, of_right), 1)
    lost = np.flatnonzero(~found & ~truths.crowd)
    false = np.flatnonzero(wrong)
    false = false[np.argsort(-detections.score[false], kind="stable")]
    det, truth, overlap = _pairs(detections[false], truths[lost])
    order = np.lexsort((-overlap, det))
    chosen = order[greedy(det[order], det[order], truth[order], len(lost))]
    confused = (truths.class_id[lost[truth[chosen]]], detections.class_id[false[det[chosen]]])
    np.add.at(matrix, confused, 1)
    np.add.at(matrix[0], detections.class_id[np.delete(false, det[chosen])], 1)
    np.add.at(matrix[:, 0], truths.class_id[np.delete(lost, truth[chosen])], 1)
    return matrix


def _pairs(detections: Boxes, truths: Boxes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of detection and truth, and IoU, of all that overlap by `MIN_IOU` in one frame."""
    parts = [(np.zeros(0, int), np.zeros(0, int), np.zeros(0))]
    for frame in np.intersect1d(detections.frame, truths.frame):
        dets, sought = (np.flatnonzero(one.frame == frame) for one in (detections, truths))
        overlaps = iou(detections.ltrb[dets], truths.ltrb[sought])
        row, column = np.nonzero(overlaps >= MIN_IOU)
        parts.append((dets[row], sought[column], overlaps[row, column]))
    return tuple(map(np.concatenate, zip(*parts, strict=True)))
