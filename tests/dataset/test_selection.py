"""Which frames a subset holds: real KITTI by drives, anything else by blocks, and it is said."""

import numpy as np
import pytest

from efficientdet.dataset.options import Options
from efficientdet.dataset.selection import select_frames
from efficientdet.errors import UserError

SIXTY = {f"{i:06d}": [] for i in range(60)}


def sides(root, split, **options) -> list[list[str]]:
    return [
        [frame.source_id for frame in select_frames(root, Options(subset, split, **options)).frames]
        for subset in ("training", "validation")
    ]


@pytest.mark.parametrize("size", [None, (100, 40)])
def test_training_and_validation_are_all_frames(make_kitti, size):
    root = make_kitti(SIXTY, size=size)
    for split in ("drive", "random") if size else ("drive", "chen", "random"):
        train, val = sides(root, split)
        assert sorted(train + val) == [*SIXTY] and train and val


def test_an_own_set_with_kitti_s_numbers_is_split_in_blocks(make_kitti):
    root = make_kitti(SIXTY)
    validation = select_frames(root, Options("validation"))
    assert (validation.split, validation.is_kitti) == ("blocks", False)
    numbers = [int(frame.source_id) for frame in validation.frames]
    assert len(numbers) == 12 and (np.diff(numbers) > 1).sum() <= 4
    (note,) = validation.notes
    assert note == (
        "60 of 60 frames are no KITTI training frames (000000 is 100x40, KITTI's is 1224x370), "
        "their drives are not known: contiguous blocks of them validate, in the order of "
        "their names; --split=sequence keeps whole recordings apart, where --group_by tells them "
        "apart"
    )
    (note,) = select_frames(root, Options(split="random")).notes
    assert note.startswith("--split=random: frames of one recording come to both sides")
    with pytest.raises(UserError, match="--split=chen lists frames of KITTI.*000000 is 100x40"):
        select_frames(root, Options(split="chen"))


def test_kitti_with_own_frames_beside_it(make_kitti):
    own = {f"{i:06d}": [] for i in range(900000, 900020)}
    root = make_kitti(SIXTY, size=None)
    before = set(sides(root, "drive")[1])
    make_kitti(own)
    selection = select_frames(root, Options("validation"))
    assert (selection.split, selection.is_kitti) == ("drive", True)
    assert {frame.source_id for frame in selection.frames} - {*own} == before
    (note,) = selection.notes
    assert note.startswith("20 of 80 frames are no KITTI training frames (their names are not")
    *_, note = select_frames(root, Options(split="random", seed=1)).notes
    assert "validation frames come from a drive that is also in training" in note


def test_real_frames_are_kitti(shared):
    for name in ("png", "jpeg"):
        selection = select_frames(shared / "kitti" / name, Options("validation"))
        assert selection.is_kitti and selection.split == "drive" and not selection.notes
