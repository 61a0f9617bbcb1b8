"""Image files as a user names them, and batches of them for detection."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from efficientdet.config import Config
from efficientdet.dataset.example import make_example
from efficientdet.dataset.image import read_header
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.manifest import Manifest, Shard
from efficientdet.errors import UserError
from efficientdet.input.images import (
    find_images,
    find_videos,
    image_batches,
    other_images,
    require_images,
)

CONFIG = Config().override({"image_size": "128x64"})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A KITTI root with three training images, a test image, and things that are no images."""
    monkeypatch.chdir(tmp_path)
    training = [f"training/image_2/{name}" for name in ("000002.png", "000000.png", "000001.JPG")]
    for name in (*training, "testing/image_2/000000.png", "odd/a[1].jpeg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (100, 40), (200, 30, 30)).save(path)
    for name in ("training/image_2/._000000.png", "training/image_2/notes.txt", "bad.png"):
        (tmp_path / name).write_bytes(b"no image")
    (tmp_path / "odd" / "folder.png").mkdir()
    (tmp_path / "val.txt").write_text("000001\n000002\n\n000777\n")
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("training/image_2/000000.png", ["000000.png"]),
        ("training/image_2", ["000000.png", "000001.JPG", "000002.png"]),
        (".", ["000000.png", "000001.JPG", "000002.png"]),  # the KITTI root
        ("training", ["000000.png", "000001.JPG", "000002.png"]),
        ("testing", ["000000.png"]),
        ("training/image_2/*.png", ["000000.png", "000002.png"]),
        ("t*ing/image_2/000000.*", ["000000.png", "000000.png"]),
        ("odd", ["a[1].jpeg"]),
        ("odd/a[1].jpeg", ["a[1].jpeg"]),
        ("training/image_2/000002.png, ./testing,", ["000002.png", "000000.png"]),
        ("testing,./testing/image_2/*", ["000000.png"]),  # each image once
    ],
)
@pytest.mark.parametrize("absolute", [False, True])
def test_files_folders_globs_and_a_kitti_root(folder, pattern, names, absolute):
    if absolute:
        pattern = ",".join(
            f"{folder}/{part.strip()}" if part else "" for part in pattern.split(",")
        )
    found = find_images(pattern)
    assert [path.name for path in found] == names
    assert all(path.is_file() and path.is_absolute() == absolute for path in found)


def test_folders_inside_a_folder_are_part_of_the_names(folder):
    for name in ("cam1/000001", "cam2/000001", ".hidden/000002"):
        (folder / f"cams/image_2/{name}.png").parent.mkdir(parents=True)
        (folder / f"cams/image_2/{name}.png").write_bytes((folder / "odd/a[1].jpeg").read_bytes())
    for root in ("cams", "cams/image_2"):
        found = find_images(root)
        assert [image.stem for image in found] == ["cam1/000001", "cam2/000001"]
        assert [str(image) for image in found] == [
            f"cams/image_2/cam{number}/000001.png" for number in (1, 2)
        ]
    (folder / "list.txt").write_text("cam2/000001")
    (image,) = find_images("cams", "list.txt")
    assert image.stem == "cam2/000001" and image.read_bytes()
    require_images("cams")
    shutil.copytree("cams/image_2/cam1", "cams/image_2/found/cam1")
    (folder / "cams/image_2/found/detections.jsonl").touch()  # an --output_dir of predict.py
    assert [image.stem for image in find_images("cams")] == ["cam1/000001", "cam2/000001"]
    (folder / "cams/image_2/street.mp4").touch()  # the folders may be what was found in it
    assert find_images("cams") == []


@pytest.fixture
def record(folder: Path) -> Path:
    """Two images, the second one under a file's name, and one that has no name."""
    path = folder / "out/val.record"
    path.parent.mkdir()
    with tf.io.TFRecordWriter(str(path)) as writer:
        for stem, source_id in (("000002", "000009"), ("000000", "a/7.png"), ("000000", "")):
            encoded = (folder / f"training/image_2/{stem}.png").read_bytes()
            writer.write(make_example(encoded, read_header(encoded), source_id, []))
    return path


def test_the_images_inside_a_record(folder, record):
    found = find_images("out/val.record")
    assert [image.stem for image in found] == ["000009", "a/7", "000002"]
    assert str(found[2]) == "val.record, record 2 (000002)"
    ((batch, originals),) = image_batches(found, CONFIG, 3)
    ((same, files),) = image_batches(find_images("training/*/000002.png"), CONFIG, 1)
    np.testing.assert_array_equal(originals[0], files[0])
    np.testing.assert_array_equal(batch["images"][0], same["images"][0])
    (folder / "list.txt").write_text("7")
    (listed,) = find_images(f"testing,{record.parent}/*.record", "list.txt")
    assert listed.stem == "a/7"


def test_a_damaged_record_is_named(folder, record):
    record.write_bytes(record.read_bytes()[:-5])
    with pytest.raises(UserError, match="val.record, record 2: the file ends inside it"):
        find_images(str(record))
    with pytest.raises(UserError, match="none.record: no such record file"):
        find_images("none.record")


def test_an_image_list_keeps_its_frames(folder):
    assert [path.stem for path in find_images(".", "val.txt")] == ["000001", "000002"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_an_image_list_is_read_as_the_converter_reads_it(folder, encoding):
    text = "000001.png\r\n\r\n training/image_2/000002.png\n"
    (folder / "val.txt").write_text(text, encoding=encoding)
    assert [path.stem for path in find_images(".", "val.txt")] == ["000001", "000002"]


@pytest.mark.parametrize(
    ("pattern", "image_list", "named"),
    [
        ("no*.png", None, "no*.png: nothing is there; name files"),
        ("nowhere/image_2", None, "nowhere/image_2: nothing is there"),
        ("", None, "no PNG, JPEG, BMP or WebP image"),
        ("val.txt", None, "val.txt: no PNG, JPEG, BMP or WebP image"),
        (
            "testing",
            "val.txt",
            "testing: no PNG, JPEG, BMP or WebP image of those that val.txt lists",
        ),
        (".", "none.txt", "none.txt: No such file or directory; expected one frame id a line"),
        (".", "training/image_2/000000.png", "000000.png: not UTF-8 text (byte 0)"),
    ],
)
def test_nothing_found_is_one_clear_line(folder, pattern, image_list, named):
    with pytest.raises(UserError) as caught:
        find_images(pattern, image_list)
    assert named in str(caught.value) and "\n" not in str(caught.value)


def test_each_part_of_the_pattern_has_to_name_something(folder):
    require_images("testing, training/image_2/*.png,")
    with pytest.raises(UserError, match=r"^nowhere.png: nothing is there"):
        require_images("testing,nowhere.png")
    with pytest.raises(UserError, match=r"^val.txt: no PNG, JPEG, BMP or WebP image"):
        require_images("val.txt,testing")
    with pytest.raises(UserError, match="none.record: no such record file"):
        require_images("testing,none.record")


def test_images_of_kinds_that_are_not_read_are_known(folder):
    for name in ("odd/a.TIF", "odd/b.gif", "odd/notes.md"):
        (folder / name).touch()
    assert [path.name for path in other_images("testing,odd")] == ["a.TIF", "b.gif"]


def test_the_last_batch_is_filled_up(folder):
    paths = find_images("training")
    (full, originals), (rest, (last,)) = image_batches(paths, CONFIG, 2)
    assert full["valid"].all() and rest["valid"].tolist() == [True, False]
    assert rest["source_id"].tolist() == ["000002", ""]
    assert full["images"].shape == rest["images"].shape == (2, 64, 128, 3)
    np.testing.assert_array_equal(rest["images"][0], rest["images"][1])
    assert [image.shape for image in (*originals, last)] == [(40, 100, 3)] * 3
    np.testing.assert_allclose(full["image_scale"], [[40 / 51, 100 / 128]] * 2)  # 51.2 rows: 51
    assert full["images"][:, :51].all() and not full["images"][:, 51:].any()


def test_a_small_last_image_is_not_mistaken_for_a_bigger_batch(folder):
    ((batch, originals),) = image_batches(find_images("testing"), CONFIG, 3)
    assert batch["valid"].tolist() == [True, False, False] and len(originals) == 1


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_a_file_that_is_no_image_is_named(folder, content):
    path = folder / "bad.png"
    if content is None:
        whole = (folder / "testing/image_2/000000.png").read_bytes()
        content = whole[: len(whole) // 2]
    path.write_bytes(content)
    unreadable = []
    good = find_images("training/image_2")
    batches = list(image_batches([good[0], path, *good[1:]], CONFIG, 2, unreadable.append))
    assert [batch["source_id"].tolist() for batch, _ in batches] == [
        ["000000", "000001"],
        ["000002", ""],
    ]
    assert unreadable == [f"{path}: not a readable PNG, JPEG, BMP or WebP image"]
    with pytest.raises(UserError, match="bad.png: not a readable PNG, JPEG, BMP or WebP image"):
        next(image_batches([path], CONFIG, 1))


@pytest.mark.parametrize("source_id", ["../x", "a/../../x", "a\0b", "a/", "x" * 300])
def test_an_id_that_cannot_name_a_file_is_refused(folder, record, source_id):
    encoded = (folder / "training/image_2/000000.png").read_bytes()
    with tf.io.TFRecordWriter(str(record)) as writer:
        writer.write(make_example(encoded, read_header(encoded), source_id, []))
    with pytest.raises(UserError, match="val.record, record 0 .*: source_id .* expected") as caught:
        find_images(str(record))
    assert "\n" not in str(caught.value) and "\0" not in str(caught.value)


def test_a_record_that_is_not_what_its_manifest_says_is_refused(folder, record):
    shards = [Shard(record.name, 3, record.stat().st_size + 1, "")]
    Manifest(3, LabelMap.kitti(), 0, {}, shards=shards).write(record)
    with pytest.raises(UserError, match="val.record: .* bytes, but val.record.manifest.json says"):
        find_images(str(record))


def test_videos_are_found_beside_images(folder):
    for name in ("odd/b.MP4", "odd/._b.mp4", "films/c.avi", "films/d.mov", "films/a.mkv"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    names = {part: [p.name for p in find_videos(part)] for part in ("odd", "films", "films/[cd].*")}
    assert names == {
        "odd": ["b.MP4"], "films": ["a.mkv", "c.avi", "d.mov"], "films/[cd].*": ["c.avi", "d.mov"]
    }  # fmt: skip
    assert [path.name for path in find_images("odd,films/c.avi")] == ["a[1].jpeg"]
    assert find_images("films") == []  # there are videos
    require_images("films")
    (folder / "list.txt").write_text("a\n000001\n")
    assert [path.name for path in find_videos("films,odd", "list.txt")] == ["a.mkv"]
    assert [path.name for path in find_images("films,.", "list.txt")] == ["000001.JPG"]
    with pytest.raises(UserError, match="or a video .* of those|image of those that val.txt"):
        find_images("films", "val.txt")


def test_bmp_and_webp_are_read_as_the_converter_reads_them(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    for name in ("a.bmp", "b.webp"):
        Image.fromarray(pixels).save(tmp_path / name, lossless=True)
    ((batch, originals),) = image_batches(find_images(str(tmp_path)), CONFIG, 2)
    assert batch["source_id"].tolist() == ["a", "b"]
    np.testing.assert_array_equal(originals, [pixels, pixels])
