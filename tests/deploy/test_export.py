"""The command around the formats: what it refuses, what it leaves, how it judges."""

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from PIL import Image
from rich.console import Console
from tiny_exports import MODELS, info_of, noise, save_run, tiny

from efficientdet import export as command
from efficientdet.dataset.label_map import LabelMap
from efficientdet.deploy import export as deploy
from efficientdet.deploy import validate
from efficientdet.deploy.agreement import compare
from efficientdet.deploy.options import ExportOptions
from efficientdet.errors import UsageError, UserError
from efficientdet.evaluation.frames import FrameDetections
from efficientdet.inference import scoring
from efficientdet.inference.exported import open_export
from efficientdet.inference.prediction import PredictOptions, predict
from efficientdet.inference.scoring import EvaluateOptions


@pytest.fixture
def options(run_of: Callable[[str], Path], tmp_path: Path) -> ExportOptions:
    return ExportOptions(str(run_of(MODELS[0])), str(tmp_path / "out"), format=("saved_model",))


@pytest.fixture(scope="module")
def files(run_of, tmp_path_factory) -> Path:
    """What one whole export leaves, of a size that was not trained."""
    folder = tmp_path_factory.mktemp("whole") / "files"
    run = str(run_of(MODELS[1]))
    formats = ("saved_model", "tflite")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validate, "_TIMED", 1)
        deploy.export(ExportOptions(run, str(folder), format=formats, image_size="192x64"))
    return folder


def test_a_report_and_the_files_are_left(files: Path) -> None:
    assert {path.name for path in files.iterdir()} == {
        "saved_model", "model.tflite", "export_report.json"
    }  # fmt: skip
    report = json.loads((files / "export_report.json").read_text())
    names = [row["name"] for row in report["rows"]]
    assert names == ["Keras", "saved_model", "model.tflite"]
    assert all(row["ok"] for row in report["rows"])
    assert report["input_size"] == [192, 64] and report["images"] == "4 made-up images"


def test_predict_takes_a_file(files, tmp_path) -> None:
    image = tmp_path / "a.png"
    Image.fromarray(noise(40, 90)).save(image)
    for name in ("saved_model", "model.tflite"):
        folder = tmp_path / name
        predict(PredictOptions(None, str(image), output_dir=str(folder), export=str(files / name)))
        assert (folder / "a.png").exists() and (folder / "results/a.txt").read_text()
    texts = [(tmp_path / n / "results/a.txt").read_text() for n in ("saved_model", "model.tflite")]
    numbers = [[float(x) for x in re.findall(r"-?\d+\.\d+", text)] for text in texts]
    np.testing.assert_allclose(*numbers, atol=0.02)
    with pytest.raises(UsageError, match="is as it was exported: leave out --hparams"):
        scoring.evaluate_export(
            EvaluateOptions(None, "val", export=str(files / "saved_model"), hparams={"seed": 1})
        )
    with pytest.raises(UsageError, match="leave out --hparams"):
        predict(PredictOptions(None, str(image), export="x", hparams={"seed": 1}))


def test_nothing_is_replaced_unless_that_is_said(options: ExportOptions) -> None:
    (Path(options.output_dir) / "saved_model").mkdir(parents=True)
    with pytest.raises(UsageError, match="saved_model is there already: say --overwrite"):
        deploy.export(options)


def test_a_folder_that_cannot_be_written_is_one_line(options, tmp_path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file/out: cannot write there"):
        deploy.export(replace(options, output_dir=str(tmp_path / "file/out")))


def test_no_best_checkpoint(options: ExportOptions) -> None:
    with pytest.raises(UserError, match="archive: no best checkpoint"):
        deploy.export(replace(options, which="best"))


def test_a_missing_package_is_named_before_anything_slow(options, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(UserError, match=r"format=onnx needs .*tf2onnx: pip install -e '.\[exp"):
        deploy.export(replace(options, format=("onnx",)))
    assert not Path(options.output_dir).exists()


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({"format": ["tflight"]}, "--format=tflight: expected one or more of saved_model, tflite"),
        ({"quantize": ["int8"]}, "--quantize=int8 needs --calibration"),
        ({"quantize": ["int4"]}, "--quantize=int4: expected"),
        ({"best": True, "newest": True}, "--best and --newest exclude each other"),
        ({"ckpt": "x", "best": True}, "--ckpt and --best"),
        ({"output_dir": None}, "--output_dir is missing"),
    ],
)
def test_flags_that_cannot_be_meant(typed, said) -> None:
    with flagsaver.flagsaver():
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()
        for name, value in ({"model_dir": "run", "output_dir": "out"} | typed).items():
            flags.FLAGS[name].value = value
        with pytest.raises(UsageError, match=re.escape(said)):
            command.main()


def detections(score: float, left: float = 0.0) -> list[FrameDetections]:
    boxes = np.array([[left, 0, left + 40, 30], [60, 0, 90, 30]])
    return [FrameDetections("0", boxes, np.array([score, 0.04]), np.array([1, 2]))]


def test_detections_are_held_against_the_nearest_of_their_class() -> None:
    same = compare(detections(0.5), detections(0.5))
    assert (same.score, same.box, same.count, same.unmatched) == (0, 0, 2, (0, 0))
    other = compare(detections(0.5), detections(0.6, left=1))
    assert (other.score, other.box, other.unmatched) == (pytest.approx(0.1), 1, (0, 0))
    assert compare(detections(0.5), detections(0.5, left=20)).unmatched == (1, 1)
    empty = [FrameDetections("0", np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))]
    assert compare(detections(0.5), empty).unmatched_share == 1
    assert compare(empty, empty).unmatched_share == 0


def test_one_detection_in_a_thousand_may_be_chance() -> None:
    def frames(count: int, wrong: int) -> list[FrameDetections]:
        scores = np.where(np.arange(count) < wrong, 0.5, 0.4)
        boxes = np.arange(count)[:, None] * 50.0 + np.array([0, 0, 40, 30])
        return [FrameDetections("0", boxes, scores, np.ones(count, int))]

    wide = {count: frames(count, 0) for count in (200, 1500)}
    assert compare(wide[1500], frames(1500, 1)).score == 0
    assert compare(wide[1500], frames(1500, 2)).score == pytest.approx(0.1)
    assert compare(wide[200], frames(200, 1)).score == pytest.approx(0.1)


@pytest.mark.parametrize(("count", "share"), [(100, 0.0), (99, 2 / 198)])
def test_one_detection_on_each_side_of_many_is_chance(count: int, share: float) -> None:
    def frames(last: float) -> list[FrameDetections]:
        boxes = np.arange(count)[:, None] * 50.0 + np.array([0, 0, 40, 30])
        boxes[-1] += last
        return [FrameDetections("0", boxes, np.full(count, 0.4), np.arange(count))]

    assert compare(frames(0), frames(1000)).unmatched_share == share


def test_two_on_one_side_are_not_chance() -> None:
    boxes = np.arange(200)[:, None] * 50.0 + np.array([0, 0, 40, 30])
    whole, short = (
        [FrameDetections("0", boxes[:n], np.full(n, 0.4), np.arange(n))] for n in (200, 198)
    )
    for pair in ((whole, short), (short, whole)):
        assert compare(*pair).unmatched_share == 2 / 398


def test_which_of_equal_detections_comes_out_is_chance() -> None:
    def frame(*lefts: float) -> list[FrameDetections]:
        boxes = np.array([[left, 0, left + 40, 30] for left in lefts])
        return [FrameDetections("0", boxes, np.array([0.3, 0.2995]), np.array([1, 1]))]

    assert compare(frame(0, 100), frame(0, 200)).unmatched == (0, 0)


@pytest.mark.parametrize(
    ("precision", "act", "found", "says"),
    [
        ("fp32", "relu6", detections(0.5), ""),
        ("fp32", "relu6", detections(0.51), "0.01 between scores, at most 0.001"),
        ("fp32", "relu6", detections(0.5, left=20), "1 of the detections have no counterpart"),
        ("fp16", "relu6", detections(0.51), ""),
        ("int8", "relu6", detections(0.51), "10 points of AP50 lost, at most 2"),
        ("int8", "swish", detections(0.51), ""),
    ],
)
def test_a_file_beyond_its_tolerance_is_a_failure(
    tmp_path, monkeypatch, precision, act, found, says
) -> None:
    """The AP50 is made up: 0.5, and 0.1 less for a score of 0.51."""

    class Fixed:
        def __init__(self, found):
            self.found = found

        def detect(self, batch):
            return self.found

    def score(found):
        is_worse = found[0].scores[0] == 0.51 and precision == "int8"
        return {"AP": 0.3, "AP50": 0.4 if is_worse else 0.5}

    path = tmp_path / "m.tflite"
    path.touch()
    monkeypatch.setattr(validate, "open_export", lambda path: Fixed(found))
    frames = validate.Frames(lambda: iter([{}]), score, "1 image")
    info = info_of(tiny(MODELS[act == "swish"]))
    judge = lambda: validate.validate(  # noqa: E731
        {path: precision}, Fixed(detections(0.5)), frames, tmp_path, info
    )
    if says:
        with pytest.raises(UserError, match=re.escape(says)):
            judge()
    else:
        judge()
    row = json.loads((tmp_path / validate.REPORT).read_text())["rows"][1]
    assert row["ok"] == (not says)


@pytest.mark.parametrize("width", [60, 70, 80])
def test_the_table_fits_the_terminal(width: int) -> None:
    row = validate.Row("model_int8.tflite", 4.3, 46.0, compare([], []), 0.1234, 0.2345)
    console = Console(width=width, record=True, file=io.StringIO())
    frames = validate.Frames(lambda: iter([]), None, "1 image")
    console.print(validate._table([row], frames, width))
    text = console.export_text()
    assert "12.34" in text and "23.45" in text and "ok" in text
    assert max(map(len, text.splitlines())) <= width


@pytest.mark.parametrize("name", ["a.onnx", "a.tflite", "folder"])
def test_another_programs_file_is_one_line(tmp_path, name) -> None:
    with pytest.raises(UserError, match=f"{name}: no such f"):
        open_export(tmp_path / name)
    if name == "folder":
        (tmp_path / name).mkdir()
        with pytest.raises(UserError, match="no SavedModel"):
            open_export(tmp_path / name)
        (tmp_path / name / "saved_model.pb").touch()
    else:
        (tmp_path / name).write_bytes(b"0" * 50)
    with pytest.raises(UserError, match="not written by export.py|cannot be opened"):
        open_export(tmp_path / name)


def test_one_class_and_another_backend_in_the_environment(tmp_path, root) -> None:
    """As a command: KERAS_BACKEND=jax is no hindrance; levels and anchors are not stock."""
    config = tiny(MODELS[1], num_classes=1, min_level=2, max_level=3)
    save_run(tmp_path / "run", config, LabelMap((("Car",),)))
    words = ["--model_dir=run", "--output_dir=출력", "--format=saved_model", "--nms=off"]
    done = subprocess.run(
        [sys.executable, root / "efficientdet/export.py", *words],
        cwd=tmp_path, env=os.environ | {"KERAS_BACKEND": "jax"},
        capture_output=True, encoding="utf-8",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("KERAS_BACKEND=jax: exporting with TensorFlow all the same\n")
    outputs = open_export(tmp_path / "출력/saved_model").call(noise()[None])
    assert outputs["scores"].shape[2] == 1 and outputs["boxes"].shape[2] == 4


@pytest.mark.parametrize("number", range(2))
def test_the_lines_of_the_page_do_what_it_says(files, root, tmp_path, monkeypatch, capsys, number):
    """Of docs/export.md; ONNX' are those of SavedModel but for the runtime."""
    page = (root / "docs/export.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 3
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exported").symlink_to(files)
    Image.fromarray(noise(60, 170)).save("frame.png")
    exec(blocks[(0, 2)[number]], {})  # as a reader types them
    lines = capsys.readouterr().out.splitlines()
    assert lines and all(line.split()[0] in ("Car", "Pedestrian", "Cyclist") for line in lines)
