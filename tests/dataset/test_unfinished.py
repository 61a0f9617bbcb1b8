"""A conversion that is killed between any two renames is no record for anybody, and goes on."""

from pathlib import Path

import pytest
from killed_renames import Killed, killed_at

from efficientdet.dataset.convert import convert
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.manifest import Manifest, manifest_path
from efficientdet.dataset.options import Options
from efficientdet.dataset.selection import select_frames
from efficientdet.errors import UserError
from efficientdet.input.record_set import RecordSet

NAME = "out[1].record"  # a glob would take it for out1.record
UNFINISHED = "unfinished conversion .* run the same command of create_kitti_tf_record.py again"


def run(root: Path, num_shards: int, **how) -> Manifest | None:
    options = Options(subset="all", num_shards=num_shards)
    map_path = LabelMap.kitti()
    return convert(select_frames(root, options), root / "to" / NAME, map_path, options, **how)


def files(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / "to").iterdir()}


def clear(root: Path) -> None:
    for path in (root / "to").iterdir():
        path.unlink()


def change_a_label(root: Path) -> None:
    """To a line of the same length: the record has the same size."""
    label = root / "training" / "label_2" / "000001.txt"
    label.write_text(label.read_text().replace("0.1 3.00 5.00", "0.1 4.00 5.00"))


@pytest.mark.parametrize("shards_before", [None, 1, 2, 3])
@pytest.mark.parametrize("num_shards", [1, 3])
def test_killed_anywhere(make_kitti, monkeypatch, shards_before, num_shards):
    """Nothing before it, or a whole record that --overwrite replaces, in fewer or more shards."""
    root = make_kitti(
        {f"00000{i}": ["Pedestrian 0 0 0.1 3.00 5.00 8 18 1 1 1 1 1 9 0"] for i in "0123"}
    )
    old = {}
    if shards_before:
        run(root, shards_before)
        old = files(root)
        change_a_label(root)
        run(root, num_shards, overwrite=True)
    else:
        run(root, num_shards)
    new, how, call = files(root), {"overwrite": bool(shards_before)}, 0
    assert new != old and new.keys() == {path.name for path in (root / "to").iterdir()}
    while True:
        for after in (False, True):
            clear(root)
            for name, data in old.items():
                (root / "to" / name).write_bytes(data)
            with killed_at(monkeypatch, call, after=after) as done:
                try:
                    run(root, num_shards, **how)
                except Killed:
                    pass
                else:
                    assert files(root) == new and call >= num_shards + 2
                    return
            left = {name: data for name, data in files(root).items() if not name.startswith(".")}
            if left not in ({}, old, new):
                with pytest.raises(UserError, match=UNFINISHED):
                    RecordSet.open(str(root / "to" / NAME))
                with pytest.raises(UserError):
                    Manifest.load(manifest_path(root / "to" / NAME))
                run(root, num_shards)  # goes on, also where --overwrite is not repeated
            else:
                run(root, num_shards, **how)
            assert files(root) == new, (call, after, done)
        call += 1


def test_unfinished_work_of_other_input_is_not_taken_for_one_s_own(make_kitti, monkeypatch):
    root = make_kitti()
    with pytest.raises(Killed), killed_at(monkeypatch, 4, after=False):
        run(root, 3)
    change_a_label(root)
    before = files(root)
    said = "exists already .an unfinished conversion of other input or flags.; --overwrite replaces"
    with pytest.raises(UserError, match=said):
        run(root, 3)
    left = {name: data for name, data in before.items() if not name.startswith(".")}
    assert files(root) == left
    assert run(root, 3, overwrite=True) is not None and run(root, 3) is None


def test_a_file_that_is_gone_is_made_again_and_a_stranger_s_is_not_replaced(make_kitti):
    root = make_kitti()
    run(root, 2)
    whole, shard = files(root), root / "to" / f"{NAME}-00001-of-00002"
    shard.unlink()
    with pytest.raises(UserError, match=f"this shard is missing; {UNFINISHED}"):
        RecordSet.open(str(root / "to" / NAME))
    assert run(root, 2) is not None and files(root) == whole
    shard.unlink()
    (root / "to" / f"{NAME}-00000-of-00002").write_bytes(b"other")
    with pytest.raises(UserError, match="its files are not those that its manifest names"):
        run(root, 2)
    shard.write_bytes(whole[shard.name])
    (root / "to" / f"{NAME}-00000-of-00002").unlink()
    change_a_label(root)
    with pytest.raises(UserError, match="not all of its files are there"):
        run(root, 2)


def test_what_a_killed_run_left_goes_also_where_the_record_is_up_to_date(make_kitti, monkeypatch):
    root = make_kitti()
    run(root, 1)
    whole = files(root)
    with pytest.raises(Killed), killed_at(monkeypatch, 0, after=False):
        run(root, 1, overwrite=True)
    assert len(files(root)) > len(whole)
    assert run(root, 1) is None and files(root) == whole
