"""Videos in, videos and lines out; the network is left out."""

import importlib.util
import json
import weakref
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from one_box import OneBox
from PIL import Image

from efficientdet.errors import UsageError, UserError
from efficientdet.inference import prediction, video_prediction
from efficientdet.inference.prediction import PredictOptions, predict
from efficientdet.input import videos
from efficientdet.input.videos import TimedFrame
from efficientdet.visualize.drawing import class_colour

av = pytest.importorskip("av")
OPTIONS = PredictOptions("run", "a.mp4", output_dir="out", min_score=0.3)
WIDE = (64, 48)


def make(
    name: str,
    count: int = 10,
    size: tuple[int, int] = WIDE,
    fps: Fraction | int = 10,
    codec: str = "libx264",
    turned: int = 0,
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
) -> Path:
    """A video whose frames get brighter; their upper half is black."""
    with av.open(name, "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        if turned:
            stream.set_display_rotation(turned)
        container.start_encoding()
        for number in range(count):
            pixels = np.zeros((size[1], size[0], 3), np.uint8)
            pixels[size[1] // 2 :] = 60 + 10 * (number % 15)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return Path(name)


def read(path: Path | str) -> tuple[Fraction, list[np.ndarray], list[float]]:
    """Frames a second, pictures and times."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        pixels = [frame.to_ndarray(format="rgb24") for frame in frames]
        return container.streams.video[0].average_rate, pixels, [frame.time for frame in frames]


def lines(name: str = "a") -> list[dict]:
    text = Path(f"out/results/{name}.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("fps", [25, Fraction(30000, 1001), 7])
@pytest.mark.parametrize(
    ("name", "size", "how"),
    [
        ("a.mp4", WIDE, {}),
        ("a.MKV", WIDE, {}),
        ("a.mov", WIDE, {}),
        ("a.avi", WIDE, {"codec": "mpeg4"}),
        ("a.avi", (63, 47), {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
    ],
)
def test_a_video_comes_out_with_boxes_of_the_same_size_and_rate(run_folder, name, size, how, fps):
    make(name, 10, size, fps, **how)
    predict(replace(OPTIONS, images=name, batch_size=4))
    rate, pictures, times = read("out/a.mp4")
    assert rate == fps and len(pictures) == 10
    assert pictures[0].shape == (size[1], size[0], 3)
    np.testing.assert_allclose(times, np.arange(10) / float(fps), atol=1e-4)
    brightness = [picture[40:, 30:].mean() for picture in pictures]
    np.testing.assert_allclose(brightness, 60 + 10 * np.arange(10), atol=8)
    assert np.abs(pictures[5][0, :4].astype(int) - class_colour(1)).mean() < 60  # the box
    assert [line["frame"] for line in lines()] == [*range(10)]
    np.testing.assert_allclose([line["time"] for line in lines()], times, atol=2e-3)
    box = {"class": "Car", "category_id": 1, "bbox": [0, 0, 4, 4], "score": 0.5}
    assert all(line["detections"] == [box] for line in lines())


@pytest.mark.parametrize(
    ("turned", "bright"), [(90, np.s_[:, 36:]), (-90, np.s_[:, :12]), (180, np.s_[:24, 10:])]
)
def test_frames_are_turned_as_the_file_says(run_folder, turned, bright):
    make("a.mp4", 1, turned=turned)
    predict(replace(OPTIONS, min_score=1))
    _, (picture,), _ = read("out/a.mp4")
    assert picture.shape == ((64, 48, 3) if turned != 180 else (48, 64, 3))
    assert picture[bright].mean() > 50 and picture.mean() < 40


def test_times_of_a_variable_rate_stay(run_folder):
    times = [0, 1, 2, 7, 8, 20]
    with av.open("a.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = *WIDE, "yuv420p"
        for time in times:
            frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    predict(OPTIONS)
    np.testing.assert_allclose([line["time"] for line in lines()], np.divide(times, 10))
    np.testing.assert_allclose(read("out/a.mp4")[2], np.divide(times, 10), atol=1e-3)


def test_images_and_videos_in_one_go(run_folder, said):
    Path("in").mkdir()
    make("in/a.mp4", 3)
    Image.new("RGB", (9, 9)).save("in/a.png")
    predict(replace(OPTIONS, images="in", max_images=2))
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "a.mp4", "a.png", "detections.json", "detections.jsonl", "results",
    ]  # fmt: skip
    assert sorted(path.name for path in Path("out/results").iterdir()) == ["a.jsonl", "a.txt"]
    assert len(read("out/a.mp4")[1]) == len(lines()) == 2  # --max_images
    assert "in/a.mp4: 64x48, 10 frames/s" in said
    assert "in/a.mp4: 2 frames in out/results/a.jsonl; out/a.mp4" in said
    assert said[-1].startswith("3 boxes drawn: Car 3 ")


def test_without_drawing_there_are_lines_alone(run_folder):
    make("a.mp4", 3)
    predict(replace(OPTIONS, draw=False))
    assert len(lines()) == 3 and not Path("out/a.mp4").exists()


def test_what_is_done_is_on_the_disk_when_the_command_dies(run_folder, monkeypatch):
    make("a.mp4")
    monkeypatch.setattr(OneBox, "dies_at", "7")
    with pytest.raises(KeyboardInterrupt):
        predict(replace(OPTIONS, batch_size=3))
    assert [line["frame"] for line in lines()] == [*range(6)]
    assert [path.name for path in Path("out").iterdir()] == ["results"]  # no half video


def test_memory_does_not_grow_with_the_video(run_folder, monkeypatch):
    """When a batch runs, no more frames are alive than those of a few batches."""
    make("a.mp4", 24)
    frames, alive = [], []

    class Counted(TimedFrame):
        def __init__(self, *args):
            super().__init__(*args)
            frames.append(weakref.ref(self))

    class Counting(OneBox):
        def detect(self, batch):
            alive.append(sum(one() is not None for one in frames))
            return super().detect(batch)

    monkeypatch.setattr(videos, "TimedFrame", Counted)
    monkeypatch.setattr(prediction, "load_detector", lambda *_: Counting())
    predict(replace(OPTIONS, batch_size=2))
    assert len(lines()) == len(frames) == 24 and max(alive) <= 4 * 2 + 1


@pytest.mark.parametrize(
    ("name", "num_frames", "most", "total"),
    [("a.mp4", 10, None, 3), ("a.mkv", 10, None, 3), ("a.mp4", 10, 3, 1)],
)
def test_the_bar_knows_its_end(run_folder, monkeypatch, name, num_frames, most, total):
    make(name, num_frames)
    totals = []
    track = lambda items, _, total: totals.append(total) or items  # noqa: E731
    monkeypatch.setattr(video_prediction, "track", track)
    predict(replace(OPTIONS, images=name, max_images=most))
    assert totals == [total]


def cut(keep: float, name: str = "bad.mkv", **how) -> None:
    data = make(name, 60, **how).read_bytes()
    Path(name).write_bytes(data[: int(keep * len(data))])


def audio_only() -> None:
    with av.open("bad.mp4", "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


BAD = {
    "of zero frames": (lambda: make("bad.mp4", 0), "bad.mp4: no video in it at all"),
    "of zero frames, MKV": (lambda: make("bad.mkv", 0), "bad.mkv: not a readable video (End"),
    "of zero frames, AVI": (lambda: make("bad.avi", 0, codec="mpeg4"), "bad.avi: no"),
    "of zero bytes": (lambda: Path("bad.mp4").touch(), "bad.mp4: not a readable video (Inv"),
    "no video": (lambda: Path("bad.avi").write_text("hi" * 99), "bad.avi: not a readable video ("),
    "audio only": (audio_only, "bad.mp4: no video in it, only audio"),
    "without its end, which tells where all is": (lambda: cut(0.5, "bad.mp4"), "bad.mp4: no"),
    "cut off": (lambda: cut(0.5), "bad.mkv: it ends after "),
    "cut off in a frame": (
        lambda: cut(0.8, "bad.avi", codec="mjpeg", pix_fmt="yuvj420p"),
        "bad.avi: damaged; ",
    ),
    "cut off, AVI": (lambda: cut(0.6, "bad.avi", codec="mpeg4"), "bad.avi: it ends after "),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_video_is_one_line_and_the_rest_goes_on(run_folder, said, kind):
    do, what = BAD[kind]
    do()
    make("good.mp4", 2)
    with pytest.raises(UserError) as caught:
        predict(replace(OPTIONS, images="bad.*,good.mp4"))
    (line,) = [line for line in said if line.startswith("warning: ")]
    assert line.startswith(f"warning: {what}") and "\n" not in line
    assert str(caught.value) == (
        f"1 of 2 videos could not be read, or not to the end, first {line[len('warning: ') :]}"
    )
    assert len(read("out/good.mp4")[1]) == len(lines("good")) == 2
    if "cut off" in kind:  # what was there before
        assert 0 < len(lines("bad")) < 60
        assert len(read("out/bad.mp4")[1]) == len(lines("bad"))


def test_without_pyav_its_command_is_told(run_folder, monkeypatch):
    make("a.mp4", 1)
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "efficientdet.input.videos.find_spec", lambda name: found(name) if name != "av" else None
    )
    with pytest.raises(UserError, match=r"^a.mp4: videos are read by PyAV, .* -m pip install 'av"):
        predict(OPTIONS)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("images", "more", "what"),
    [
        ("a.mp4,b/a.avi", {}, "a.mp4 and b/a.avi have one name"),
        ("a.mp4", {"output_dir": "."}, "a.mp4: its picture would replace it"),
        ("a.mp4", {"submission": "x.zip"}, "1 image not named by six digits, first a.mp4"),
    ],
)
def test_what_cannot_go_well_is_told_first(run_folder, images, more, what):
    Path("b").mkdir()
    make("a.mp4", 1)
    make("b/a.avi", 1, codec="mpeg4")
    with pytest.raises(UserError, match=what):
        predict(replace(OPTIONS, images=images, **more))


def test_videos_have_no_labels(run_folder):
    make("a.mp4", 1)
    with pytest.raises(UsageError, match="videos have no labels"):
        predict(replace(OPTIONS, compare_labels="labels"))
