"""detections.npz: all that an evaluation found, on which frames of which records, in one file.

Half a megabyte for KITTI's 250 frames with 100 detections each, a tenth of `detections.json`; it
names its checkpoint and its records, so that two runs can be compared frame by frame.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from efficientdet.atomic import atomic_path
from efficientdet.checkpoint.identity import Identity
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UserError
from efficientdet.evaluation.frames import FrameDetections, concatenate
from efficientdet.run.record_prints import Prints

FILE_NAME = "detections.npz"


@dataclass(frozen=True)
class ScoredFrames:
    """The detections of one checkpoint on one set of records.

    Attributes:
        frames: one for each frame, in the order of the records, also where nothing was found.
        prints: of the records, see `record_prints.fingerprint`; empty where it is not known.
        files: where the records lay.
        date: ISO 8601.
        command: `journal.this_command` of the evaluation.
    """

    frames: Sequence[FrameDetections]
    label_map: LabelMap
    checkpoint: Identity
    prints: Prints = field(default_factory=list)
    files: Sequence[str] = ()
    date: str = ""
    command: Mapping[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Writes what `read` reads; boxes and scores as float32."""
        of = self.checkpoint
        about = {
            "checkpoint": [of.name, of.step, of.digest],
            "label_map": self.label_map.to_dict(),
            "source_ids": [frame.source_id for frame in self.frames],
            **{name: getattr(self, name) for name in ("prints", "files", "date", "command")},
        }
        arrays = {
            "about": np.frombuffer(json.dumps(about).encode(), np.uint8),
            "counts": np.array([len(frame.scores) for frame in self.frames], np.int32),
            "boxes": concatenate([frame.boxes for frame in self.frames], 4).astype(np.float32),
            "scores": concatenate([frame.scores for frame in self.frames]).astype(np.float32),
            "classes": concatenate([frame.classes for frame in self.frames]).astype(np.int16),
        }
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def read(cls, path: Path) -> "ScoredFrames":
        """Reads a file of `write`.

        Raises:
            UserError: something else, or half a file.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                about = json.loads(stored["about"].tobytes())
                ends = np.cumsum(stored["counts"])  # the last part is what lies beyond: nothing
                names = ("boxes", "scores", "classes")
                parts = [np.split(stored[name], ends)[: len(ends)] for name in names]
            frames = [
                FrameDetections(source_id, *arrays)
                for source_id, *arrays in zip(about["source_ids"], *parts, strict=True)
            ]
            label_map = LabelMap.from_dict(about["label_map"])
            checkpoint = Identity(*about["checkpoint"])
            known = {name: about[name] for name in ("prints", "files", "date", "command")}
        except (OSError, ValueError, LookupError, TypeError, AttributeError, BadZipFile, EOFError,
                UserError, RecursionError) as error:  # fmt: skip
            raise UserError(
                f"{path}: no detections of an evaluation ({error!r}); delete it, or write it anew "
                "with --mode=eval"
            ) from None
        return cls(frames, label_map, checkpoint, **known)
