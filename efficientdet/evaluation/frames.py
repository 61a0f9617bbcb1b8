"""What both metrics take in: the objects of a frame, and what a detector found in it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from efficientdet.dataset.kitti import DONT_CARE
from efficientdet.errors import UserError


class LabelledObject(Protocol):
    """What metrics and reports need of an object; a `KittiObject` has it.

    Attributes:
        type: class name.
        box: left, top, right, bottom in pixels of the original image.
        truncated: share outside the image, 0..1.
        occluded: 0 (visible) to 3 (unknown).
        distance: metres ahead of the camera, or None.
        is_dont_care: a region whose objects were not labelled.
    """

    type: str
    truncated: float
    occluded: int

    @property
    def box(self) -> tuple[float, float, float, float]: ...  # noqa: D102

    @property
    def distance(self) -> float | None: ...  # noqa: D102

    @property
    def is_dont_care(self) -> bool: ...  # noqa: D102


@dataclass(frozen=True)
class BoxObject:
    """An object of which only class and box are known."""

    type: str
    box: tuple[float, float, float, float]
    truncated: float = 0.0
    occluded: int = 0
    distance: float | None = None

    @property
    def is_dont_care(self) -> bool:
        """A region whose objects were not labelled."""
        return self.type == DONT_CARE


@dataclass(frozen=True)
class FrameTruth:
    """The labels of one frame, DontCare regions and objects without a class id included.

    `width` and `height` are the true image size in pixels.
    """

    source_id: str
    width: int
    height: int
    objects: Sequence[LabelledObject]


@dataclass(frozen=True)
class FrameDetections:
    """What a detector found in one frame.

    Attributes:
        source_id: as in the record, e.g. `000007`.
        boxes: float [N, 4], left, top, right, bottom in pixels of the original image.
        scores: float [N].
        classes: int [N], ids 1..K of the label map.
    """

    source_id: str
    boxes: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    scores: np.ndarray = field(default_factory=lambda: np.zeros(0))
    classes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def __post_init__(self) -> None:
        """Stores float64 and int64, whatever came: overlaps in float32 would move metrics."""
        object.__setattr__(self, "boxes", np.asarray(self.boxes, np.float64).reshape(-1, 4))
        object.__setattr__(self, "scores", np.asarray(self.scores, np.float64))
        object.__setattr__(self, "classes", np.asarray(self.classes, np.int64))
        if not len(self.boxes) == len(self.scores) == len(self.classes):
            raise ValueError(
                f"{self.source_id}: {len(self.boxes)} boxes, {len(self.scores)} scores, "
                f"{len(self.classes)} classes"
            )


def align(
    truths: Sequence[FrameTruth], detections: Iterable[FrameDetections]
) -> list[FrameDetections]:
    """The detections of each truth, in the order of the truths; empty where there are none.

    Raises:
        UserError: a frame stands twice on one side, or detections belong to an unknown frame.
    """
    known = {truth.source_id for truth in truths}
    if len(known) < len(truths):
        raise UserError("two frames of the ground truth share a source_id; each needs its own")
    by_id: dict[str, FrameDetections] = {}
    for frame in detections:
        if frame.source_id not in known:
            raise UserError(f"detections for frame {frame.source_id!r}, which has no ground truth")
        if frame.source_id in by_id:
            raise UserError(f"detections for frame {frame.source_id!r} came twice")
        by_id[frame.source_id] = frame
    return [by_id.get(truth.source_id) or FrameDetections(truth.source_id) for truth in truths]


def box_array(objects: Sequence[LabelledObject]) -> np.ndarray:
    """float [N, 4], left, top, right, bottom of each object."""
    return np.array([o.box for o in objects], float).reshape(-1, 4)


def concatenate(arrays: Sequence[np.ndarray], *columns: int) -> np.ndarray:
    """The arrays [N_i, *columns] of several frames as one, also where there is no frame at all."""
    return np.concatenate([np.zeros((0, *columns)), *arrays])
