"""Records -> the ground truth that metrics take in; no pixel is decoded."""

from collections.abc import Sequence
from pathlib import Path

from efficientdet.dataset.example import Record
from efficientdet.dataset.image import read_header
from efficientdet.dataset.kitti import DONT_CARE, parse_line
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.tfrecord import read_records
from efficientdet.errors import UserError
from efficientdet.evaluation.frames import BoxObject, FrameTruth


def read_truths(files: Sequence[Path], label_map: LabelMap) -> list[FrameTruth]:
    """The ground truth of records, in their order.

    An object is what its raw KITTI line says: unclipped, and whatever a filter made of it. Where a
    record has no such lines, it is the box with its class name or else its class id.

    Raises:
        UserError: a damaged record, one that is no example, or a class id that `label_map` does not
            have; names the record.
    """
    return [
        _frame_truth(Record.parse(serialized), str(place), label_map)
        for file in files
        for place, serialized in read_records(file)
    ]


def _frame_truth(record: Record, where: str, label_map: LabelMap) -> FrameTruth:
    if record.problems:
        raise UserError(f"{where}: {record.problems[0]}; inspect_tfrecord.py tells more")
    height, width = record.height, record.width
    if not width:
        header = read_header(record.encoded)
        height, width = header.height, header.width
    objects = []
    for index, line in enumerate(record.lines):
        name = f"{record.source_id}, object {index + 1}"
        if line:
            objects.append(parse_line(line, name))
            continue
        left, top, right, bottom = record.boxes[index].tolist()
        box = (left * width, top * height, right * width, bottom * height)
        objects.append(BoxObject(_type_of(record, index, name, label_map), box))
    return FrameTruth(record.source_id, width, height, objects)


def _type_of(record: Record, index: int, name: str, label_map: LabelMap) -> str:
    """The KITTI type of an object without a KITTI line."""
    class_id, text = record.labels[index], record.texts[index]
    if record.is_crowd[index]:
        return DONT_CARE
    if class_id not in label_map.names:
        raise UserError(
            f"{name}: class id {class_id}, and the label map has 1..{label_map.num_classes}"
        )
    merged = label_map.types[class_id - 1]
    return next((name for name in merged if name.lower() == text.lower()), merged[0])
