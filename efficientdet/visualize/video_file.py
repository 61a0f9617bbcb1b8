"""Pictures -> a video, by PyAV."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from efficientdet.atomic import atomic_path
from efficientdet.errors import UserError, one_line

if TYPE_CHECKING:
    import av

# The first that this PyAV can encode, with its options: thin lines and small text stay sharp.
_CODECS = {"libx264": {"preset": "veryfast", "crf": "20"}, "mpeg4": {"qscale": "3"}}
_MPEG4_TICKS = 60_000  # a second; MPEG-4 counts to 65535

AddPicture = Callable[[np.ndarray, Fraction], None]


@contextmanager
def video_file(path: Path, width: int, height: int, fps: Fraction) -> Iterator[AddPicture]:
    """Yields what adds a picture, uint8 [height, width, 3], at a time in seconds; times must rise.

    H.264 where PyAV has an encoder of it, else MPEG-4, in an MP4 file that exists once it is whole.
    The first picture is at 0 s. Sides may be odd: then colours are stored for each pixel, which
    few players cannot show.

    Raises:
        UserError: PyAV cannot write it.
    """
    import av

    codec = next(name for name in _CODECS if name in av.codecs_available)
    fps = fps.limit_denominator(1001)  # 30000/1001 stays; the mean of a varying rate is rounded
    try:
        with atomic_path(path) as temporary:
            flags = {"movflags": "faststart"}  # browsers play before they have all of it
            with av.open(temporary, "w", format="mp4", options=flags) as container:
                stream = container.add_stream(codec, rate=fps, options=_CODECS[codec])
                stream.width, stream.height = width, height
                is_odd = codec == "libx264" and (width % 2 or height % 2)
                stream.pix_fmt = "yuv444p" if is_odd else "yuv420p"
                stream.codec_context.time_base = Fraction(1, _ticks(fps))
                yield _Adder(container, stream, fps).add
                container.mux(stream.encode())
    except av.error.FFmpegError as error:
        raise UserError(f"{path}: cannot write this video: {one_line(error)}") from None


class _Adder:
    def __init__(
        self, container: "av.container.OutputContainer", stream: "av.VideoStream", fps: Fraction
    ):
        self._container, self._stream, self._fps = container, stream, fps
        self._start: Fraction | None = None
        self._last = -1

    def add(self, image: np.ndarray, time: Fraction) -> None:
        import av

        if self._start is None:
            self._start = time
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.time_base = self._stream.codec_context.time_base
        seconds = _on_beat(time - self._start, self._fps)
        frame.pts = max(self._last + 1, round(seconds / frame.time_base))
        self._last = frame.pts
        self._container.mux(self._stream.encode(frame))


def _on_beat(seconds: Fraction, fps: Fraction) -> Fraction:
    """The time of the frame that it is at a constant rate: MKV tells times in milliseconds."""
    beat = round(seconds * fps) / fps
    return beat if abs(beat - seconds) <= Fraction(1, 1000) else seconds


def _ticks(fps: Fraction) -> int:
    """How many parts of a second times are told in: a frame of `fps` is a whole number of them."""
    return fps.numerator * max(1, _MPEG4_TICKS // fps.numerator)
