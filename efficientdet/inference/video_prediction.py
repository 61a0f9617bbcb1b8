"""Detections in a video: a video with boxes, and a line of JSON for each frame."""

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from efficientdet.errors import UserError
from efficientdet.evaluation.frames import FrameDetections
from efficientdet.inference.background import Background
from efficientdet.inference.image_prediction import Prediction
from efficientdet.inference.json_lines import JsonLines, detections_as_json
from efficientdet.input.images import pixel_batches
from efficientdet.input.videos import TimedFrame, Video, open_video
from efficientdet.progress import track
from efficientdet.visualize.detections import draw_detections
from efficientdet.visualize.video_file import AddPicture, video_file
from efficientdet.wording import counted

logger = logging.getLogger(__name__)


def predict_video(prediction: Prediction, path: Path, max_frames: int | None = None) -> None:
    """Writes `NAME.mp4` with boxes and `results/NAME.jsonl`.

    Lines are on the disk before the next batch runs; the video is there once it is whole. No more
    than a few batches are in memory. What cannot be read is said and noted.
    """
    folder = prediction.folder
    with ExitStack() as stack:
        try:
            video = stack.enter_context(open_video(path))
        except UserError as error:
            prediction.leave_out(str(error))
            return
        height, width = video.first.image.shape[:2]
        logger.info(f"{path}: {width}x{height}, {float(video.fps):.4g} frames/s")
        results, add = folder / "results" / f"{path.stem}.jsonl", None
        lines = stack.enter_context(JsonLines(results))
        if prediction.draw:
            target = folder / f"{path.stem}.mp4"
            add = stack.enter_context(video_file(target, width, height, video.fps))
        background = stack.enter_context(Background(1, most=2 * prediction.batch_size))
        for frame, found in _detections(prediction, video, max_frames):
            _write(prediction, frame, found, lines, add, background.call)
    if video.problem:
        prediction.leave_out(f"{path}: {video.problem}")
    drawn = f"; {target}" if prediction.draw else ""
    logger.info(f"{path}: {counted(frame.index + 1, 'frame')} in {results}{drawn}")


def _detections(
    prediction: Prediction, video: Video, max_frames: int | None
) -> Iterator[tuple[TimedFrame, FrameDetections]]:
    """Each frame with what was found in it."""
    size = prediction.batch_size
    taken: list[TimedFrame] = []

    def named() -> Iterator[tuple[str, np.ndarray]]:
        for frame in video.frames(max_frames):
            taken.append(frame)
            yield str(frame.index), frame.image

    totals = [n for n in (video.num_frames, max_frames) if n]
    num_batches = math.ceil(min(totals) / size) if totals else None
    batches = pixel_batches(named(), prediction.config, size)
    for batch, _ in track(batches, "detecting", num_batches):
        yield from zip(taken, prediction.detector.detect(batch), strict=True)
        taken.clear()


def _write(
    prediction: Prediction,
    frame: TimedFrame,
    found: FrameDetections,
    lines: JsonLines,
    add: AddPicture | None,
    later: Callable[..., None],
) -> None:
    detections = detections_as_json(found, prediction.label_map)
    seconds = round(float(frame.time), 6)
    lines.add({"frame": frame.index, "time": seconds, "detections": detections})
    shown = prediction.show(found)
    if add:
        later(_draw, prediction, frame, shown, add)


def _draw(
    prediction: Prediction, frame: TimedFrame, shown: FrameDetections, add: AddPicture
) -> None:
    add(draw_detections(frame.image, shown, prediction.label_map, {}), frame.time)
