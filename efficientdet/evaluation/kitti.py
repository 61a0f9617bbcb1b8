"""KITTI's official 2D object benchmark: average precision by class and difficulty.

What is computed is what the devkit's cpp/evaluate_object.cpp computes, quirks included:

- A ground truth takes part as *counted* (its class, within the difficulty), *ignored* (beyond the
  difficulty, or of a neighbour class: Van for Car, Person_sitting for Pedestrian; whoever finds it
  is neither right nor wrong), or not at all (every other class, DontCare).
- A detection lower than the minimum height is *ignored*, whatever its class: the height is tested
  before the class. Its height is truncated to an integer, that of a ground truth is not.
- The score thresholds of the curve come from a first matching, in which a ground truth takes the
  free detection of the highest score; the counts at each of them come from a second one, in which
  it takes the free detection of the greatest overlap, and an ignored one only for want of others.
- A false detection is forgiven when more than the minimum overlap of its own area is DontCare.
- Overlaps must exceed the minimum. Recall is sampled at 41 points; R40 (since October 2019) leaves
  out recall 0, R11 takes every fourth from 0 on. A cell with n <= 40 objects cannot reach R40 1.0
  but only (n - 1) / 40.

Unlike the devkit's, a class that was never detected scores 0 instead of being left out.
"""

import bisect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from efficientdet.dataset.kitti import DIFFICULTIES as LIMITS
from efficientdet.evaluation.frames import FrameDetections, FrameTruth, align
from efficientdet.evaluation.kitti_frames import (
    MIN_OVERLAP,
    NEIGHBOUR,
    TYPES,
    KittiFrames,
    flatten,
)
from efficientdet.evaluation.matching import (
    greedy,
    linked,
    position_in_group,
    turns,
)

NUM_RECALLS = 41


@dataclass(frozen=True)
class Difficulty:
    """Which ground truths count: pixels, KITTI's occlusion level, share outside the image."""

    name: str
    min_height: float
    max_occluded: int
    max_truncated: float


DIFFICULTIES = tuple(Difficulty(name, *limits) for name, limits in LIMITS.items())


@dataclass(frozen=True)
class Curve:
    """Precision over recall of one cell of the benchmark.

    Attributes:
        num_objects: counted ground truths; with none, both APs are NaN.
        precision: float [41], at recall 0, 1/40, ... 1, never rising; 0 beyond what was reached.
        thresholds: float [<= 41], the scores at which those recalls are reached.
    """

    class_name: str
    difficulty: Difficulty
    num_objects: int
    precision: np.ndarray
    thresholds: np.ndarray

    @property
    def is_small(self) -> bool:
        """Too few objects for recall steps of 1/40: even a perfect detector misses R40 1.0."""
        return 0 < self.num_objects < NUM_RECALLS

    @property
    def max_r40(self) -> float:
        """The R40 of a perfect detector: 1, or (n - 1) / 40 in a small cell."""
        return min(1.0, (self.num_objects - 1) / (NUM_RECALLS - 1))

    @property
    def r40(self) -> float:
        """AP in [0, 1] over recall 1/40, 2/40, ... 1."""
        return float(self.precision[1:].mean()) if self.num_objects else np.nan

    @property
    def r11(self) -> float:
        """AP in [0, 1] over recall 0, 0.1, ... 1."""
        return float(self.precision[::4].mean()) if self.num_objects else np.nan


@dataclass(frozen=True)
class Cell:
    """The matching of one class at one difficulty, frame by frame: all that any curve needs.

    `frame` indexes the F frames. Hits are the true positives of the first matching. Events tell
    how the counts of a frame's second matching change when the threshold falls to a score. Both
    are sorted by falling score.
    """

    class_name: str
    difficulty: Difficulty
    num_objects: np.ndarray  # int [F]
    hit_scores: np.ndarray  # float [H]
    hit_frames: np.ndarray  # int [H]
    event_scores: np.ndarray  # float [E]
    event_frames: np.ndarray  # int [E]
    event_tp: np.ndarray  # int [E]
    event_fp: np.ndarray  # int [E]

    def curve(self, weights: np.ndarray | None = None) -> Curve:
        """The precision-recall curve; `weights` int [F] counts each frame so many times."""
        if weights is None:
            weights = np.ones(len(self.num_objects), np.int64)
        num_objects = int(weights @ self.num_objects)
        thresholds = recall_thresholds(
            np.repeat(self.hit_scores, weights[self.hit_frames]), num_objects
        )
        reached = np.searchsorted(-self.event_scores, -thresholds, side="right")
        tp = _running_sum(self.event_tp * weights[self.event_frames])[reached]
        fp = _running_sum(self.event_fp * weights[self.event_frames])[reached]
        precision = np.zeros(NUM_RECALLS)
        precision[: len(thresholds)] = tp / np.maximum(tp + fp, 1)
        precision = np.maximum.accumulate(precision[::-1])[::-1]
        return Curve(self.class_name, self.difficulty, num_objects, precision, thresholds)


def evaluate(
    truths: Sequence[FrameTruth],
    detections: Iterable[FrameDetections],
    class_names: Mapping[int, str],
) -> list[Curve]:
    """The curves of Car, Pedestrian and Cyclist, as far as `class_names` has them, by difficulty.

    Args:
        truths: every frame that counts.
        detections: of those frames, in any order; a frame without any may be absent.
        class_names: class id of the detections -> KITTI type.
    """
    return [cell.curve() for cell in match(truths, detections, class_names)]


def match(
    truths: Sequence[FrameTruth],
    detections: Iterable[FrameDetections],
    class_names: Mapping[int, str],
) -> list[Cell]:
    """Like `evaluate`, but stops at the matching, from which curves of any frames can be drawn."""
    frames = flatten(truths, align(truths, detections), class_names)
    return [
        _match_cell(frames, class_name, difficulty)
        for class_name in MIN_OVERLAP
        if class_name in class_names.values()
        for difficulty in DIFFICULTIES
    ]


def recall_thresholds(scores: np.ndarray, num_objects: int) -> np.ndarray:
    """The scores, at most 41, at which recall comes nearest to 0, 1/40, ... 1.

    Args:
        scores: float [H], of the true positives, falling.
        num_objects: what recall 1 means; at least H.
    """
    last, recall, chosen, index = len(scores) - 1, 0.0, [], 0
    while index <= last:
        # Skip a score while the one after it comes nearer to the wanted recall.
        index = bisect.bisect_left(
            range(last),
            True,
            lo=index,
            key=lambda i: (i + 2) / num_objects - recall >= recall - (i + 1) / num_objects,
        )
        chosen.append(scores[index])
        recall += 1 / (NUM_RECALLS - 1)
        index += 1
    return np.array(chosen)


@dataclass(frozen=True)
class _Roles:
    """What each ground truth [T] and each detection [N] is to one class at one difficulty: bool.

    A truth plays when it counts or is ignored; so does a detection, which is ignored when small.
    """

    truth_counts: np.ndarray
    truth_plays: np.ndarray
    det_counts: np.ndarray
    det_small: np.ndarray
    can_be_false: np.ndarray  # counts, and no DontCare forgives it

    @classmethod
    def of(cls, frames: KittiFrames, class_name: str, difficulty: Difficulty) -> "_Roles":
        of_class = frames.truth_type == TYPES[class_name]
        beyond = (
            (frames.occluded > difficulty.max_occluded)
            | (frames.truncated > difficulty.max_truncated)
            | (frames.truth_height < difficulty.min_height)
        )
        det_small = frames.det_height < difficulty.min_height
        det_counts = ~det_small & (frames.det_type == TYPES[class_name])
        neighbour = TYPES.get(NEIGHBOUR.get(class_name), -1)
        return cls(
            truth_counts=of_class & ~beyond,
            truth_plays=of_class | (frames.truth_type == neighbour),
            det_counts=det_counts,
            det_small=det_small,
            can_be_false=det_counts & (frames.det_dont_care <= MIN_OVERLAP[class_name]),
        )


def _match_cell(frames: KittiFrames, class_name: str, difficulty: Difficulty) -> Cell:
    roles = _Roles.of(frames, class_name, difficulty)
    kept = frames.pair_iou > MIN_OVERLAP[class_name]
    kept &= roles.truth_plays[frames.pair_truth]
    kept &= (roles.det_counts | roles.det_small)[frames.pair_det]
    pairs = np.flatnonzero(kept)
    group = np.zeros(len(kept), int)
    group[pairs] = linked(frames.pair_truth[pairs], frames.pair_det[pairs])
    hits = _first_matching(
        frames, roles, group, _by_group(frames, group, frames.by_score[kept[frames.by_score]])
    )
    # Greatest overlap first, then the ignored detections, in file order.
    small = roles.det_small[frames.pair_det]
    best_first = frames.by_iou[(kept & ~small)[frames.by_iou]]
    best_first = np.concatenate([best_first, np.flatnonzero(kept & small)])
    matched, tp, fp = _second_matching(frames, roles, group, _by_group(frames, group, best_first))
    # What no ground truth can take is a false positive at every threshold it passes.
    gained_tp, gained_fp = np.zeros(len(frames.det_score), int), roles.can_be_false.astype(int)
    gained_tp[matched], gained_fp[matched] = tp, fp
    changes = (gained_tp != 0) | (gained_fp != 0)
    events = frames.det_by_score[changes[frames.det_by_score]]
    return Cell(
        class_name,
        difficulty,
        num_objects=np.bincount(
            frames.truth_frame[roles.truth_counts], minlength=frames.num_frames
        ),
        hit_scores=frames.det_score[hits],
        hit_frames=frames.det_frame[hits],
        event_scores=frames.det_score[events],
        event_frames=frames.det_frame[events],
        event_tp=gained_tp[events],
        event_fp=gained_fp[events],
    )


def _by_group(frames: KittiFrames, group: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """The pairs (indices) by group and truth, those of a truth in the order that they have."""
    key = group[pairs] * len(frames.truth_type) + frames.pair_truth[pairs]
    return pairs[np.argsort(key, kind="stable")]


def _first_matching(
    frames: KittiFrames, roles: _Roles, group: np.ndarray, pairs: np.ndarray
) -> np.ndarray:
    """Each ground truth takes the free detection of the highest score, ties in file order.

    Args:
        group: int, of each pair of `frames`; see `linked`.
        pairs: int [P], those that overlap, by group, by ground truth and then best first.

    Returns:
        The detections of the hits, best score first.
    """
    truth, det = frames.pair_truth[pairs], frames.pair_det[pairs]
    turn = turns(truth, group[pairs])
    order = np.argsort(turn, kind="stable")
    chosen = order[greedy(turn[order], truth[order], det[order], len(frames.det_score))]
    hits = det[chosen[roles.truth_counts[truth[chosen]] & roles.det_counts[det[chosen]]]]
    return hits[np.argsort(-frames.det_score[hits], kind="stable")]


def _second_matching(
    frames: KittiFrames, roles: _Roles, group: np.ndarray, pairs: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each ground truth takes its first free detection of those above a threshold.

    This is done once for every threshold at which a group's outcome can change: the scores of the
    detections in it. One group at one threshold is a lane, and all lanes run side by side.

    Args:
        group, pairs: as in `_first_matching`.

    Returns:
        The detections of the pairs, each once, and how many true and false positives its group
        gains when the threshold falls to its score.
    """
    truth, det, group = frames.pair_truth[pairs], frames.pair_det[pairs], group[pairs]
    group_of = np.full(len(frames.det_score), -1)
    group_of[det] = group
    lanes = np.flatnonzero(group_of >= 0)  # one for each of these detections, at its score
    lanes = lanes[np.lexsort((-frames.det_score[lanes], group_of[lanes]))]
    lane_group = group_of[lanes]
    column = np.zeros(len(frames.det_score), int)
    column[lanes] = position_in_group(lane_group)
    size = np.bincount(lane_group, minlength=1)[lane_group]  # detections of a lane
    first_slot = np.cumsum(size) - size

    begin = np.searchsorted(group, lane_group, side="left")
    end = np.searchsorted(group, lane_group, side="right")
    lane = np.repeat(np.arange(len(lanes)), end - begin)
    pair = begin[lane] + position_in_group(lane)
    above = frames.det_score[det[pair]] >= frames.det_score[lanes[lane]]
    lane, pair = lane[above], pair[above]

    turn = turns(truth, group)[pair]
    order = np.argsort(turn, kind="stable")
    lane, pair = lane[order], pair[order]
    slot = first_slot[lane] + column[det[pair]]
    chosen = greedy(turn[order], lane, slot, size.sum())

    hit = roles.truth_counts[truth[pair[chosen]]] & roles.det_counts[det[pair[chosen]]]
    tp = np.bincount(lane[chosen][hit], minlength=len(lanes))
    false = np.zeros(size.sum(), int)
    false[slot] = roles.can_be_false[det[pair]]
    false[slot[chosen]] = 0
    fp = np.add.reduceat(false, first_slot) if len(lanes) else tp
    return lanes, _gain(tp, lane_group), _gain(fp, lane_group)


def _gain(counts: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Differences of running `counts` inside each group; the first is the count itself."""
    return np.where(np.diff(group, prepend=-1) != 0, counts, np.diff(counts, prepend=0))


def _running_sum(values: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(values)])
