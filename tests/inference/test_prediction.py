"""What prediction writes, whatever becomes of some of its images; the network is left out."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from efficientdet.checkpoint.bundle import write_bundle
from efficientdet.config import Config
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UserError
from efficientdet.evaluation.frames import FrameDetections
from efficientdet.inference import prediction
from efficientdet.inference.prediction import PredictOptions, predict
from efficientdet.run.directory import RunDirectory

MAP = LabelMap((("Car",), ("Cyclist",)))
OPTIONS = PredictOptions("run", "images", output_dir="out", min_score=0.3)


class OneBox:
    """A car in every image, until the one it is to die at."""

    dies_at: str | None = None

    def detect(self, batch: dict[str, np.ndarray]) -> list[FrameDetections]:
        names = batch["source_id"][batch["valid"]].tolist()
        if self.dies_at in names:
            raise KeyboardInterrupt
        return [FrameDetections(name, [[0, 0, 4, 4]], [0.5], [1]) for name in names]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run, and images of which some cannot be read."""
    monkeypatch.chdir(tmp_path)
    config = Config.for_model("efficientdet-d0").override({"num_classes": 2, "image_size": 128})
    RunDirectory("run").write(config, MAP)
    for suffix in ("index", "data-00000-of-00001"):
        (tmp_path / f"run/model.ckpt-1.{suffix}").touch()
    monkeypatch.setattr(prediction, "require", lambda _: None)
    monkeypatch.setattr(prediction, "load_detector", lambda *_: OneBox())
    images = tmp_path / "images"
    images.mkdir()
    for name, mode, size in (
        ("a.png", "RGB", (20, 10)), ("c.png", "L", (20, 10)), ("d.png", "P", (20, 10)),
        ("e.png", "RGB", (1, 1)), ("g.jpg", "L", (9, 9)), ("h.png", "RGBA", (9, 9)),
    ):  # fmt: skip
        Image.new(mode, size).save(images / name)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (20, 10)).save(images / "i.jpg", exif=turned)
    (images / "b.png").write_bytes(b"")
    (images / "f.png").write_bytes((images / "a.png").read_bytes()[:40])
    return tmp_path


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
