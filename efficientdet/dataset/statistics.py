"""What a set of labelled images holds: counts by class, difficulty and size, and the boxes."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from efficientdet.dataset.kitti import CLASSES, DIFFICULTIES, DONT_CARE, KittiObject
from efficientdet.dataset.splits import drive_of

# COCO's limits on the area in original pixels.
SIZE_CLASSES = {"small": 32**2, "medium": 96**2, "large": float("inf")}


def size_class(area: float) -> str:
    """`small`, `medium` or `large` by COCO's limits; `area` in px^2."""
    return next(name for name, limit in SIZE_CLASSES.items() if area < limit)


class Counts:
    """Running counts over images; the manifest holds them."""

    def __init__(self) -> None:
        self.num_examples = 0
        self.max_objects_per_image = 0
        self.class_counts: Counter[str] = Counter()
        self.difficulty_counts: dict[str, Counter[str]] = defaultdict(Counter)
        self.size_counts: dict[str, Counter[str]] = defaultdict(Counter)
        self.image_sizes: Counter[str] = Counter()
        self.drives: Counter[str] = Counter()

    def add(self, source_id: str, height: int, width: int, objects: list[KittiObject]) -> None:
        """Counts one image."""
        self.num_examples += 1
        self.max_objects_per_image = max(self.max_objects_per_image, len(objects))
        self.image_sizes[f"{width}x{height}"] += 1
        if drive := drive_of(source_id):
            self.drives[drive] += 1
        for item in objects:
            area = (item.right - item.left) * (item.bottom - item.top)
            self.class_counts[item.type] += 1
            if not item.is_dont_care:
                self.difficulty_counts[item.type][item.difficulty or "beyond"] += 1
                self.size_counts[item.type][size_class(area)] += 1

    def to_dict(self) -> dict[str, Any]:
        """The manifest's fields that are counts by class, size and drive, in a fixed order."""
        return {
            "class_counts": in_kitti_order(self.class_counts),
            "difficulty_counts": _nested(self.difficulty_counts, (*DIFFICULTIES, "beyond")),
            "size_counts": _nested(self.size_counts, SIZE_CLASSES),
            "image_sizes": dict(sorted(self.image_sizes.items())),
            "drives": dict(sorted(self.drives.items())),
        }


def in_kitti_order(by_type: Mapping[str, Any]) -> dict[str, Any]:
    """The same mapping with KITTI's types in their usual order, and only those present."""
    return {name: by_type[name] for name in (*CLASSES, DONT_CARE) if name in by_type}


def _nested(by_type: Mapping[str, Mapping[str, int]], keys: Iterable[str]) -> dict[str, dict]:
    keys = tuple(keys)
    return {
        name: {key: counts.get(key, 0) for key in keys}
        for name, counts in in_kitti_order(by_type).items()
    }
