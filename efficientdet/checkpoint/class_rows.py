"""Which row of a stored class head each class of ours starts from."""

from dataclasses import dataclass
from typing import Literal

from efficientdet.dataset.coco_classes import (
    COCO_TO_KITTI,
    NUM_COCO_CLASSES,
    read_class_map,
)
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UsageError

ClassMode = Literal["auto", "by_id"]


@dataclass(frozen=True)
class ClassRows:
    """Class here -> class there, both 0-based, and what to tell the user about it."""

    rows: dict[int, int]
    note: str | None = None


def match_classes(
    num_classes: int,
    num_stored: int,
    label_map: LabelMap | None,
    stored_map: LabelMap | None,
    *,
    mode: ClassMode = "auto",
    init_classes: bool = False,
) -> ClassRows:
    """Matches by name where both sides have names, else as one whole if the numbers agree.

    Args:
        label_map, stored_map: of this run, and of the checkpoint if it is one of this project's.
        mode: "by_id" takes the rows of ids 1..K, whatever they are called.
        init_classes: of a COCO checkpoint, take the rows of KITTI's counterparts.

    Raises:
        UsageError: `init_classes` with a checkpoint that is not COCO's.
    """
    if mode == "by_id":
        shared = min(num_classes, num_stored)
        note = f"class head: the rows of ids 1..{shared} of the checkpoint's {num_stored}, by id"
        return ClassRows({row: row for row in range(shared)}, note)
    if label_map and stored_map:
        return _by_name(label_map, stored_map)
    if num_classes == num_stored:
        return ClassRows({row: row for row in range(num_classes)})
    if not init_classes:
        return ClassRows(
            {},
            f"class head re-initialised: {num_stored} classes in the checkpoint, {num_classes} "
            "here (--init_classes_from_ckpt takes COCO's rows for the classes COCO has, "
            "--ckpt_classes=by_id those of ids 1..K)",
        )
    if num_stored != NUM_COCO_CLASSES or label_map is None:
        raise UsageError(
            f"--init_classes_from_ckpt: the checkpoint has {num_stored} classes without names; "
            f"expected the {NUM_COCO_CLASSES} of COCO"
        )
    return _from_coco(label_map)


def _by_name(label_map: LabelMap, stored_map: LabelMap) -> ClassRows:
    if label_map == stored_map:
        return ClassRows({row: row for row in range(label_map.num_classes)})
    rows = {}
    for row, types in enumerate(label_map.types):
        ids = [i for name in types if (i := stored_map.id_of(name))]
        if ids:
            rows[row] = ids[0] - 1
    names = {row: stored_map.names[stored + 1] for row, stored in rows.items()}
    return ClassRows(rows, _note(label_map, names))


def _from_coco(label_map: LabelMap) -> ClassRows:
    known = {one.kitti_type: one for one in read_class_map(COCO_TO_KITTI)}
    found = {
        row: known[next(name for name in types if name in known)]
        for row, types in enumerate(label_map.types)
        if any(name in known for name in types)
    }
    rows = {row: one.coco_id - 1 for row, one in found.items()}
    return ClassRows(rows, _note(label_map, {row: one.coco_name for row, one in found.items()}))


def _note(label_map: LabelMap, sources: dict[int, str]) -> str:
    names = [label_map.names[row + 1] for row in range(label_map.num_classes)]
    taken = ", ".join(f"{names[row]} from {source}" for row, source in sources.items())
    others = ", ".join(name for row, name in enumerate(names) if row not in sources)
    return f"class head: {taken or 'no class in common'}" + (
        f"; at random: {others}" if others else ""
    )
