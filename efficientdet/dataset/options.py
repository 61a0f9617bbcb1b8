"""The converter's options: which frames, which objects, how strict."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from efficientdet.dataset import splits
from efficientdet.dataset.kitti import CLASSES
from efficientdet.errors import UsageError

Subset = Literal["training", "validation", "testing", "all"]
SUBSETS = ("training", "validation", "testing", "all")


@dataclass(frozen=True)
class Options:
    """What shapes the bytes of a record, apart from its input.

    Attributes:
        subset: training or validation side of the split, all training frames, or testing.
        split: how the sides are chosen; with `file`, the frames are those of `split_file`; with
            `sequence`, `group_by` tells recordings apart, see `sequences.group`.
        classes: the KITTI types that the detector tells apart, in KITTI's order; None: those of the
            label map.
        min_box_height: px; max_occlusion: 0..3; max_truncation: 0..1. What lies beyond is kept as
            an ignore region.
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
    verify_images: bool = False
    skip_bad: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the manifest; the split file by its name alone.

        What came later is left out where it does nothing, so that older manifests still agree.
        """
        values = dataclasses.asdict(self) | {"split_file": self.split_file and self.split_file.name}
        if self.split != "sequence":
            del values["group_by"]
        return values


def parse_classes(text: str) -> tuple[str, ...] | None:
    """KITTI types, in KITTI's order, from `Pedestrian,car`; None from an empty text."""
    canonical = {name.lower(): name for name in CLASSES}
    names = [name for part in text.split(",") if (name := part.strip())]
    for name in names:
        if name.lower() not in canonical:
            raise UsageError(f"--classes: unknown class {name!r}; KITTI has {', '.join(CLASSES)}")
    chosen = {canonical[name.lower()] for name in names}
    return tuple(name for name in CLASSES if name in chosen) or None
