"""Boxes that were made for another size than the image's are named, KITTI's own never are."""

import tarfile

import numpy as np
import pytest

from efficientdet.dataset.kitti import parse_labels
from efficientdet.dataset.nominal_size import nominal_size


@pytest.fixture(scope="module")
def kitti_reaches(shared):
    """Sizes and reaches of all frames of KITTI that have an object: [N, 2] each."""
    sizes = {}
    for line in (shared / "kitti/image_sizes.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            first, last, width, height = map(int, line.split())
            sizes |= dict.fromkeys(range(first, last + 1), (width, height))
    rows = []
    with tarfile.open(shared / "kitti/label_2_all.tar.gz") as archive:
        for member in archive:
            if member.isfile():
                objects, _ = parse_labels(archive.extractfile(member).read(), member.name)
                boxes = [item.box[2:] for item in objects.values() if not item.is_dont_care]
                if boxes:
                    number = int(member.name.rpartition("/")[2].removesuffix(".txt"))
                    rows.append((sizes[number], np.max(boxes, axis=0)))
    return tuple(np.array(column, float) for column in zip(*rows, strict=True))


def test_kitti_itself_is_sound(kitti_reaches):
    sizes, reaches = kitti_reaches
    assert len(sizes) > 7000 and nominal_size(sizes, reaches) == ""
    assert nominal_size(sizes[:20], reaches[:20]) == ""


def test_a_yolo_copy_turned_back_by_one_size_is_named(kitti_reaches):
    sizes, reaches = kitti_reaches
    small = nominal_size(sizes, reaches / sizes * [1224, 370])
    assert "boxes end at 1223.53 px in images of width 1224 as in those of 1242" in small
    large = nominal_size(sizes, reaches / sizes * [1242, 376])
    assert "reach outside, up to 1241.52x375" in large and "one nominal size" in large
    square = nominal_size(sizes, reaches / sizes * 640)
    assert "reach outside, up to 639.7" in square
    half = nominal_size(sizes, reaches / 2)
    assert half.startswith(f"no box of {len(sizes):,} images reaches beyond 620.5x187")


def test_nothing_is_said_of_nothing():
    assert nominal_size([], []) == ""
    assert nominal_size([(1242, 375)], [(1300, 375)]) == ""  # one bad label: its own line tells
