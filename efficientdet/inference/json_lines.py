"""Detections as JSON lines, on the disk image by image."""

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efficientdet.dataset.label_map import LabelMap
from efficientdet.evaluation.frames import FrameDetections


class JsonLines:
    """A new file to which each line goes at once: whatever ends the program, those before stay.

    Every line that ends is whole; of a program killed while it wrote, the last may lack its end.
    """

    def __init__(self, path: Path):
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._file = path, path.open("wb", buffering=0)

    def __enter__(self) -> "JsonLines":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, values: Mapping[str, Any]) -> None:
        """Writes one line."""
        line = (json.dumps(values, ensure_ascii=False) + "\n").encode("utf-8", "surrogateescape")
        try:
            written = self._file.write(line)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from None
        if written < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))


def detections_as_json(frame: FrameDetections, label_map: LabelMap) -> list[dict[str, Any]]:
    """Each with `class`, `category_id`, `bbox` [left, top, width, height] in pixels, `score`."""
    return [
        {
            "class": label_map.names[int(class_id)],
            "category_id": int(class_id),
            "bbox": [round(float(value), 4) for value in (left, top, right - left, bottom - top)],
            "score": float(f"{score:.9g}"),  # all digits of a float32
        }
        for (left, top, right, bottom), score, class_id in zip(
            frame.boxes, frame.scores, frame.classes, strict=True
        )
    ]
