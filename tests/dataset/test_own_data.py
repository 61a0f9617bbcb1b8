"""Data sets that are not KITTI's: their classes, their columns, their folders, their images."""

import hashlib
import io
import unicodedata
import zlib

import numpy as np
import pytest
from PIL import Image

from efficientdet.dataset import found_classes, kitti
from efficientdet.dataset.convert import convert
from efficientdet.dataset.example import Record
from efficientdet.dataset.image import ImageError, as_png, read_header
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.options import Options
from efficientdet.dataset.selection import select_frames
from efficientdet.dataset.tfrecord import read_records
from efficientdet.errors import UserError
from efficientdet.synthetic.scenes import render_set

ALL = Options("all")
BOX, REST = "10 8 50 30", "1.5 1.6 3.9 1.0 1.7 20.0 0.01"
KOREAN = LabelMap((("보행자",), ("신호등",)))


def full(name: str, box: str = BOX) -> str:
    return f"{name} 0 0 0 {box} {REST}"


@pytest.fixture
def make_set(tmp_path):
    """Writes `images/<id>` and `labels/<id>.txt`; an id has its suffix."""

    def make(frames, size=(100, 40)):
        for name, lines in frames.items():
            image, label = tmp_path / "images" / name, tmp_path / "labels" / name
            image.parent.mkdir(parents=True, exist_ok=True)
            label.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(len(name)).integers(0, 256, (*size[::-1], 3), np.uint8)
            Image.fromarray(pixels).save(image, lossless=True)
            label.with_suffix(".txt").write_text("\n".join(lines), encoding="utf-8")
        return tmp_path

    return make


def run(root, label_map=KOREAN, options=ALL):
    selection = select_frames(root, options, root / "images", root / "labels")
    manifest = convert(selection, root / "x.record", label_map, options)
    return manifest, [Record.parse(data) for _, data in read_records(root / "x.record")]


def test_every_form_of_a_line_is_one_object():
    lines = [f"버스 {BOX}", f"버스 0.5 1 0 {BOX}", full("버스"), f"{full('버스')} 0.75\r"]
    items = [kitti.parse_line(line) for line in lines]
    assert [item.columns for item in items] == [5, 8, 15, 16]
    assert {(item.type, item.box) for item in items} == {("버스", (10, 8, 50, 30))}
    assert [(i.truncated, i.occluded) for i in items] == [(-1, -1), (0.5, 1), (0, 0), (0, 0)]
    assert [item.distance for item in items] == [None, None, 20, 20]
    zeros = kitti.parse_line(f"hand 0 0 0 {BOX} 0 0 0 0 0 0 0")  # as TAO's readers want it
    ones = kitti.parse_line(f"hand 0.0 0 -1 {BOX} -1 -1 -1 -1 -1 -1 -1 1.0")  # datumaro's
    assert zeros.distance is None and ones.distance is None


@pytest.mark.parametrize("rest", [BOX, f"0 0 0 {BOX}", f"0 0 0 {BOX} {REST}"])
def test_a_name_may_have_blanks_and_a_decomposed_letter(rest):
    assert kitti.parse_line(f"traffic light {rest}").type == "traffic light"
    assert kitti.parse_line(f'"traffic light" {rest}').type == "traffic light"
    decomposed = unicodedata.normalize("NFD", "보행자")  # as a Mac types it
    assert kitti.parse_line(f"{decomposed} {rest}").type == "보행자" != decomposed


def test_names_survive_and_what_was_assumed_is_said(make_set):
    root = make_set(
        {
            "cam1/000123.jpg": [f"보행자 {BOX}", f"{full('신호등')} 0.5"],
            "cam2/000123.png": [full("신호등"), f"{full('신호등')} 1.0", f"보행자 0 0 0 {BOX}"],
        }
    )
    manifest, (first, second) = run(root)
    assert manifest.source_ids == ["cam1/000123", "cam2/000123"]
    assert first.texts == ["보행자", "신호등"] and first.labels == [1, 2]
    assert second.labels == [2, 2, 1] and second.lines[0] == full("신호등")
    assert manifest.class_counts == {"보행자": 2, "신호등": 3}
    five, eight, sixteen = manifest.notes
    assert five.startswith("1 label line of 5 columns: read as class and box")
    assert eight.startswith("1 label line of 8 columns")
    assert sixteen.startswith("2 label lines of 16 columns") and sixteen.endswith("(0.5 to 1)")
    assert all(note in manifest.summary() for note in manifest.notes)


def test_bmp_and_webp_become_pngs_of_the_same_pixels(make_set):
    root = make_set({"a.bmp": [full("보행자")], "b.webp": [full("보행자")], "c.JPG": []})
    manifest, found = run(root)
    assert [record.format for record in found] == ["png", "png", "jpeg"]
    for record, name in zip(found, ("a.bmp", "b.webp"), strict=False):
        with Image.open(root / "images" / name) as image:
            original = np.asarray(image.convert("RGB"))
        np.testing.assert_array_equal(Image.open(io.BytesIO(record.encoded)), original)
        assert record.sha256 == hashlib.sha256(record.encoded).hexdigest()
    assert manifest.notes == [
        "1 BMP image: stored as PNG, with the same pixels",
        "1 WEBP image: stored as PNG, with the same pixels",
    ]


def test_images_that_viewers_turn_are_counted(make_set):
    root, turned = make_set({"a.jpg": [full("보행자")]}), Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (100, 40)).save(root / "images/a.jpg", exif=turned)
    manifest, _ = run(root)
    assert manifest.notes == [
        "1 image that EXIF turns in viewers: boxes are taken as of the pixels as stored"
    ]


def test_an_image_that_is_none_is_named():
    with pytest.raises(ImageError, match="a BMP that does not decode"):
        as_png(b"BM" + b"\0" * 50)
    frames, moving = [Image.new("RGB", (8, 8), c) for c in ("red", "blue")], io.BytesIO()
    frames[0].save(moving, "WEBP", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="a WEBP of 2 pictures"):
        as_png(moving.getvalue())
    png = io.BytesIO()
    frames[0].save(png, "PNG")
    assert as_png(png.getvalue()) == (png.getvalue(), "")
    assert read_header(png.getvalue()).format == "png"


def test_found_classes_are_the_most_frequent_first(make_set):
    root = make_set(
        {
            "1.png": [full("신호등"), full("신호등"), full("bus")],
            "2.png": [full("보행자"), full("Bus"), full("Bus"), full("DontCare"), "nonsense"],
        }
    )
    frames = kitti.find_frames(root, "training", "images", "labels")
    label_map, said = found_classes.find_classes(frames)
    assert label_map == LabelMap((("Bus",), ("신호등",), ("보행자",)))
    assert said == "3 classes: Bus 3, 신호등 2, 보행자 1"
    (root / "labels/2.txt").write_text(full("a,b"))
    with pytest.raises(UserError, match="class 'a,b' has a comma"):
        found_classes.find_classes(frames)
    with pytest.raises(UserError, match="no label names a class"):
        found_classes.find_classes([])


def test_a_found_class_that_may_be_a_slip_is_named(make_set):
    labels = [*20 * [full("보행자")], full("보헹자"), *5 * [full("버스")], full("버쓰")]
    frames = kitti.find_frames(make_set({"1.png": labels}), "training", "images", "labels")
    label_map, said = found_classes.find_classes(frames)
    assert len(label_map.names) == 4  # as it stands; who knows
    (warning,) = said.splitlines()[1:]
    assert warning.startswith("warning: 보헹자 (1 object) looks like 보행자 misspelt; if so, ")


def test_records_of_one_folder_have_one_label_map(make_set):
    root = make_set({"1.png": [full("보행자")]})
    output = root / "val.record"
    assert found_classes.map_of_folder(output) is None
    run(root)
    assert found_classes.map_of_folder(output) == (KOREAN, root / "x.record.manifest.json")
    assert found_classes.map_of_folder(root / "x.record") is None  # its own is to be replaced
    KOREAN.write(root / "label_map.txt")
    assert found_classes.map_of_folder(output) == (KOREAN, root / "label_map.txt")
    LabelMap.kitti().write(root / "label_map.txt")
    with pytest.raises(UserError, match=r"x.record.manifest.json: its label map is 1: 보행자"):
        found_classes.map_of_folder(output)


def test_a_class_that_the_map_does_not_name_is_counted_and_named(make_set):
    root = make_set({"1.png": [full("Pedestrain"), full("보행자")], "2.png": [full("Pedestrain")]})
    label_map = LabelMap((("Pedestrian",), ("보행자",)))
    with pytest.raises(UserError) as error:
        run(root, label_map)
    assert "\n" not in str(error.value) and str(error.value).startswith(
        "the label map does not name Pedestrain (2 objects, first in "
        f"{root}/labels/1.txt:1; is Pedestrian meant?); "
    )
    assert sorted(path.name for path in root.iterdir()) == ["images", "labels"]
    manifest, (record, _) = run(root, label_map, Options("all", classes=("보행자",)))
    assert manifest.ignored_counts == {"Pedestrain": 2} and record.is_crowd == [1, 0]


def test_a_class_that_no_label_names_is_told_with_the_nearest(make_set):
    root = make_set({"1.png": [full("Pedestrian"), full("보행자")]})
    manifest, _ = run(root, LabelMap((("Pedestrain",), ("보행자",), ("버스",))))
    assert "in no label here: Pedestrain (is Pedestrian meant?), 버스" in manifest.summary()


def test_letter_case_alone_makes_no_other_class(make_set):
    root = make_set({"1.png": [full("BUS")]})
    manifest, (record,) = run(root, LabelMap((("Bus",),)), Options("all", classes=("bus",)))
    assert record.texts == ["Bus"] and record.labels == [1]
    assert manifest.class_counts == {"Bus": 1} and manifest.ignored_counts == {}


WRONG = {
    "two images of one id": (
        lambda root: (root / "images/1.jpg").write_bytes(b""),
        r"images/1.png and 1.jpg are of one frame; keep one of them",
    ),
    "labels of another set": (
        lambda root: (root / "labels/1.txt").rename(root / "labels/frame_1.txt"),
        r"labels: 1 label files \(.txt\), first frame_1, and none is for any of the 1 images",
    ),
    "no label": (
        lambda root: (root / "labels/1.txt").unlink(),
        r"labels: no .txt file, and none is for any of the 1 images in .*images, first 1;",
    ),
    "no image": (
        lambda root: (root / "images/1.png").unlink(),
        r"images: no image \(.png, .jpg, .*\) for any of the 1 labels",
    ),
}


@pytest.mark.parametrize("how", WRONG)
def test_a_wrong_folder_is_one_line(make_set, how):
    root = make_set({"1.png": [full("보행자")]})
    change, said = WRONG[how]
    change(root)
    with pytest.raises(UserError, match=said) as error:
        run(root)
    assert "\n" not in str(error.value)
    assert sorted(path.name for path in root.iterdir()) == ["images", "labels"]


def test_labels_of_larger_images_are_named_as_a_whole(make_set):
    root = make_set({f"{i}.png": [full("보행자", f"10 8 {140 + i} 60")] for i in range(4)})
    with pytest.raises(UserError) as error:
        run(root)
    head, hint, *lines = str(error.value).split("\n")
    assert head.startswith("4 problems in the input") and len(lines) == 4
    assert hint.strip().startswith(
        "boxes of 4 of 4 images reach outside, up to 143x60, where images are as small as 100x40: "
        "labels of another set"
    )
    assert sorted(path.name for path in root.iterdir()) == ["images", "labels"]


def test_a_list_names_frames_in_folders(make_set):
    root = make_set({f"cam{i}/1.png": [full("보행자")] for i in range(3)})
    (root / "list.txt").write_text("cam2/1\n/data/images/cam0/1.png\n")
    manifest, _ = run(root, options=Options("all", "file", split_file=root / "list.txt"))
    assert manifest.source_ids == ["cam0/1", "cam2/1"]
    (root / "list.txt").write_text("1.png\n")
    with pytest.raises(UserError, match="1 of its 1 frames are absent, first 1"):
        run(root, options=Options("all", "file", split_file=root / "list.txt"))


def test_images_without_a_label_may_be_empty(make_set):
    root = make_set({"1.png": [full("보행자")], "2.png": [], "3.png": []})
    for name in "23":
        (root / f"labels/{name}.txt").unlink()
    with pytest.raises(UserError, match="2 images without a label file: .*--missing_is_empty"):
        run(root)
    manifest, found = run(root, options=Options("all", missing_is_empty=True))
    assert [len(record.labels) for record in found] == [1, 0, 0]
    assert manifest.notes == ["2 images without a label file: taken for images without an object"]
    assert "missing_is_empty" not in ALL.to_dict()  # older manifests agree


def test_links_of_folders_lead_on_but_not_in_a_circle(make_set):
    root = make_set({"cam1/1.png": [full("보행자")], ".trash/2.png": [], "__MACOSX/3.png": []})
    for folder in ("images", "labels"):
        (root / folder / "cam2").symlink_to(root / folder / "cam1")
        (root / folder / "cam1/all").symlink_to(root / folder)
    frames = kitti.find_frames(None, "training", root / "images", root / "labels")
    assert [frame.source_id for frame in frames] == ["cam1/1", "cam2/1"]


def black_png(width: int, height: int) -> bytes:
    """A PNG of two colours, all black, whose bytes no compressor decides."""
    rows = bytes((1 + -(-width // 8)) * height)
    size = len(rows).to_bytes(2, "little") + (len(rows) ^ 0xFFFF).to_bytes(2, "little")
    stored = b"\x78\x01\x01" + size + rows + zlib.adler32(rows).to_bytes(4)
    header = width.to_bytes(4) + height.to_bytes(4) + b"\1\0\0\0\0"
    chunks = ((b"IHDR", header), (b"IDAT", stored), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)
        for kind, data in chunks
    )


def test_a_record_of_kitti_s_classes_is_what_it_was(tmp_path):
    """The made-up street's labels, as the converter wrote them when it knew KITTI's names alone."""
    render_set(tmp_path, 5, seed=0)
    for path in (tmp_path / "training/image_2").iterdir():
        path.write_bytes(black_png(1242, 375))
    convert(select_frames(tmp_path, ALL), tmp_path / "x.record", LabelMap.kitti(), ALL)
    found = hashlib.sha256((tmp_path / "x.record").read_bytes()).hexdigest()
    assert found == "4a037a00f60a9eea75bda1c998c1f5692798a35f0397bcd718cc7aac3de819be"
