"""What prediction writes, whatever becomes of some of its images; the network is left out."""

import json
import re
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from one_box import OneBox
from PIL import Image

from efficientdet.checkpoint.bundle import write_bundle
from efficientdet.dataset.example import Annotation, make_example
from efficientdet.dataset.image import read_header
from efficientdet.errors import UsageError, UserError
from efficientdet.inference import image_prediction, prediction
from efficientdet.inference.prediction import PredictOptions, predict
from efficientdet.visualize import drawing

OPTIONS = PredictOptions("run", "images", output_dir="out", min_score=0.3)


@pytest.fixture
def folder(run_folder: Path) -> Path:
    """A run, and images of which some cannot be read."""
    images = run_folder / "images"
    images.mkdir()
    for name, mode, size in (
        ("a.png", "RGB", (90, 60)), ("c.png", "L", (90, 60)), ("d.png", "P", (90, 60)),
        ("e.png", "RGB", (1, 1)), ("g.jpg", "L", (9, 9)), ("h.png", "RGBA", (9, 9)),
    ):  # fmt: skip
        Image.new(mode, size).save(images / name)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (90, 60)).save(images / "i.jpg", exif=turned)
    (images / "b.png").write_bytes(b"")
    (images / "f.png").write_bytes((images / "a.png").read_bytes()[:40])
    return run_folder


GOOD = ["a", "c", "d", "e", "g", "h", "i"]


def written(folder: Path) -> list[list[str]]:
    return [
        sorted(path.relative_to(folder / "out" / inner).stem for path in found)
        for inner, found in (
            (".", (folder / "out").glob("*.png")),
            ("results", (folder / "out/results").glob("*.txt")),
        )
    ]


@pytest.mark.parametrize("batch_size", [1, 3, 20])
def test_unreadable_images_are_named_and_the_others_have_results(folder, said, batch_size):
    with pytest.raises(UserError) as caught:
        predict(replace(OPTIONS, batch_size=batch_size))
    assert str(caught.value).startswith(
        "2 of 9 images could not be read and have no results, first images/b.png: "
    )
    assert written(folder) == [GOOD, GOOD]
    rows = json.loads((folder / "out/detections.json").read_text())
    assert [row["image_id"] for row in rows] == GOOD
    assert sum("not a readable" in line for line in said) == 2
    assert any(line.startswith("warning: images/f.png: ") for line in said)


def test_what_is_done_is_on_the_disk_when_the_command_dies(folder, monkeypatch):
    monkeypatch.setattr(OneBox, "dies_at", "g")
    with pytest.raises(KeyboardInterrupt):
        predict(replace(OPTIONS, batch_size=1))
    assert written(folder) == [GOOD[:4], GOOD[:4]]


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_lines_are_there_before_the_end_and_the_whole_only_then(folder, monkeypatch):
    """What is there when the next batch runs is what kill -9 leaves."""
    predict(replace(OPTIONS, images="images/a.png"))
    seen = []

    class Watched(OneBox):
        def detect(self, batch):
            seen.append([line["image"] for line in lines_of(folder / "out/detections.jsonl")])
            assert not (folder / "out/detections.json").exists()  # of the run before
            return super().detect(batch)

    monkeypatch.setattr(prediction, "load_detector", lambda *_: Watched())
    with pytest.raises(UserError):
        predict(replace(OPTIONS, batch_size=2))
    assert seen == [GOOD[:0], GOOD[:2], GOOD[:4], GOOD[:6]]
    *_, last = lines_of(folder / "out/detections.jsonl")
    box = {"class": "Car", "category_id": 1, "bbox": [0, 0, 4, 4], "score": 0.5}
    assert last == {"image": "i", "width": 90, "height": 60, "detections": [box]}
    assert len(json.loads((folder / "out/detections.json").read_text())) == len(GOOD)


def test_a_picture_that_cannot_be_written_ends_it(folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "c.png")

    monkeypatch.setattr(image_prediction, "save_image", full)
    with pytest.raises(OSError, match="No space left"):
        predict(replace(OPTIONS, images="images/c.png"))


def test_without_drawing_there_are_results_alone(folder, said):
    with pytest.raises(UserError):
        predict(replace(OPTIONS, draw=False))
    assert written(folder) == [[], GOOD]
    assert any(line.startswith("7 images in out; KITTI files in out/results") for line in said)
    assert not any("boxes drawn" in line for line in said)


def test_images_that_exif_would_turn_are_told_and_stay_as_they_are_stored(folder, said):
    """Boxes, picture and result file are of the stored pixels, 90x60."""
    predict(replace(OPTIONS, images="images/a.png,images/i.jpg"))
    (line,) = [line for line in said if "EXIF" in line]
    assert line.startswith("warning: EXIF asks to turn 1 image, first images/i.jpg: pixels are")
    pixels = np.asarray(Image.open(folder / "out/i.png"))
    assert pixels.shape == (60, 90, 3) and not Image.open(folder / "out/i.png").getexif()
    assert (pixels[:5, 0] == drawing.class_colour(1)).all()  # the box in the corner
    assert not pixels[40:].any()
    assert (folder / "out/results/i.txt").read_text().split()[4:8] == 2 * ["0.0000"] + 2 * [
        "4.0000"
    ]


CAR = "Car 0.00 0 -1.57 {} 1.5 1.6 3.9 1.0 1.7 20.0 0.01\n"
RIDER = CAR.replace("Car", "Cyclist")
LABELS = {
    "a": CAR.format("0 0 4 4"),  # found
    "c": RIDER.format("50 40 80 58"),  # missed, and a false car
    "d": CAR.format("0 0 9 9").replace("Car", "DontCare"),  # neither
}


@pytest.fixture
def labels(folder: Path) -> Path:
    (folder / "labels").mkdir()
    for name, text in LABELS.items():
        (folder / f"labels/{name}.txt").write_text(text)
    return folder


def has(picture: Path, colour: tuple[int, int, int]) -> bool:
    """Below the legend, which has them all."""
    return bool((np.asarray(Image.open(picture))[-60:, :90] == colour).all(-1).any())


def compared(said: list[str]) -> str:
    (line,) = [line for line in said if line.startswith("beside the labels of ")]
    return line


def test_labels_are_drawn_beside_in_three_colours_and_counted(labels, said):
    images = "images/a.png,images/c.png,images/d.png,images/e.png"
    predict(replace(OPTIONS, images=images, compare_labels="labels"))
    assert compared(said) == "beside the labels of 3 images: 1 found, 1 missed, 1 false alarm"
    assert "warning: 1 image without a label in labels, drawn without: e" in said
    kinds = {n: [has(Path(f"out/{n}.png"), colour) for colour in COLOURS] for n in "acde"}
    assert kinds["a"] == [True, False, False, False]
    assert kinds["c"] == [False, True, True, False]
    assert kinds["d"] == [False, False, False, True]
    assert not any(kinds["e"]) and Image.open("out/e.png").size == (1, 1)


COLOURS = (drawing.FOUND, drawing.MISSED, drawing.FALSE, drawing.IGNORED)


def test_labels_of_the_record_itself(labels, said):
    encoded = Path("images/a.png").read_bytes()
    with tf.io.TFRecordWriter("val.record") as writer:
        cars = [Annotation((0, 0, 4, 4), 1, "Car")]
        writer.write(make_example(encoded, read_header(encoded), "000007", cars))
    predict(replace(OPTIONS, images="val.record", compare_labels="val.record", draw=False))
    assert compared(said) == "beside the labels of 1 image: 1 found, 0 missed, 0 false alarms"


@pytest.mark.parametrize("where", ["labels", "cams.record"])
def test_ids_in_folders_are_found_from_inside_one(labels, said, where):
    """`--images=cam1`: the image is called 000001, its label cam1/000001."""
    encoded = Path("images/a.png").read_bytes()
    for cam in ("cam1", "cam2"):
        for folder in (Path(cam), Path("labels", cam)):
            folder.mkdir()
        Path(cam, "000001.png").write_bytes(encoded)
    Path("labels/cam1/000001.txt").write_text(CAR.format("0 0 4 4"))
    Path("labels/cam2/000001.txt").write_text(RIDER.format("50 40 80 58"))
    with tf.io.TFRecordWriter("cams.record") as writer:
        for cam, box, row in (
            ("cam1", (0, 0, 4, 4), (1, "Car")),
            ("cam2", (50, 40, 80, 58), (2, "Cyclist")),
        ):
            objects = [Annotation(box, *row)]
            writer.write(make_example(encoded, read_header(encoded), f"{cam}/000001", objects))
    predict(replace(OPTIONS, images="cam1", compare_labels=where, draw=False))
    assert compared(said) == "beside the labels of 1 image: 1 found, 0 missed, 0 false alarms"
    Path("cams").mkdir()
    for cam in ("cam1", "cam2"):
        Path(cam).rename(f"cams/{cam}")
    said.clear()
    predict(replace(OPTIONS, images="cams", compare_labels=where, output_dir="both"))
    assert compared(said) == "beside the labels of 2 images: 1 found, 1 missed, 1 false alarm"
    assert Path("both/cam2/000001.png").is_file() and Path("both/results/cam1/000001.txt").is_file()


def test_scores_in_labels_are_dropped_and_said(labels, said):
    Path("labels/a.txt").write_text(CAR.format("0 0 4 4").rstrip() + " 0.9\n")
    predict(replace(OPTIONS, images="images/a.png", compare_labels="labels"))
    assert compared(said) == "beside the labels of 1 image: 1 found, 0 missed, 0 false alarms"
    assert any("labels: a score, which no ground truth has, in 1 file;" in line for line in said)


def test_counts_go_by_the_score_that_is_drawn(labels, said):
    predict(replace(OPTIONS, images="images/a.png", compare_labels="labels", min_score=0.6))
    assert compared(said) == "beside the labels of 1 image: 0 found, 1 missed, 0 false alarms"


@pytest.mark.parametrize(
    ("where", "what"),
    [
        ("nowhere", "compare_labels=nowhere: no such folder, and no record either"),
        ("images", "compare_labels=images: no label for any of the images, such as a.txt;"),
        ("no.record", "no.record: no such record file"),
        ("bad", "bad/a.txt:1: 3 columns, expected 15"),
    ],
)
def test_labels_that_cannot_be_compared_with_are_told_first(labels, where, what):
    Path("bad").mkdir()
    Path("bad/a.txt").write_text("Car 1 2\n")
    with pytest.raises(UserError, match=re.escape(what)):
        predict(replace(OPTIONS, images="images/a.png", compare_labels=where))
    assert not Path("out").exists()


def test_a_submission_holds_each_image(folder, said):
    for number in range(3):
        Image.new("RGB", (9, 9)).save(f"images/{number:06d}.png")
    Path("images/000001.png").write_bytes(b"")
    options = replace(OPTIONS, images="images/0*.png", submission="sub/out.zip", min_score=0.9)
    with pytest.raises(UserError, match="1 of 3 images could not be read"):
        predict(options)
    with zipfile.ZipFile("sub/out.zip") as archive:
        assert archive.namelist() == ["000000.txt", "000002.txt"]
        assert archive.read("000002.txt") == Path("out/results/000002.txt").read_bytes() != b""
    first = "warning: sub/out.zip: no file for 1 image among 000000 to 000002: 000001"
    assert first in said and "sub/out.zip: 2 files for KITTI's server" in said


@pytest.mark.parametrize(
    ("images", "path", "error", "what"),
    [
        ("images/a.png", "out.zip", UserError, "1 image not named by six digits, first a;"),
        ("images/a.png", "out.txt", UsageError, "--submission=out.txt: expected the name of a"),
        ("images/a.png", "images/a.png/x.zip", UserError, "images/a.png"),
    ],
)
def test_what_can_be_no_submission_is_told_first(folder, images, path, error, what):
    Path("images/000000.png").write_bytes(Path("images/a.png").read_bytes())
    images = images if "six" in what else "images/000000.png"
    with pytest.raises(error, match=re.escape(what)):
        predict(replace(OPTIONS, images=images, submission=path))
    assert not Path("out").exists()


def test_a_picture_never_replaces_its_image(folder):
    before = (folder / "images/a.png").read_bytes()
    with pytest.raises(UserError, match="a.png: its picture would replace it"):
        predict(replace(OPTIONS, images="images/a.png", output_dir="images"))
    assert (folder / "images/a.png").read_bytes() == before


def test_an_overlong_name_is_told_before_the_first_image(folder):
    (folder / "images" / f"{'x' * 240}.png").write_bytes(b"")
    with pytest.raises(UserError, match="a name longer than 220 bytes"):
        predict(OPTIONS)
    assert not (folder / "out").exists()


def test_it_says_how_many_boxes_it_drew_and_from_which_score_on(folder, said):
    predict(replace(OPTIONS, images="images/a.png,images/c.png", min_score=0.4))
    assert said[-1] == "2 boxes drawn: Car 2 (score >= 0.40), Cyclist 0 (score >= 0.40)"
    predict(replace(OPTIONS, images="images/a.png", min_score=0.6))
    assert said[-1].startswith("0 boxes drawn: Car 0 ")


@pytest.mark.parametrize(
    ("how", "taken"),
    [
        (
            {},
            "checkpoint: run/archive/model.ckpt-4, the best of its run; --newest takes the newest",
        ),
        ({"which": "best"}, "checkpoint: run/archive/model.ckpt-4, the best of its run; --newest"),
        ({"which": "newest"}, "checkpoint: run/model.ckpt-1, the newest of its run"),
        ({"ckpt": "other/model"}, ""),
    ],
)
def test_the_best_checkpoint_comes_first_where_there_is_one(folder, said, monkeypatch, how, taken):
    loaded = []
    take = lambda config, path, *_: loaded.append(str(path)) or OneBox()  # noqa: E731
    monkeypatch.setattr(prediction, "load_detector", take)
    predict(replace(OPTIONS, images="images/a.png"))
    assert loaded.pop() == "run/model.ckpt-1" and "the newest of its run" in said[0]
    with pytest.raises(UserError, match="run/archive: no best checkpoint; .* Leave out --best"):
        predict(replace(OPTIONS, which="best"))
    write_bundle(Path("run/archive/model.ckpt-4"), {"weight": np.array(0.3)})
    said.clear()
    predict(replace(OPTIONS, images="images/a.png", **how))
    assert said[0].startswith(taken)
    assert loaded == [how.get("ckpt") or taken.split()[1].rstrip(",")]
