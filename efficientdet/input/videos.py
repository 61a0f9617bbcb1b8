"""Videos -> frames, by PyAV, which is loaded only where a video is named."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from efficientdet.errors import UserError, one_line
from efficientdet.wording import counted

if TYPE_CHECKING:
    import av

_LEAST_MISSING = Fraction(1)  # seconds: a sound track may be longer than its pictures


@dataclass(frozen=True)
class TimedFrame:
    """One picture of a video.

    Attributes:
        index: from 0, in the order of the file.
        time: seconds, as the file tells it.
        image: uint8 [H, W, 3] RGB, turned as the file says.
    """

    index: int
    time: Fraction
    image: np.ndarray


@dataclass
class Video:
    """An opened video; from `open_video`.

    Attributes:
        path: its file.
        first: its first frame, which tells the size.
        fps: frames a second, on average.
        num_frames: how many, as far as the file tells; None: it does not.
        problem: after `frames`: why not all of it could be read; empty where it could.
    """

    path: Path
    first: TimedFrame
    fps: Fraction
    num_frames: int | None
    seconds: Fraction | None
    problem: str = ""
    _rest: Iterator[TimedFrame] = field(default_factory=lambda: iter(()), repr=False)

    def frames(self, most: int | None = None) -> Iterator[TimedFrame]:
        """The frames in the file's order, at most `most`, one after the other in memory."""
        return islice(chain([self.first], self._rest), most)


def require_pyav(videos: Sequence[Path]) -> None:
    """Raises UserError, with the command that installs it, where there are videos but no PyAV."""
    if videos and find_spec("av") is None:
        raise UserError(
            f"{videos[0]}: videos are read by PyAV, which is not installed; run "
            f"{sys.executable} -m pip install 'av>=14,<19'"
        )


@contextmanager
def open_video(path: Path) -> Iterator[Video]:
    """A video with its first frame read.

    Raises:
        UserError: no video, one without a picture, or none that can be read.
    """
    import av

    try:
        container = av.open(path)
    except (OSError, av.error.FFmpegError) as error:
        raise UserError(f"{path}: not a readable video ({_reason(error)})") from None
    with container:
        stream = next(filter(_moves, container.streams.video), None)
        if stream is None:
            kinds = sorted({stream.type for stream in container.streams})
            only = f", only {' and '.join(kinds)}" if kinds else " at all"
            raise UserError(f"{path}: no video in it{only}")
        fps = stream.average_rate or stream.guessed_rate or Fraction(25)
        seconds = stream.duration and stream.duration * stream.time_base
        if seconds is None and container.duration:
            seconds = Fraction(container.duration, av.time_base)
        total = stream.frames or (round(seconds * fps) if seconds else None)
        if container.format.name == "avi" and total:  # it reckons seconds from the bytes there are
            seconds = total / fps
        damage: list[str] = []
        frames = _decoded(container, stream, fps, damage)
        first = next(frames, None)
        if first is None:
            raise UserError(f"{path}: no frame in it that can be read{_because(damage)}")
        video = Video(path, first, fps, total, seconds)
        video._rest = _watched(frames, video, damage)
        yield video


def _moves(stream: "av.VideoStream") -> bool:
    """Not the cover of a song."""
    return "attached_pic" not in (stream.disposition.name or "")


def _decoded(
    container: "av.container.InputContainer",
    stream: "av.VideoStream",
    fps: Fraction,
    damage: list[str],
) -> Iterator[TimedFrame]:
    """All frames that can be decoded; why others cannot goes into `damage`."""
    index, packets = 0, container.demux(stream)
    while (packet := _tried(lambda: next(packets, None), damage)) is not None:
        if packet.is_corrupt:
            damage.append("a piece of it is cut off")
        for frame in _tried(packet.decode, damage) or ():
            seconds = index / fps if frame.pts is None else frame.pts * frame.time_base
            pixels = frame.to_ndarray(format="rgb24")
            turns = round(frame.rotation / 90) % 4  # counter-clockwise
            yield TimedFrame(index, seconds, np.ascontiguousarray(np.rot90(pixels, turns)))
            index += 1


def _tried(call: Any, damage: list[str]) -> Any:
    """What `call` returns; None, and a reason more in `damage`, where the data are damaged."""
    import av

    try:
        return call()
    except (OSError, av.error.FFmpegError) as error:
        damage[1:] = []  # the first one is told
        damage.append(_reason(error))
        return None


def _watched(frames: Iterator[TimedFrame], video: Video, damage: list[str]) -> Iterator[TimedFrame]:
    """The frames; at their end, `video.problem` says whether it was the end of the video."""
    last = video.first
    for last in frames:
        yield last
    count = counted(last.index + 1, "frame")
    end = last.time - video.first.time + 1 / video.fps
    if damage:
        video.problem = f"damaged; {count} could be read{_because(damage)}"
    elif video.seconds and end < video.seconds - max(_LEAST_MISSING, video.seconds / 100):
        video.problem = (
            f"it ends after {count}, {float(end):.1f} s of {float(video.seconds):.1f} s; is the "
            "file cut off?"
        )


def _because(damage: Sequence[str]) -> str:
    return f" ({damage[0]})" if damage else ""


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or one_line(error)
