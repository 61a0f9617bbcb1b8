"""Splits: exact sizes, no drive on both sides, and fractions that hold."""

import hashlib
from collections import Counter

import numpy as np
import pytest

from efficientdet.dataset import splits
from efficientdet.errors import UsageError, UserError

PINNED = "9fdbf0bd60014791"
ALL = [f"{i:06d}" for i in range(7481)]


def test_the_table_holds_every_frame_once():
    frames = [frame for drive in splits.drives() for frame in drive.frames]
    assert sorted(frames) == list(range(7481))
    assert len(splits.drives()) == 141
    totals = np.sum([drive.class_counts for drive in splits.drives()], axis=0)
    assert totals.tolist() == [28742, 2914, 1094, 4487, 222, 1627, 511, 973]


def test_the_table_is_the_devkit_s(shared):
    folder = shared / "kitti" / "splits"
    rows = [line.split()[1] for line in (folder / "train_mapping.txt").read_text().splitlines()]
    rand = [int(index) for index in (folder / "train_rand.txt").read_text().split(",")]
    assert all(
        splits.drive_of(f"{frame:06d}") == rows[row - 1].removesuffix("_sync")
        for frame, row in enumerate(rand)
    )


def test_chen_is_the_published_list(shared):
    train, val = splits.split_frames(ALL, "chen")
    folder = shared / "kitti" / "splits"
    assert train == (folder / "chen_train.txt").read_text().split()
    assert val == (folder / "chen_val.txt").read_text().split()
    assert (len(train), len(val)) == (3712, 3769)


def test_the_default_split_is_what_it_was():
    train, val = splits.split_frames(ALL, "drive")
    assert (len(train), len(val)) == (5985, 1496)
    assert not set(train) & set(val)
    assert splits.shared_drives(train, val) == {}
    # Pinned: everybody's AP on this split must stay comparable.
    assert hashlib.sha256(" ".join(val).encode()).hexdigest().startswith(PINNED)


def test_both_sides_have_the_same_classes():
    names = splits.drive_split()
    inside = np.array([drive.name in names for drive in splits.drives()])
    counts = np.array([drive.class_counts for drive in splits.drives()])
    shares = counts[inside].sum(0) / counts.sum(0)
    # Person_sitting stands in too few drives to come nearer.
    assert np.abs(np.delete(shares, 4) - 0.2).max() < 0.015
    assert abs(shares[4] - 0.2) < 0.06


def test_another_fraction_is_met_exactly():
    train, val = splits.split_frames(ALL, "drive", val_fraction=0.3, seed=3)
    assert len(val) == round(0.3 * 7481)
    assert splits.shared_drives(train, val) == {}


def test_a_partial_root_keeps_every_frame_on_its_side():
    few = ALL[100:400:7]
    train, val = splits.split_frames(ALL, "drive")
    assert splits.split_frames(few, "drive") == (
        [i for i in train if i in few],
        [i for i in val if i in few],
    )


def test_random_leaks_drives_and_says_how_many():
    train, val = splits.split_frames(ALL, "random")
    assert (len(train), len(val)) == (5985, 1496)
    assert sum(splits.shared_drives(train, val).values()) > 0.99 * 1496
    assert splits.split_frames(ALL, "random", seed=1)[1] != val


def test_unknown_frames_go_by_a_hash_that_never_moves_them():
    ids = [f"frame_{i}" for i in range(2000)]
    train, val = splits.split_frames(ids, "drive")
    assert 0.17 < len(val) / 2000 < 0.23
    assert splits.split_frames(ids[::3], "drive")[1] == [i for i in val if i in set(ids[::3])]
    assert splits.drive_of("frame_1") is None and splits.drive_of("007481") is None


@pytest.mark.parametrize("fraction", [0, 1, -0.5, float("nan")])
def test_a_fraction_outside_0_to_1_is_a_usage_error(fraction):
    with pytest.raises(UsageError, match="--val_fraction"):
        splits.split_frames(ALL, "random", val_fraction=fraction)


def test_split_files_hold_ids_names_or_paths(tmp_path):
    path = tmp_path / "val.txt"
    path.write_text("000007\r\n\n image_2/000003.png \n000001")
    assert splits.read_split_file(path) == ["000007", "000003", "000001"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("000001\n000002\n000001\n", r":3: 000001 stands twice \(first on line 1\)"),
        ("\n", "no frame id"),
    ],
)
def test_bad_split_files(tmp_path, text, what):
    path = tmp_path / "val.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=what):
        splits.read_split_file(path)


def test_shared_drives_counts_validation_frames():
    first, second = splits.drives()[0], splits.drives()[1]
    frames = [f"{frame:06d}" for frame in first.frames]
    other = [f"{second.frames[0]:06d}"]
    assert splits.shared_drives(frames[:2], frames[2:5] + other + ["x"]) == Counter({first.name: 3})
