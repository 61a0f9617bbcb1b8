"""Frames with their detections as arrays: what KITTI's metric matches, and what overlaps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from efficientdet.dataset.boxes import paired_coverage, paired_iou
from efficientdet.dataset.kitti import DONT_CARE
from efficientdet.evaluation.frames import (
    DetectionArrays,
    FrameDetections,
    FrameTruth,
    TruthArrays,
)
from efficientdet.evaluation.matching import pairs_of_frames

MIN_OVERLAP = {"Car": 0.7, "Pedestrian": 0.5, "Cyclist": 0.5}
NEIGHBOUR = {"Car": "Van", "Pedestrian": "Person_sitting"}


@dataclass(frozen=True)
class KittiFrames:
    """All frames as flat arrays: T ground truths without DontCare, N detections, P pairs.

    Types are numbers of `TYPES`.
    """

    num_frames: int
    truth_frame: np.ndarray  # int [T]
    truth_type: np.ndarray  # int [T]
    truth_height: np.ndarray  # float [T]
    occluded: np.ndarray  # int [T]
    truncated: np.ndarray  # float [T]
    det_frame: np.ndarray  # int [N]
    det_type: np.ndarray  # int [N]
    det_height: np.ndarray  # int [N]
    det_score: np.ndarray  # float [N]
    det_by_score: np.ndarray  # int [N], indices, best first
    det_dont_care: np.ndarray  # float [N], the greatest share of it inside one DontCare
    pair_truth: np.ndarray  # int [P], sorted
    pair_det: np.ndarray  # int [P], sorted for each truth
    pair_iou: np.ndarray  # float [P], above the least of MIN_OVERLAP
    by_score: np.ndarray  # int [P], the pairs by truth, best score first
    by_iou: np.ndarray  # int [P], by truth, greatest overlap first


TYPES = {name: i for i, name in enumerate((*MIN_OVERLAP, *NEIGHBOUR.values(), DONT_CARE), start=1)}


def _number(name: str) -> int:
    return TYPES.get(name, 0)


def flatten(
    truths: Sequence[FrameTruth],
    detections: Sequence[FrameDetections],
    class_names: Mapping[int, str],
) -> KittiFrames:
    """Arguments as of `kitti.evaluate`, the detections aligned with the truths."""
    labels, found = TruthArrays.of(truths, _number), DetectionArrays.of(detections)
    is_region = labels.type == TYPES[DONT_CARE]
    objects, regions = labels[~is_region], labels[is_region]
    names = [class_names.get(i, "") for i in range(max(class_names) + 1)]
    return KittiFrames(
        num_frames=len(truths),
        truth_frame=objects.frame,
        truth_type=objects.type,
        truth_height=objects.box[:, 3] - objects.box[:, 1],
        occluded=objects.occluded,
        truncated=objects.truncated,
        det_frame=found.frame,
        det_type=np.array([_number(name) for name in names])[found.class_id],
        det_height=np.abs(found.box[:, 3] - found.box[:, 1]).astype(int),
        det_score=found.score,
        det_by_score=np.argsort(-found.score, kind="stable"),
        det_dont_care=_dont_care_share(found, regions, len(truths)),
        **_pairs(objects, found, len(truths)),
    )


def _dont_care_share(found: DetectionArrays, regions: TruthArrays, num_frames: int) -> np.ndarray:
    share = np.zeros(len(found.score))
    for det, region in pairs_of_frames(found.boxes, regions.boxes, num_frames):
        np.maximum.at(share, det, paired_coverage(found.box[det], regions.box[region]))
    return share


def _pairs(objects: TruthArrays, found: DetectionArrays, num_frames: int) -> dict[str, np.ndarray]:
    parts = [(np.zeros(0, int), np.zeros(0, int), np.zeros(0))]
    least = min(MIN_OVERLAP.values())
    for truth, det in pairs_of_frames(objects.boxes, found.boxes, num_frames):
        overlap = paired_iou(objects.box[truth], found.box[det])
        kept = np.flatnonzero(overlap > least)
        parts.append((truth[kept], det[kept], overlap[kept]))
    truth, det, overlap = map(np.concatenate, zip(*parts, strict=True))
    return {
        "pair_truth": truth,
        "pair_det": det,
        "pair_iou": overlap,
        "by_score": np.lexsort((-found.score[det], truth)),
        "by_iou": np.lexsort((-overlap, truth)),
    }
