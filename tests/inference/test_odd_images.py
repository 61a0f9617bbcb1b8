"""Images of every kind, from the file to the picture and the result file, through a network."""

import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from listening import listening
from PIL import Image

from efficientdet.config import Config
from efficientdet.dataset.image import decode
from efficientdet.dataset.kitti import read_labels
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UserError
from efficientdet.inference import prediction
from efficientdet.inference.detector import Detector
from efficientdet.inference.prediction import PredictOptions, predict
from efficientdet.model.detector import build_detector
from efficientdet.run.directory import RunDirectory

CONFIG = Config.for_model("efficientdet-d0").override(
    {
        "backbone_name": "efficientnet-tiny", "fpn_num_filters": 16, "fpn_cell_repeats": 1,
        "box_class_repeats": 1, "num_classes": 8, "image_size": "128x64", "anchor_scale": 2.0,
        "nms_configs.max_output_size": 7,
    }
)  # fmt: skip


def saved(image: Image.Image, kind: str = "png", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


RGB = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 70, 3), np.uint8))
DEEP = Image.fromarray(np.arange(30 * 70, dtype=np.uint16).reshape(30, 70) * 31)
GOOD = {
    "rgb.png": saved(RGB),
    "grey.png": saved(RGB.convert("L")),
    "grey.jpg": saved(RGB.convert("L"), "jpeg"),
    "black_and_white.png": saved(RGB.convert("1")),
    "rgba.png": saved(RGB.convert("RGBA")),
    "palette.png": saved(RGB.quantize(16)),
    "16_bit.png": saved(DEEP),
    "cmyk.jpg": saved(RGB.convert("CMYK"), "jpeg"),
    "jpeg_called.png": saved(RGB, "jpeg"),
    **{f"exif_{i}.jpg": saved(RGB, "jpeg", exif=turned(i)) for i in (1, 3, 6, 8)},
    "exif.png": saved(RGB, exif=turned(6)),
    "1x1.png": saved(RGB.crop((0, 0, 1, 1))),
    "1x1.jpg": saved(RGB.crop((0, 0, 1, 1)), "jpeg"),
    "12000_wide.png": saved(RGB.resize((12000, 9))),
    "12000_high.png": saved(RGB.resize((9, 12000))),
    "12000_wide.jpg": saved(RGB.resize((12000, 90)), "jpeg"),
    "한글 이름.png": saved(RGB),
}
BAD = {
    "truncated.png": GOOD["rgb.png"][:900],
    "truncated.jpg": GOOD["grey.jpg"][:300],
    "zero_bytes.png": b"",
    "zero_bytes.jpg": b"",
    "text.png": b"no image",
    "gif.png": saved(RGB, "gif"),
    "header_alone.png": GOOD["rgb.png"][:33],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run, whose network has random weights, and all the images."""
    folder = tmp_path_factory.mktemp("odd")
    RunDirectory(folder / "run").write(CONFIG, LabelMap.kitti())
    for suffix in ("index", "data-00000-of-00001"):
        (folder / f"run/model.ckpt-1.{suffix}").touch()
    for kind, images in (("good", GOOD), ("bad", BAD)):
        for name, encoded in images.items():
            path = folder / f"{kind}_{Path(name).suffix[1:]}" / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(encoded)
    (folder / "empty").mkdir()
    detector = Detector(build_detector(CONFIG), CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prediction, "require", lambda _: None)
        patch.setattr(prediction, "load_detector", lambda *_: detector)
        yield folder


@pytest.fixture(scope="module")
def said(folder: Path) -> list[str]:
    """One prediction over all of them; the lines it says, and its error."""
    lines: list[str] = []
    for suffix in ("png", "jpg"):
        parts = ",".join(f"{folder}/{kind}_{suffix}" for kind in ("good", "bad"))
        options = PredictOptions(
            f"{folder}/run", parts, output_dir=f"{folder}/out_{suffix}", min_score=0.0, batch_size=3
        )
        with listening(lines):
            with pytest.raises(UserError) as caught:
                predict(options)
        lines.append(f"error: {caught.value}")
    return lines


@pytest.mark.parametrize("name", GOOD)
def test_boxes_fit_the_picture_that_is_drawn_and_the_result_file(folder, said, name):
    path = Path(name)
    out = folder / f"out_{path.suffix[1:]}"
    height, width = decode(GOOD[name]).shape[:2]
    with Image.open(io.BytesIO(GOOD[name])) as stored:
        assert stored.size == (width, height)  # EXIF turns nothing
    with Image.open(out / f"{path.stem}.png") as drawn:
        assert drawn.size == (width, height) and drawn.mode == "RGB" and not drawn.getexif()
    objects = read_labels(out / f"results/{path.stem}.txt", scored=True)
    assert objects
    for o in objects:
        assert 0 <= o.left <= o.right <= width - 1 and 0 <= o.top <= o.bottom <= height - 1
    rows = [json.loads(x) for x in (out / "detections.jsonl").read_text("utf-8").splitlines()]
    (row,) = [row for row in rows if row["image"] == path.stem]
    assert (row["width"], row["height"]) == (width, height)
    assert len(row["detections"]) == len(objects)


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_read_is_one_line(folder, said, name):
    (line,) = [line for line in said if line.startswith("warning: ") and f"/{name}: " in line]
    assert line.endswith("not a readable PNG, JPEG, BMP or WebP image")
    path = Path(name)
    assert not (folder / f"out_{path.suffix[1:]}" / f"{path.stem}.png").exists()


def test_the_counts_are_said(said):
    errors = [line for line in said if line.startswith("error: ")]
    counts = [re.match(r"error: (\d+) of (\d+) images could not be read", e) for e in errors]
    assert [tuple(map(int, one.groups())) for one in counts] == [(5, 17), (2, 10)]


def test_which_are_turned_is_said_once(said):
    (line,) = [line for line in said if "EXIF" in line]
    assert line.startswith("warning: EXIF asks to turn 3 images, first ") and "/exif_3.jpg:" in line


def test_an_empty_folder_is_one_line(folder):
    options = PredictOptions(f"{folder}/run", f"{folder}/empty", output_dir=f"{folder}/none")
    with pytest.raises(
        UserError, match="empty: no PNG, JPEG, BMP or WebP image; name files, a folder"
    ):
        predict(options)
    assert not (folder / "none").exists()


def test_only_unreadable_images_have_no_results(folder):
    images = f"{folder}/bad_jpg"
    options = PredictOptions(f"{folder}/run", images, output_dir=f"{folder}/nothing")
    with pytest.raises(UserError, match="2 of 2 images could not be read and have no results"):
        predict(replace(options, batch_size=3))
    assert json.loads((folder / "nothing/detections.json").read_text()) == []
    assert (folder / "nothing/detections.jsonl").read_bytes() == b""
