"""How far two sets of detections of the same images lie apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from efficientdet.dataset.boxes import iou
from efficientdet.evaluation.frames import FrameDetections

MIN_SCORE = 0.05  # what lies below is not looked at, but may be a counterpart
MIN_IOU = 0.9
TIED = 1e-3  # scores so near may come in either order
CHANCE = 1e-3  # this share may lie apart: the last bit of two scores says which is taken first, and
# soft NMS lowers what is near the one or near the other
MANY = 200  # of so many, one such choice is chance: each side lacks what the other took


@dataclass(frozen=True)
class Agreement:
    """Of the detections of `MIN_SCORE` or more, either way.

    Attributes:
        score, box: what the differences of all but a share of `CHANCE` keep within (of fewer than
            1,000 detections: of all), the latter in pixels of a side.
        count: how many there are on both sides.
        unmatched: how many of the one side and of the other have no counterpart of their class with
            an IoU of `MIN_IOU`. One with another of its class and score beside it does not count:
            which of them NMS takes is chance. A network that has hardly been trained gives whole
            areas one score.
    """

    score: float
    box: float
    count: int
    unmatched: tuple[int, int]

    @property
    def unmatched_share(self) -> float:
        """0..1; 0 where it is at most one of each side, of `MANY`."""
        is_chance = max(self.unmatched) <= 1 and self.count >= MANY
        return 0.0 if is_chance else sum(self.unmatched) / max(1, self.count)


def compare(expected: Sequence[FrameDetections], found: Sequence[FrameDetections]) -> Agreement:
    """Holds each detection against the nearest of its class in the other set."""
    scores, boxes = [0.0], [0.0]
    count, unmatched = 0, [0, 0]
    for one, other in zip(expected, found, strict=True):
        for side, (mine, theirs) in enumerate([(one, other), (other, one)]):
            rows = np.flatnonzero(mine.scores >= MIN_SCORE)
            count += len(rows)
            overlap = iou(mine.boxes[rows], theirs.boxes)
            overlap *= mine.classes[rows][:, None] == theirs.classes
            for row, ious in zip(rows, overlap, strict=True):
                if not len(ious) or ious.max() < MIN_IOU:
                    unmatched[side] += not _is_tied(mine, row)
                    continue
                near = np.flatnonzero(ious >= MIN_IOU)  # of several, that of the nearest score
                best = near[np.argmin(np.abs(theirs.scores[near] - mine.scores[row]))]
                scores.append(float(abs(theirs.scores[best] - mine.scores[row])))
                boxes.append(float(np.abs(theirs.boxes[best] - mine.boxes[row]).max()))
    return Agreement(_all_but_chance(scores), _all_but_chance(boxes), count, tuple(unmatched))


def _all_but_chance(differences: Sequence[float]) -> float:
    return sorted(differences)[-1 - int(CHANCE * (len(differences) - 1))]


def _is_tied(frame: FrameDetections, row: int) -> bool:
    near = np.abs(frame.scores - frame.scores[row]) <= TIED
    return np.count_nonzero(near & (frame.classes == frame.classes[row])) > 1
