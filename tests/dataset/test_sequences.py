"""Recordings told apart by names, whole ones on one side, in fair shares."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientdet.dataset import sequences
from efficientdet.dataset.kitti import Frame
from efficientdet.dataset.options import Options
from efficientdet.dataset.selection import select_frames
from efficientdet.errors import UsageError, UserError

CAMERAS = [f"cam{i % 3}/{i:06d}" for i in range(30)]


def sizes(groups: dict[str, str]) -> list[int]:
    return sorted(Counter(groups.values()).values())


@pytest.mark.parametrize(
    ("group_by", "first"),
    [("folder", "cam0"), ("", "cam0"), (r"^(\w+)/", "cam0"), (r"^\w+(?=/)", "cam0")],
)
def test_groups_by_folder_and_by_expression(group_by, first):
    groups = sequences.group(CAMERAS, group_by)
    assert sizes(groups) == [10, 10, 10] and groups["cam0/000000"] == first
    assert sequences.group(["길/a1", "숲/a2"], "folder") == {"길/a1": "길", "숲/a2": "숲"}
    assert sequences.group(["a_1_x", "a_2_y"], r"(\w)_(\d)") == {"a_1_x": "a/1", "a_2_y": "a/2"}


@pytest.mark.parametrize(
    "names",
    [
        [f"2024-05-01_12-{m:02d}-{s:02d}" for m in (0, 3) for s in range(0, 40, 4)],
        [f"left_20240501T12{m:02d}{s:02d}.250" for m in (0, 3) for s in range(0, 40, 4)],
        [f"{1714566605 + 300 * m + s}.25" for m in (0, 1) for s in range(10)],
        [f"{1714566605000 + 300_000 * m + 100 * s}" for m in (0, 1) for s in range(10)],
        [f"frame_{1000 * m + 5 * s}" for m in (0, 1) for s in range(10)],
        [f"{drive}_{i:03d}" for drive in "ab" for i in range(10)],
    ],
)
def test_a_gap_in_times_or_numbers_begins_a_group(names):
    groups = sequences.group(names[::-1], "time")
    assert sizes(groups) == [10, 10]
    assert {groups[name] for name in names[:10]} == {names[0]}


def test_of_times_all_cameras_are_one_and_short_gaps_are_none():
    both = [f"{cam}/20240501_1200{s:02d}" for cam in ("left", "right") for s in range(0, 60, 9)]
    with pytest.raises(UserError, match="makes one group of all 14 frames"):
        sequences.group(both, "time")
    assert sizes(sequences.group(both, "time:8")) == [2] * 7
    halves = [f"{cam}/20240501_12{m:02d}00" for cam in "ab" for m in (0, 1, 50, 51)]
    assert sizes(sequences.group(halves, "time:120")) == [4, 4]


@pytest.mark.parametrize(
    ("ids", "group_by", "what"),
    [
        (CAMERAS, "(", r"--group_by='\(': no regular expression: missing \)"),
        (CAMERAS, "^x/", r"matches none of 30 ids; not, for example, 'cam0/000000'"),
        (CAMERAS, "cam[01]", r"matches 20 of 30 ids; not, for example, 'cam2/"),
        (CAMERAS, "cam", "--group_by=cam makes one group of all 30 frames"),
        (["000001", "000002"], "", "--group_by=time makes one group of all 2 frames"),
        (["000001", "x"], "time", "'x' has no number in its name"),
        (
            CAMERAS,
            "time:1 min",
            "--group_by=time:1 min: expected seconds after the colon, as time:60",
        ),
        (["a/1"], "folder", "one group of all 1 frame "),
    ],
)
def test_what_makes_no_groups_is_one_clear_line(ids, group_by, what):
    with pytest.raises((UsageError, UserError), match=what) as error:
        sequences.group(ids, group_by)
    assert "\n" not in str(error.value)


def frames(folder, groups: dict[str, int], rare: str = "") -> list[Frame]:
    result = []
    for name, count in groups.items():
        path = folder / f"{name}.txt"
        path.write_text("Car 0 0\nDontCare -1\n" + ("Bus 0 0\n" if name in rare else ""))
        result += [Frame(f"{name}/{i:04d}", None, path) for i in range(count)]
    return result


def test_whole_groups_in_fair_shares_of_frames_and_classes(tmp_path):
    count = {chr(97 + i): 20 + i for i in range(20)}
    found = frames(tmp_path, count, rare="bcdfg")
    split = sequences.split_sequences(found, "", val_fraction=0.2, seed=0)
    assert split == sequences.split_sequences(found[::-1], "", val_fraction=0.2, seed=0)
    assert split != sequences.split_sequences(found, "", val_fraction=0.2, seed=1)
    train, val = split.training, split.validation
    assert not {i[0] for i in train} & {i[0] for i in val}
    assert sorted(train + val) == sorted(frame.source_id for frame in found)
    assert abs(len(val) / len(found) - 0.2) < 0.01
    rare = [sum(i[0] in "bcdfg" for i in side) for side in (train, val)]
    assert abs(rare[1] / sum(rare) - 0.2) < 0.03
    assert "20 groups, 4 validate with" in split.note and "(20.0% asked)" in split.note


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 50), min_size=2, max_size=12), st.floats(0.01, 0.99), st.integers(0, 3)
)
def test_no_side_is_ever_empty(counts, fraction, seed):
    ids = [Frame(f"g{g}/{i}", None, None) for g, n in enumerate(counts) for i in range(n)]
    split = sequences.split_sequences(ids, "folder", val_fraction=fraction, seed=seed)
    assert split.training and split.validation
    assert len(split.training) + len(split.validation) == sum(counts)


def test_what_the_shares_cannot_be_is_said(tmp_path):
    split = sequences.split_sequences(
        frames(tmp_path, {"a": 50, "b": 60}), "folder", val_fraction=0.2, seed=0
    )
    assert len(split.validation) == 50 and split.note.endswith("too large to come nearer")
    alone = sequences.split_sequences(frames(tmp_path, {"c": 9}), "(.+)", val_fraction=0.2, seed=0)
    assert alone.note.endswith("which is no better than --split=random")


def test_a_class_may_have_blanks_in_its_name(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(
        "traffic light 0.0 0 1 2\n\n교통 표지 -1 -1\nDontCare -1 -1\n", encoding="utf-8"
    )
    found = sequences._classes(Frame("a", None, path))
    assert found == {"traffic light": 1, "교통 표지": 1}
    assert not sequences._classes(Frame("a", None, tmp_path / "absent.txt"))


def test_many_groups_end_soon():
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 9, (3000, 4))
    chosen = sequences.search_groups(counts, 0.2, 0, by_share=True)
    assert np.abs(counts[chosen].sum(0) / counts.sum(0) - 0.2).max() < 0.01


def test_a_folder_of_images_is_split_and_it_is_said(make_kitti):
    names = [f"{start + i:06d}" for start in range(0, 10000, 1000) for i in range(6)]
    root = make_kitti(dict.fromkeys(names, ["Car 0.00 0 0 1 1 9 9 1 1 1 1 1 1 0"]))
    sides = {}
    for subset in ("training", "validation"):
        selection = select_frames(root, Options(subset, "sequence", group_by="time"))
        sides[subset] = {frame.source_id[:3] for frame in selection.frames}
        assert selection.split == "sequence"
    assert len(sides["validation"]) == 2 and not sides["training"] & sides["validation"]
    (note,) = selection.notes
    assert "10 groups, 2 validate with 20.0% of the frames" in note
    (note,) = select_frames(root, Options("validation")).notes
    assert note.endswith("whole recordings apart, which --group_by=time finds here")
    with pytest.raises(UsageError, match="--group_by needs --split=sequence; the split is drive"):
        select_frames(root, Options(group_by="time"))


def test_options_of_other_splits_are_what_they_were():
    assert "group_by" not in Options().to_dict()
    assert Options(split="sequence", group_by="x").to_dict()["group_by"] == "x"
