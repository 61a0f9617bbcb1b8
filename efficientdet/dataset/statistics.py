"""What a set of labelled images holds: counts by class, difficulty and size, and every box."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from efficientdet.dataset.kitti import CLASSES, DIFFICULTIES, DONT_CARE, difficulty
from efficientdet.dataset.tfrecord import Annotation

# COCO's limits on the area in original pixels.
SIZE_CLASSES = {"small": 32**2, "medium": 96**2, "large": float("inf")}


def size_class(area: float) -> str:
    """`small`, `medium` or `large` by COCO's limits; `area` in px^2."""
    return next(name for name, limit in SIZE_CLASSES.items() if area < limit)


@dataclass(frozen=True)
class Objects:
    """N objects as arrays; DontCare regions are not among them.

    Attributes:
        types: str [N], the class text.
        boxes: float [N, 4], left, top, right, bottom in pixels of the image.
        image_hw: int [N, 2], size of each object's image.
        image: int [N], index of each object's image.
        occluded: int [N]; truncated: float [N].
        trained: bool [N], False for what training ignores.
    """

    types: np.ndarray
    boxes: np.ndarray
    image_hw: np.ndarray
    image: np.ndarray
    occluded: np.ndarray
    truncated: np.ndarray
    trained: np.ndarray

    @property
    def heights(self) -> np.ndarray:
        """float [N], pixels."""
        return self.boxes[:, 3] - self.boxes[:, 1]

    @property
    def widths(self) -> np.ndarray:
        """float [N], pixels."""
        return self.boxes[:, 2] - self.boxes[:, 0]

    @cached_property
    def sizes(self) -> np.ndarray:
        """str [N], the size class of each object."""
        return np.array([size_class(area) for area in self.widths * self.heights], dtype="<U6")

    def __len__(self) -> int:
        return len(self.types)

    def __getitem__(self, index: np.ndarray) -> "Objects":
        """The objects that a mask or an index array selects."""
        return Objects(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


class Statistics:
    """Grows image by image; the converter's manifest and the inspector's report read it."""

    def __init__(self) -> None:
        self.source_ids: list[str] = []
        self.image_hw: list[tuple[int, int]] = []
        self.num_objects: list[int] = []  # of each image, without DontCare
        self.dont_care_share: list[float] = []  # of each image's area; overlaps count twice
        self.max_objects_per_image = 0
        self.class_counts: Counter[str] = Counter()
        self.ignored_counts: Counter[str] = Counter()
        self._rows: list[tuple] = []

    def add(
        self, source_id: str, height: int, width: int, annotations: Iterable[Annotation]
    ) -> None:
        """Counts one image of `height` x `width` pixels."""
        annotations = list(annotations)
        objects = [item for item in annotations if item.text != DONT_CARE]
        dont_care = sum(item.area for item in annotations if item.text == DONT_CARE)
        self.class_counts.update(item.text for item in annotations)
        self.ignored_counts.update(item.text for item in objects if item.is_crowd)
        for item in objects:
            self._rows.append(
                (
                    item.text,
                    item.box,
                    (height, width),
                    len(self.source_ids),
                    item.occluded,
                    item.truncated,
                    not item.is_crowd,
                )
            )
        self.source_ids.append(source_id)
        self.image_hw.append((height, width))
        self.num_objects.append(len(objects))
        self.dont_care_share.append(dont_care / (height * width))
        self.max_objects_per_image = max(self.max_objects_per_image, len(annotations))

    @property
    def objects(self) -> Objects:
        """All objects so far, in order."""
        columns = zip(*self._rows, strict=True) if self._rows else [[]] * 7
        types, boxes, image_hw, image, occluded, truncated, trained = columns
        return Objects(
            np.array(types, dtype=str),
            np.array(boxes, float).reshape(-1, 4),
            np.array(image_hw, int).reshape(-1, 2),
            np.array(image, int),
            np.array(occluded, int),
            np.array(truncated, float),
            np.array(trained, bool),
        )

    def counts(self) -> dict[str, Any]:
        """The manifest's fields that are counts, in a fixed order."""
        difficulties, sizes = Counter(), Counter()
        for text, (left, top, right, bottom), _, _, occluded, truncated, _ in self._rows:
            level = difficulty(bottom - top, occluded, truncated) or "beyond"
            difficulties[text, level] += 1
            sizes[text, size_class((right - left) * (bottom - top))] += 1
        return {
            "num_examples": len(self.source_ids),
            "max_objects_per_image": self.max_objects_per_image,
            "class_counts": in_kitti_order(self.class_counts),
            "ignored_counts": in_kitti_order(self.ignored_counts),
            "difficulty_counts": _table(difficulties, (*DIFFICULTIES, "beyond")),
            "size_counts": _table(sizes, SIZE_CLASSES),
            "image_sizes": {
                f"{width}x{height}": count
                for (height, width), count in Counter(self.image_hw).most_common()
            },
        }


def in_kitti_order(by_type: Mapping[str, Any]) -> dict[str, Any]:
    """The same mapping: KITTI's types in their usual order, then the others by name."""
    known = [name for name in (*CLASSES, DONT_CARE) if name in by_type]
    return {name: by_type[name] for name in known + sorted(set(by_type) - set(known))}


def _table(counts: Counter, columns: Iterable[str]) -> dict[str, dict[str, int]]:
    columns = list(columns)
    rows = in_kitti_order(dict.fromkeys(name for name, _ in counts))
    return {name: {column: counts[name, column] for column in columns} for name in rows}
