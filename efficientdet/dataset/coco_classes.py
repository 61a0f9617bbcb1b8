"""Which KITTI class each class of a COCO detector stands for: configs/coco_to_kitti.yaml."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efficientdet.config_files import PROJECT
from efficientdet.dataset.kitti import CLASSES
from efficientdet.errors import UserError, shown
from efficientdet.yaml_file import read_yaml

NUM_COCO_CLASSES = 90
_EXPECTED = "expected `classes:` and lines like `- {id: 3, coco: car, kitti: Car}`"
COCO_TO_KITTI = PROJECT / "configs" / "coco_to_kitti.yaml"


@dataclass(frozen=True)
class CocoClass:
    """One COCO class and the KITTI class that it stands for.

    `rider` is the COCO id of who must sit on it, or None.
    """

    coco_id: int
    coco_name: str
    kitti_type: str
    rider: int | None = None


def read_class_map(path: str | Path) -> tuple[CocoClass, ...]:
    """Reads a file such as configs/coco_to_kitti.yaml.

    Raises:
        UserError: unreadable, an unknown KITTI class, or a COCO id that stands twice.
    """
    content = read_yaml(path, "a class map")
    items = content.get("classes") if isinstance(content, Mapping) else None
    if not isinstance(items, list):
        raise UserError(f"{path}: {_EXPECTED}")
    entries = tuple(_entry(item, f"{path}: entry {i}") for i, item in enumerate(items, start=1))
    for coco_id, count in Counter(entry.coco_id for entry in entries).items():
        if count > 1:
            raise UserError(f"{path}: COCO id {coco_id} stands {count} times")
    return entries


def _entry(item: Any, where: str) -> CocoClass:
    if not isinstance(item, Mapping) or not {"id", "coco", "kitti"} <= item.keys():
        raise UserError(f"{where}: {_EXPECTED}")
    given = str(item["kitti"])
    kitti_type = next((name for name in CLASSES if name.lower() == given.lower()), None)
    if kitti_type is None:
        raise UserError(f"{where}: unknown class {shown(given)}; KITTI has {', '.join(CLASSES)}")
    rider = item.get("rider")
    for coco_id in (item["id"], *([] if rider is None else [rider])):
        if type(coco_id) is not int or not 1 <= coco_id <= NUM_COCO_CLASSES:
            raise UserError(
                f"{where}: {shown(str(coco_id))} is no id of a COCO class, 1 to {NUM_COCO_CLASSES}"
            )
    return CocoClass(item["id"], str(item["coco"]), kitti_type, rider)
