"""detections.npz: there and back, and what is no such file."""

from pathlib import Path

import numpy as np
import pytest

from efficientdet.checkpoint.identity import Identity
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UserError
from efficientdet.evaluation.frames import FrameDetections
from efficientdet.run.scored_frames import ScoredFrames

MAP = LabelMap((("Car", "Van"), ("Pedestrian",)))
OF = Identity("run/model.ckpt-7", 7, "abc")
FRAMES = [
    FrameDetections("a/한글"),
    FrameDetections("2", [[1.5, 2, 3, 4], [0.1, 0, 9, 9]], [0.9, 0.1], [1, 2]),
    FrameDetections("3"),
]


@pytest.mark.parametrize("frames", [FRAMES, FRAMES[:1], []], ids=["three", "empty", "none"])
def test_there_and_back(tmp_path: Path, frames: list[FrameDetections]) -> None:
    path, prints = tmp_path / "d.npz", [{"name": "v", "num_bytes": 3, "sha256": ""}]
    ScoredFrames(frames, MAP, OF, prints, ["/v"], "2026", {"argv": ["x"]}).write(path)
    read = ScoredFrames.read(path)
    assert (read.label_map, read.checkpoint, read.prints) == (MAP, OF, prints)
    assert (list(read.files), read.date, read.command) == (["/v"], "2026", {"argv": ["x"]})
    assert [frame.source_id for frame in read.frames] == [frame.source_id for frame in frames]
    for one, other in zip(read.frames, frames, strict=True):
        assert np.array_equal(one.boxes, other.boxes.astype(np.float32))
        assert np.array_equal(one.scores, other.scores.astype(np.float32))
        assert np.array_equal(one.classes, other.classes)


def test_half_a_file_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "d.npz"
    ScoredFrames(FRAMES, MAP, OF).write(path)
    whole = path.read_bytes()
    np.savez(path, about=np.zeros(3))
    for content in (whole[: len(whole) // 2], b"", b"text", path.read_bytes()):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"d\.npz: no detections of an evaluation .*--mode=ev"):
            ScoredFrames.read(path)
