"""Frames that look alike on both sides are found, others are not; and it is said and shown."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from rich.console import Console

from efficientdet.dataset import splits
from efficientdet.dataset.example import Annotation, make_example
from efficientdet.dataset.image import ImageError, read_header
from efficientdet.dataset.label_map import LabelMap
from efficientdet.inspection import near_duplicates, terminal
from efficientdet.inspection import report as data_report
from efficientdet.inspection.checks import check_records

CAR = Annotation((10, 10, 60, 50), 1, "Car")


def street(seed: int, noise: float = 0.0, kind: str = "PNG", size=(240, 80)) -> bytes:
    """A made-up picture of large patches; `noise` is that of another moment."""
    patches = np.random.default_rng(seed).uniform(0, 255, (12, 12))
    patches += noise * np.random.default_rng(1000 + seed).normal(0, 1, (12, 12))
    picture = Image.fromarray(patches.clip(0, 255).astype(np.uint8)).resize(size)
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture
def found(tmp_path):
    """The report of train.record and val.record of these images, and what they share."""

    def look(train: list[bytes], val: list[bytes]):
        paths = []
        for name, images in (("train", train), ("val", val)):
            paths.append(tmp_path / f"{name}.record")
            with tf.io.TFRecordWriter(str(paths[-1])) as writer:
                for i, encoded in enumerate(images):
                    header = read_header(encoded)
                    writer.write(make_example(encoded, header, f"{name}{i}", [CAR]))
        report = check_records(paths, LabelMap.kitti())
        return report, near_duplicates.find(report, 1)

    return look


def test_frames_of_another_moment_are_found_and_others_are_not(found, tmp_path):
    train = [street(i, kind="JPEG" if i % 2 else "PNG", size=(480, 160)) for i in range(8)]
    val = [street(2, noise=4), street(5, noise=4), street(20), street(21)]
    report, (alike,) = found(train, val)
    assert [(pair.second, pair.first) for pair in alike.pairs] == [(0, 2), (1, 5)]
    assert all(pair.bits <= near_duplicates.MAX_BITS for pair in alike.pairs)
    assert alike.share == 0.5 and alike.text == (
        "50.0% of the frames of val.record (2 of 4) look like a frame of train.record"
    )
    (warning,) = near_duplicates.warnings([alike])
    assert "convert with --split=sequence and a --group_by" in warning.what
    data_report.write_html(tmp_path / "r.html", report, [], [alike])
    page = (tmp_path / "r.html").read_text()
    assert alike.text in page and 'alt="Pairs of frames that look alike"' in page
    console = Console(width=60, file=io.StringIO())
    terminal.print_near_duplicates(console, [alike])
    assert max(map(len, console.file.getvalue().splitlines())) <= 60


def test_nothing_alike_is_said_without_a_warning_or_a_picture(found, tmp_path):
    report, (alike,) = found([street(1), street(2)], [street(3)])
    assert alike.share == 0 and not alike.pairs and not [*near_duplicates.warnings([alike])]
    data_report.write_html(tmp_path / "r.html", report, [], [alike])
    page = (tmp_path / "r.html").read_text()
    assert "0.0% of the frames of val.record (0 of 1)" in page and "Pairs of frames" not in page


def test_large_sets_are_sampled_and_it_is_said(found, monkeypatch):
    monkeypatch.setattr(near_duplicates, "_JUDGED", 2)
    _, (alike,) = found([street(1)], [street(i) for i in range(1, 6)])
    assert alike.num_second == 2 and [pair.second for pair in alike.pairs] == [0]
    assert alike.text.endswith("; looked at 2 of 5 frames of val.record, evenly spaced")


def test_a_damaged_image_is_left_to_the_checks(found):
    damaged = street(2)[:100] + bytes(400) + street(2)[500:]
    report, (alike,) = found([street(1), damaged], [street(1)])
    assert not report.ok and alike.num_first == 1 and len(alike.pairs) == 1
    with pytest.raises(ImageError, match="does not decode"):
        near_duplicates.fingerprint(b"x")


def test_one_set_has_no_other_side(found, tmp_path):
    report, _ = found([street(1)], [street(2)])
    report.sets.pop()
    assert near_duplicates.find(report) == []


def test_sixteen_bits_are_not_cut_off():
    deep = np.random.default_rng(0).uniform(0, 255, (12, 12)).repeat(8, 0).repeat(8, 1) * 256
    buffer = io.BytesIO()
    Image.fromarray(deep.astype(np.uint16)).save(buffer, "PNG")
    plain = io.BytesIO()
    Image.fromarray((deep / 256).astype(np.uint8)).save(plain, "PNG")
    hashes = [near_duplicates.fingerprint(b.getvalue()) for b in (buffer, plain)]
    assert (hashes[0] != hashes[1]).sum() < 8


def test_on_kitti_a_random_split_shows_and_a_drive_split_does_not(shared):
    """A fourth of the frames: with all of them more stand beside each other."""
    files = sorted((shared / "kitti/jpeg/training/image_2").glob("*.jpg"))
    hashes = {f.stem: 2.0 * near_duplicates.fingerprint(f.read_bytes()) - 1 for f in files}

    def share(split: str) -> float:
        train, val = (
            np.array([hashes[i] for i in side]) for side in splits.split_frames(hashes, split)
        )
        bits = (near_duplicates.NUM_BITS - val @ train.T) / 2
        return (bits.min(1) <= near_duplicates.MAX_BITS).mean()

    assert 0.23 < share("random") < 0.27
    assert share("drive") < near_duplicates.WARN_SHARE
