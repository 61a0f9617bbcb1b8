"""One frame judged: which objects were found, which were missed, what was invented."""

from dataclasses import dataclass

import numpy as np

from efficientdet.dataset.label_map import LabelMap
from efficientdet.evaluation.coco import Boxes, Matching
from efficientdet.evaluation.frames import FrameDetections, FrameTruth
from efficientdet.evaluation.kitti import MIN_OVERLAP

DEFAULT_OVERLAP = 0.5  # of the classes that KITTI does not rank


@dataclass(frozen=True)
class FrameVerdict:
    """What became of T objects and N detections; a detection is neither right nor false, too.

    Attributes:
        truth: the labels of the frame.
        detections: the N detections, by class, best first; pixels of the original.
        ignored: bool [T], regions whose objects nobody labelled, and what the label map does not
            name: whoever finds something there is neither right nor wrong.
        found: bool [T], not ignored and found by a right detection; those neither ignored nor found
            were missed.
        right, false: bool [N].
    """

    truth: FrameTruth
    detections: Boxes
    ignored: np.ndarray
    found: np.ndarray
    right: np.ndarray
    false: np.ndarray

    @property
    def missed(self) -> np.ndarray:
        """bool [T]."""
        return ~self.ignored & ~self.found

    def counts(self, label_map: LabelMap) -> np.ndarray:
        """int [K + 1, 3], by class id: found, missed, false."""
        ids = np.array([label_map.id_of(o.type) or 0 for o in self.truth.objects], int)
        of_detections = self.detections.class_id
        parts = (ids[self.found], ids[self.missed], of_detections[self.false])
        length = label_map.num_classes + 1
        return np.stack([np.bincount(part, minlength=length) for part in parts], axis=1)


def judge(truth: FrameTruth, shown: FrameDetections, label_map: LabelMap) -> FrameVerdict:
    """Holds detections against the labels of their frame.

    A detection is right with the class of an object and an overlap of at least KITTI's minimum: 0.7
    for a car, 0.5 for all else. The better detections choose first, as in `Mistakes`.

    Args:
        shown: those that count, of at least the score threshold.
    """
    matching = Matching([truth], [shown], label_map)
    truths, detections = matching.truths, matching.detections
    levels = sorted({DEFAULT_OVERLAP, *MIN_OVERLAP.values()})
    partners = matching.partners(truths.crowd, levels)
    level_of = {i: levels.index(min_overlap(name)) for i, name in label_map.names.items()}
    rows = np.array([level_of[int(i)] for i in detections.class_id], int)
    partner = partners[rows, np.arange(len(rows))]
    right = (partner >= 0) & ~np.append(truths.crowd, False)[partner]
    found = np.zeros(len(truths.class_id), bool)
    found[partner[right]] = True
    return FrameVerdict(truth, detections, truths.crowd, found, right, partner < 0)


def min_overlap(class_name: str) -> float:
    """The least IoU of a right detection: KITTI's, 0.5 of a class that it does not rank."""
    return MIN_OVERLAP.get(class_name, DEFAULT_OVERLAP)
