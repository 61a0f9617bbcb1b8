"""The converter's options: which frames, which objects, how strict."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from efficientdet.dataset import splits
from efficientdet.dataset.kitti import CLASSES, class_name

Subset = Literal["training", "validation", "testing", "all"]
SUBSETS = ("training", "validation", "testing", "all")


@dataclass(frozen=True)
class Options:
    """What shapes the bytes of a record, apart from its input.

    Attributes:
        subset: training or validation side of the split, all training frames, or testing.
        split: how the sides are chosen; with `file`, the frames are those of `split_file`; with
            `sequence`, `group_by` tells recordings apart, see `sequences.group`.
        classes: what the detector tells apart, KITTI's types first and in KITTI's order; None: the
            classes of the label map.
        min_box_height: px; max_occlusion: 0..3; max_truncation: 0..1. What lies beyond is kept as
            an ignore region.
        missing_is_empty: an image without a label file shows nothing to find.
        verify_images: decode every image.
        skip_bad: leave bad frames out instead of failing.
    """

    subset: Subset = "training"
    split: splits.Split = "drive"
    split_file: Path | None = None
    group_by: str = ""
    val_fraction: float = 0.2
    seed: int = 0
    num_shards: int = 1
    classes: tuple[str, ...] | None = None
    min_box_height: float = 0.0
    max_occlusion: int = 3
    max_truncation: float = 1.0
    missing_is_empty: bool = False
    verify_images: bool = False
    skip_bad: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the manifest; the split file by its name alone.

        What came later is left out where it does nothing, so that older manifests still agree.
        """
        values = dataclasses.asdict(self) | {"split_file": self.split_file and self.split_file.name}
        if not self.missing_is_empty:
            del values["missing_is_empty"]
        if self.split != "sequence":
            del values["group_by"]
        return values


def parse_classes(text: str) -> tuple[str, ...] | None:
    """Classes from `Pedestrian,car`, KITTI's first, in KITTI's order; None from an empty text."""
    chosen = dict.fromkeys(class_name(name) for part in text.split(",") if (name := part.strip()))
    return tuple(sorted(chosen, key=lambda n: CLASSES.index(n) if n in CLASSES else 9)) or None
