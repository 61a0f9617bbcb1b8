"""What both metrics take in: the objects of a frame, and what a detector found in it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Protocol, overload

import numpy as np

from efficientdet.dataset.kitti import DONT_CARE, KittiObject
from efficientdet.errors import UserError
from efficientdet.evaluation.matching import FrameBoxes


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


@dataclass(frozen=True)
class TruthArrays:
    """The objects of all frames, T of them, sorted by frame.

    Attributes:
        frame, type, occluded: int [T].
        box: float [T, 4], left, top, right, bottom; truncated: float [T].
    """

    frame: np.ndarray
    type: np.ndarray
    box: np.ndarray
    occluded: np.ndarray
    truncated: np.ndarray

    @classmethod
    def of(cls, truths: Sequence[FrameTruth], number_of: Callable[[str], int]) -> "TruthArrays":
        """Of frames in their order; `number_of` a type."""
        rows = [_columns(truth.objects) for truth in truths]
        names = list(chain.from_iterable(types for types, _ in rows))
        numbers = {name: number_of(name) for name in set(names)}
        columns = concatenate([columns for _, columns in rows], _COLUMNS)
        return cls(
            np.repeat(np.arange(len(rows)), [len(types) for types, _ in rows]),
            np.array([numbers[name] for name in names], int),
            columns[:, 3:],
            columns[:, 1].astype(int),
            columns[:, 0],
        )

    @property
    def boxes(self) -> FrameBoxes:
        """For what looks for overlaps."""
        return FrameBoxes(self.frame, self.box)

    def __getitem__(self, index: np.ndarray) -> "TruthArrays":
        return TruthArrays(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class DetectionArrays:
    """The detections of all frames, N of them, sorted by frame; fields as in `FrameDetections`."""

    frame: np.ndarray
    class_id: np.ndarray
    box: np.ndarray
    score: np.ndarray

    @classmethod
    def of(cls, detections: Sequence[FrameDetections]) -> "DetectionArrays":
        """Of frames in their order."""
        return cls(
            np.repeat(np.arange(len(detections)), [len(frame.scores) for frame in detections]),
            concatenate([frame.classes for frame in detections]).astype(int),
            concatenate([frame.boxes for frame in detections], 4),
            concatenate([frame.scores for frame in detections]),
        )

    @property
    def boxes(self) -> FrameBoxes:
        """For what looks for overlaps."""
        return FrameBoxes(self.frame, self.box)


class ObjectRows(Sequence[KittiObject]):
    """The objects of one label file, made of its columns when they are looked at.

    A metric reads the columns alone, and making objects of them would take longer than it does.

    Args:
        types: N class names.
        numbers: float [N, 14], what stands behind them.
    """

    def __init__(self, types: Sequence[str], numbers: np.ndarray):
        self.types, self.numbers = types, numbers

    def __len__(self) -> int:
        return len(self.types)

    @overload
    def __getitem__(self, index: int) -> KittiObject: ...

    @overload
    def __getitem__(self, index: slice) -> list[KittiObject]: ...

    def __getitem__(self, index: int | slice) -> KittiObject | list[KittiObject]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        truncated, occluded, *others = self.numbers[index].tolist()
        return KittiObject(self.types[index], truncated, int(occluded), *others)


_COLUMNS = 7  # of KITTI's behind the type: truncated, occluded, alpha, and the box


def _columns(objects: Sequence[LabelledObject]) -> tuple[Sequence[str], np.ndarray]:
    """Types [N], and float [N, 7]; alpha is not asked for."""
    if isinstance(objects, ObjectRows):
        return objects.types, objects.numbers[:, :_COLUMNS]
    rows = [(o.truncated, o.occluded, 0, *o.box) for o in objects]
    return [o.type for o in objects], np.array(rows, float).reshape(-1, _COLUMNS)


def box_array(objects: Sequence[LabelledObject]) -> np.ndarray:
    """float [N, 4], left, top, right, bottom of each object."""
    return np.array([o.box for o in objects], float).reshape(-1, 4)


def concatenate(arrays: Sequence[np.ndarray], *columns: int) -> np.ndarray:
    """The arrays [N_i, *columns] of several frames as one, also where there is no frame at all."""
    return np.concatenate([np.zeros((0, *columns)), *arrays])
