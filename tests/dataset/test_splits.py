"""Splits: exact sizes, no drive on both sides, and fractions that hold."""

import hashlib
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


def test_the_table_holds_what_the_search_finds():
    assert splits.drive_split() == splits.search_drives(0.2, 0)


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


def beside(train: list[str], val: list[str], order: list[str]) -> int:
    """How many validation frames have a training frame as a neighbour."""
    inside = np.isin(order, val)
    before, after = np.roll(inside, 1), np.roll(inside, -1)
    before[0] = after[-1] = True
    return int((inside & ~(before & after)).sum())


@pytest.mark.parametrize("prefix", ["frame_", ""])
@pytest.mark.parametrize("seed", [0, 5])
def test_unknown_frames_go_by_contiguous_blocks(prefix, seed):
    ids = [f"{prefix}{i}" for i in range(2000)]
    train, val = splits.split_frames(ids[::-1], "drive", seed=seed, is_kitti=False)
    assert (len(train), len(val)) == (1600, 400) and sorted(train + val) == sorted(ids)
    assert beside(train, val, ids) <= 10
    assert splits.split_frames(ids, "drive", seed=seed, is_kitti=False) == (train, val)
    assert splits.split_frames(ids, "drive", seed=9, is_kitti=False)[1] != val


def test_frames_that_kitti_does_not_have_do_not_move_those_it_has():
    train, val = splits.split_frames(ALL, "drive")
    own = [f"{i:06d}" for i in range(7481, 7581)]
    mixed = splits.split_frames([*ALL, *own], "drive")
    assert [i for i in mixed[1] if i in set(ALL)] == val and len(mixed[1]) == len(val) + 20
    assert splits.drive_of("frame_1") is None and splits.drive_of("007481") is None


@settings(deadline=None)
@given(st.integers(0, 60), st.floats(0.01, 0.99), st.integers(0, 3))
def test_blocks_have_their_share_whatever_the_numbers(count, fraction, seed):
    ids = [f"x{i}" for i in range(count)]
    train, val = splits.split_frames(ids, "drive", val_fraction=fraction, seed=seed)
    assert len(val) == round(fraction * count) and sorted(train + val) == sorted(ids)


def test_kitti_is_known_by_its_sizes(shared):
    sizes = {}
    for line in (shared / "kitti" / "image_sizes.txt").read_text().splitlines():
        first, last, width, height = map(int, line.split())
        sizes |= {f"{i:06d}": (width, height) for i in range(first, last + 1)}
    assert all(splits.kitti_size(i) == sizes[i] for i in ALL) and len(sizes) == 7481
    assert splits.looks_like_kitti(sizes)
    assert splits.looks_like_kitti({i: sizes[i] for i in ALL[::97]} | {"000001": (1, 1)})
    assert splits.looks_like_kitti({"000007": sizes["000007"], "frame_1": (640, 480)})
    resized = {i: (width // 2, height // 2) for i, (width, height) in sizes.items()}
    own = dict.fromkeys(ALL[:2000], (1242, 375))  # another recording by the same camera
    for others in (resized, own, {"frame_1": (1242, 375)}, {}):
        assert not splits.looks_like_kitti(others)


@pytest.mark.parametrize("fraction", [0, 1, -0.5, float("nan")])
def test_a_fraction_outside_0_to_1_is_a_usage_error(fraction):
    with pytest.raises(UsageError, match="--val_fraction"):
        splits.split_frames(ALL, "random", val_fraction=fraction)


def test_split_files_hold_ids_names_or_paths(tmp_path):
    path = tmp_path / "val.txt"
    text = "000007\r\n\n image_2/000003.png \n000001\nx\\000002.JPG\n000004.txt\n  \n2011.09.26"
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        path.write_text(text, encoding=encoding)
        assert splits.read_split_file(path) == [
            "000007", "000003", "000001", "000002", "000004", "2011.09.26",
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("000001\n000002\n000001\n", r":3: 000001 stands twice \(first on line 1\)"),
        ("\n", "no frame id"),
        (f"000001\n{'9' * 5000}\n", r":2: '9+'... \(5000 letters\) is no frame id"),
        ("x" * 10**7, "10000000 letters. is no frame id"),
        ("000001\0", "is no frame id"),
        ("a/..", "'..' is no frame id"),
        ("\udcff", "not UTF-8"),
    ],
)
def test_bad_split_files(tmp_path, text, what):
    path = tmp_path / "val.txt"
    path.write_text(text, errors="surrogateescape")
    with pytest.raises(UserError, match=what) as error:
        splits.read_split_file(path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.binary(max_size=60) | st.text(max_size=30).map(lambda text: text.encode("utf-16")))
def test_any_bytes_are_ids_or_an_error_of_their_user(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "val.txt"
        path.write_bytes(data)
        try:
            ids = splits.read_split_file(path)
        except UserError:
            return
        assert not any((Path(folder) / f"{source_id}.txt").exists() for source_id in ids)
        splits.split_frames(ids, "drive")


def test_ids_of_5000_digits_are_sorted_as_numbers():
    ids = ["9" * 5000, "1" + "0" * 5000, "10", "9", "a9", "a10", "009"]
    assert sorted(sorted(ids), key=splits._natural) == [
        *("a9", "a10", "009", "9", "10", "9" * 5000, "1" + "0" * 5000)
    ]


def test_shared_drives_counts_validation_frames():
    first, second = splits.drives()[0], splits.drives()[1]
    frames = [f"{frame:06d}" for frame in first.frames]
    other = [f"{second.frames[0]:06d}"]
    assert splits.shared_drives(frames[:2], frames[2:5] + other + ["x"]) == {first.name: 3}
