"""Records -> the ground truth that metrics take in; no pixel is decoded."""

import sys
from collections.abc import Sequence
from itertools import chain, islice
from pathlib import Path

from efficientdet.dataset.example import Record
from efficientdet.dataset.file_names import file_name
from efficientdet.dataset.index_file import read_frames
from efficientdet.dataset.kitti import DONT_CARE, parse_line
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.rules import Rules, place_name
from efficientdet.errors import UserError
from efficientdet.evaluation.frames import BoxObject, FrameTruth


def read_truths(
    files: Sequence[Path],
    label_map: LabelMap,
    *,
    num_images: int | None = None,
    max_instances: int = sys.maxsize,
    strict: bool = True,
) -> list[FrameTruth]:
    """The ground truth of records, in their order; read from their indexes where they have them.

    An object is what its raw KITTI line says: unclipped, and whatever a filter made of it. Where a
    record has no such lines, it is the box with its class name or else its class id.

    Args:
        num_images: the first so many; None: all.
        max_instances: objects that an image may hold.
        strict: also refuse what could be read all the same, see `Rules`.

    Raises:
        UserError: a record that is not fit to train on is none to judge by either; names the first
            one, and two frames that would write one result file.
    """
    rules = Rules(label_map, max_instances, decode_images=False, strict=strict)
    truths = []
    first: dict[str, str] = {}
    frames = chain.from_iterable(read_frames(file, num_images) for file in files)
    for place, parse in islice(frames, num_images):
        record = parse()
        where = place_name(place, record)
        for kind, what in rules.check(record):
            raise UserError(f"{where}: {kind}: {what}; inspect_tfrecord.py tells more")
        if (other := first.setdefault(file_name(record.source_id), where)) is not where:
            raise UserError(
                f"{where}: its results would have the file name of {other}; each frame needs its "
                "own source_id"
            )
        truths.append(_frame_truth(record, label_map))
    return truths


def _frame_truth(record: Record, label_map: LabelMap) -> FrameTruth:
    header = record.image_header()
    height, width = header.height, header.width
    objects = []
    for index, line in enumerate(record.lines):
        name = f"{record.source_id}, object {index + 1}"
        if line:
            objects.append(parse_line(line, name))
            continue
        left, top, right, bottom = record.boxes[index].tolist()
        box = (left * width, top * height, right * width, bottom * height)
        objects.append(BoxObject(_type_of(record, index, label_map), box))
    return FrameTruth(record.source_id, width, height, objects)


def _type_of(record: Record, index: int, label_map: LabelMap) -> str:
    """The KITTI type of an object without a KITTI line."""
    text = record.texts[index]
    if record.is_crowd[index]:
        return DONT_CARE
    merged = label_map.types[record.labels[index] - 1]
    return next((name for name in merged if name.lower() == text.lower()), merged[0])
