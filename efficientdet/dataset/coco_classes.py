"""Which KITTI class each class of a COCO detector stands for: configs/coco_to_kitti.yaml."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from efficientdet.config_files import PROJECT
from efficientdet.dataset.kitti import CLASSES
from efficientdet.errors import UserError

NUM_COCO_CLASSES = 90
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
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        entries = tuple(_entry(item, str(path)) for item in content["classes"])
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; expected a class map") from None
    except (yaml.YAMLError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{path}: expected `classes:` and lines like `- {{id: 3, coco: car, kitti: Car}}`"
        ) from None
    for coco_id, count in Counter(entry.coco_id for entry in entries).items():
        if count > 1:
            raise UserError(f"{path}: COCO id {coco_id} stands {count} times")
    return entries


def _entry(item: Mapping[str, Any], path: str) -> CocoClass:
    kitti_type = next(
        (name for name in CLASSES if name.lower() == str(item["kitti"]).lower()), None
    )
    if kitti_type is None:
        raise UserError(f"{path}: unknown class {item['kitti']!r}; KITTI has {', '.join(CLASSES)}")
    return CocoClass(int(item["id"]), str(item["coco"]), kitti_type, item.get("rider"))
