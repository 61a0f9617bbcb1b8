"""Writes detections in KITTI's submission format and in COCO's."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from efficientdet.atomic import atomic_open
from efficientdet.dataset.file_names import file_name
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UserError
from efficientdet.evaluation.frames import FrameDetections

# What a 2D detector does not know, as KITTI's readme wants it: truncated, occluded and alpha before
# the box; dimensions, location and rotation after it.
_BEFORE, _AFTER = "-1 -1 -10", "-1 -1 -1 -1000 -1000 -1000 -10"


def write_kitti(folder: Path, detections: Iterable[FrameDetections], label_map: LabelMap) -> None:
    """One `<source_id>.txt` for each frame, see `file_name`.

    Raises:
        UserError: a source_id that cannot name a file.
    """
    for frame in detections:
        write_frame(folder / f"{file_name(frame.source_id)}.txt", frame, label_map)


def write_frame(path: Path, frame: FrameDetections, label_map: LabelMap) -> None:
    """The result file of one frame, an empty one where nothing was found.

    A merged class is written as the KITTI type that names it. Scores keep all digits of a float32,
    so that evaluating the files gives the same AP.
    """
    with atomic_open(path) as file:
        file.writelines(kitti_lines(frame, label_map))


def kitti_lines(frame: FrameDetections, label_map: LabelMap) -> list[str]:
    """The 16 columns of each detection, with line ends."""
    return [
        f"{label_map.names[int(class_id)]} {_BEFORE} "
        f"{left:.4f} {top:.4f} {right:.4f} {bottom:.4f} {_AFTER} {score:.9g}\n"
        for (left, top, right, bottom), score, class_id in zip(
            frame.boxes, frame.scores, frame.classes, strict=True
        )
    ]


def write_coco(path: Path, detections: Iterable[FrameDetections]) -> None:
    """COCO's results list: `image_id`, `category_id`, `bbox` [left, top, width, height], `score`.

    `image_id` is the frame's number, or its source id where that is no number, or another frame's
    too (`7` and `07`); `category_id` is the class id of the label map.
    """
    detections = list(detections)
    image_ids = _image_ids([frame.source_id for frame in detections])
    rows = [
        {
            "image_id": image_ids[frame.source_id],
            "category_id": int(class_id),
            "bbox": [round(float(value), 4) for value in (left, top, right - left, bottom - top)],
            "score": float(score),
        }
        for frame in detections
        for (left, top, right, bottom), score, class_id in zip(
            frame.boxes, frame.scores, frame.classes, strict=True
        )
    ]
    with atomic_open(path) as file:
        json.dump(rows, file)


def read_coco(path: Path, source_ids: Sequence[str]) -> list[FrameDetections]:
    """What `write_coco` wrote of these frames, one entry for each; boxes are rounded there.

    Raises:
        UserError: another file, or one of other frames.
    """
    frames = {image_id: source_id for source_id, image_id in _image_ids(source_ids).items()}
    rows: dict[str, list] = {source_id: [] for source_id in source_ids}
    try:
        for row in json.loads(path.read_text(encoding="utf-8")):
            left, top, width, height = row["bbox"]
            box = (left, top, left + width, top + height)
            rows[frames[row["image_id"]]].append((box, row["score"], row["category_id"]))
        return [
            FrameDetections(source_id, *(zip(*of_frame, strict=True) if of_frame else ()))
            for source_id, of_frame in rows.items()
        ]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: not the detections of these frames ({error!r})") from None


def _image_ids(source_ids: Sequence[str]) -> dict[str, int | str]:
    numbers = Counter(map(_number, source_ids))
    known = {source_id: _number(source_id) for source_id in source_ids}
    return {s: s if n is None or numbers[n] > 1 else n for s, n in known.items()}


def _number(source_id: str) -> int | None:
    is_number = source_id.isascii() and source_id.isdecimal() and len(source_id) < 19  # int64
    return int(source_id) if is_number else None
