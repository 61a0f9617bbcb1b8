"""A record made shard by shard, by processes that know of each other by the disk alone."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import CAR, LABELS, REGION, WALKER
from killed_renames import Killed, killed_at
from PIL import Image

from efficientdet.dataset import conversion
from efficientdet.dataset.convert import convert
from efficientdet.dataset.convert_shard import convert_shard, merge
from efficientdet.dataset.frame_conversion import convert_frame
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.options import Options
from efficientdet.dataset.record_part import part_path
from efficientdet.dataset.selection import select_frames
from efficientdet.errors import UsageError, UserError
from efficientdet.input.record_set import RecordSet

KITTI = LabelMap.kitti()
NAME = "out[1].record"  # a glob would take it for out1.record


class Job:
    """Calls of one conversion, into a folder of its own; `one_call` into another."""

    def __init__(self, root: Path, num_shards: int, folder: str = "to", **options):
        self.root, self.num_shards, self.folder = root, num_shards, root / folder
        self.options = Options(**{"subset": "all", "num_shards": num_shards} | options)
        self.output = self.folder / NAME

    def what(self, output: Path) -> tuple:
        return select_frames(self.root, self.options), output, KITTI, self.options

    def shard(self, index: int, **how):
        return convert_shard(*self.what(self.output), index, **how)

    def shards(self, **how) -> None:
        for index in reversed(range(self.num_shards)):
            self.shard(index, **how)

    def merge(self):
        return merge(*self.what(self.output))

    def one_call(self) -> dict[str, bytes]:
        """The files that one call writes."""
        convert(*self.what(self.root / "one_call" / NAME))
        found = files(self.root / "one_call")
        shutil.rmtree(self.root / "one_call")
        return found

    def files(self) -> dict[str, bytes]:
        return files(self.folder)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_shards_and_a_merge_are_one_call_byte_for_byte(make_kitti):
    root = make_kitti(LABELS | {f"00001{i}": [CAR, REGION] for i in range(5)})
    for num_shards in (1, 2, 9):
        job = Job(root, num_shards, str(num_shards))
        job.shards()
        assert job.merge() is not None
        assert job.files() == job.one_call()
        assert job.merge() is None and job.shard(0) is None  # up to date
        assert job.files() == job.one_call()


def test_odd_frames_are_told_as_by_one_call(make_kitti):
    """Bad frames left out, one shard of them alone; a BMP, a turned JPEG, scores, a lost label."""
    bad = ["Car 1 2 3"]
    labels = {f"{i:06d}": [f"{CAR} 0.5"] if i % 2 else [WALKER] for i in range(12)}
    root = make_kitti(labels | {"000003": bad, "000004": bad, "000005": [f"{CAR}\n{CAR} 1 2"]})
    training = root / "training"
    (training / "image_2" / "000003.png").write_bytes(b"no image")
    Image.new("RGB", (100, 40)).save(training / "image_2" / "000007.bmp")
    (training / "image_2" / "000007.png").unlink()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (100, 40)).save(training / "image_2" / "000008.jpg", exif=exif)
    (training / "image_2" / "000008.png").unlink()
    (training / "label_2" / "000009.txt").unlink()
    job = Job(root, 4, skip_bad=True, missing_is_empty=True, classes=("Car",))
    job.shards()
    manifest = job.merge()
    assert job.files() == job.one_call()
    assert [shard.num_examples for shard in manifest.shards] == [3, 0, 3, 3]
    assert len(manifest.notes) >= 4 and len(manifest.left_out) == 4


def test_a_bad_frame_ends_its_own_shard_alone(make_kitti):
    root = make_kitti()
    (root / "training" / "label_2" / "000001.txt").write_text("Car 1 2\n")
    job = Job(root, 2)
    with pytest.raises(UserError, match="000001.txt:1: 3 columns"):
        job.shard(0)
    assert job.files() == {}
    job.shard(1)
    with pytest.raises(UserError, match=r"1 of 2 shards are not there yet; .*--shard_index=0 "):
        job.merge()
    (root / "training" / "label_2" / "000001.txt").write_text(WALKER)
    with pytest.raises(UserError, match="unfinished conversion of other input or flags"):
        job.shard(0)
    job.shards(overwrite=True)
    assert job.merge() and job.files() == job.one_call()


@pytest.mark.parametrize("before", ["nothing", "shards", "record"])
def test_killed_anywhere(make_kitti, monkeypatch, before):
    """Each call is made again by the same command; until the merge no reader takes the files."""
    root, call = make_kitti(), 0
    job, old = Job(root, 2), {}
    if before != "nothing":
        job.shards()
        if before == "record":
            job.merge()
        old = job.files()
        label = root / "training" / "label_2" / "000001.txt"
        label.write_text(label.read_text().replace("0.1 3.00 5.00", "0.1 4.00 5.00"))
    how = {"overwrite": before != "nothing"}
    new = job.one_call()
    while True:
        for after in (False, True):
            if job.folder.exists():
                shutil.rmtree(job.folder)
            job.folder.mkdir()
            for name, data in old.items():
                (job.folder / name).write_bytes(data)
            with killed_at(monkeypatch, call, after=after) as done:
                try:
                    job.shards(**how)
                    job.merge()
                except Killed:
                    pass
                else:
                    assert call >= 8 and job.files() == new
                    return
            left = {name: data for name, data in job.files().items() if name[0] != "."}
            visible = {name: data for name, data in left.items() if not name.endswith(".part")}
            if left != old and visible != new:
                with pytest.raises(UserError):
                    RecordSet.open(str(job.output))
            job.shards(**how)
            job.merge()
            assert job.files() == new, (call, after, done)
        call += 1


def meanwhile(monkeypatch: pytest.MonkeyPatch, do: Callable[[], None]) -> None:
    """Another process does something while the next one converts its first frame."""
    done = []

    def slow(frame, *how):
        if not done:
            done.append(True)
            with monkeypatch.context() as patch:
                patch.setattr(os, "getpid", os.getppid)
                do()
        return convert_frame(frame, *how)

    monkeypatch.setattr(conversion, "convert_frame", slow)


def test_two_processes_on_one_shard(make_kitti, monkeypatch):
    """While the first is busy with shard 0, others write it, and merge."""
    job = Job(make_kitti(), 2)
    meanwhile(monkeypatch, lambda: (job.shards(), job.merge()))
    assert job.shard(0, num_workers=1) is not None
    assert RecordSet.open(str(job.output)).num_examples == 4
    assert job.merge() is None and job.files() == job.one_call()


def test_a_late_process_of_other_flags_spoils_nothing(make_kitti, monkeypatch):
    root = make_kitti()
    job, other = Job(root, 2), Job(root, 2, max_occlusion=0)
    meanwhile(monkeypatch, other.shards)
    with pytest.raises(UserError, match="unfinished conversion of other input or flags"):
        job.shard(0, num_workers=1)
    assert other.merge() and other.files() == other.one_call()


def test_a_shard_that_is_there_is_left_alone(make_kitti, said):
    job = Job(make_kitti(), 2)
    first = job.shard(0)
    before = {path: path.stat().st_ino for path in job.folder.iterdir()}
    assert job.shard(0) == job.shard(0, overwrite=True) == first
    assert {path: path.stat().st_ino for path in job.folder.iterdir()} == before
    assert f"{NAME}-00000-of-00002: there already" in said[0]


def test_other_flags_and_other_input_are_refused(make_kitti):
    root = make_kitti()
    job = Job(root, 2)
    job.shard(0)
    before = job.files()
    other = "unfinished conversion of other input or flags.*--overwrite replaces"
    for options in ({"num_shards": 3}, {"max_occlusion": 1}, {"classes": ("Car",)}):
        stranger = Job(root, **{"num_shards": 2} | options)
        with pytest.raises(UserError, match=other):
            stranger.shard(1)
        with pytest.raises(UserError, match="--merge wants all flags as they were"):
            stranger.merge()
    (root / "training" / "label_2" / "000003.txt").write_text(CAR)
    with pytest.raises(UserError, match=other):
        job.shard(1)
    with pytest.raises(UserError, match="and the input unchanged"):
        job.merge()
    assert job.files() == before
    with pytest.raises(UsageError, match="--shard_index=2: expected 0 to 1"):
        job.shard(2)
    with pytest.raises(UsageError, match=r"--num_shards=5: expected 1 to 4 \(the frames\)"):
        Job(root, 5).shard(0)


def test_a_record_of_other_input_is_replaced_only_if_that_is_said(make_kitti):
    root = make_kitti()
    job = Job(root, 3)
    convert(*job.what(job.output))
    whole = job.files()
    later = Job(root, 2)
    with pytest.raises(UserError, match="exists already .--num_shards was 3"):
        later.shard(0)
    with pytest.raises(UserError, match="of other input or flags"):
        later.merge()
    assert job.files() == whole
    later.shards(overwrite=True)
    with pytest.raises(UserError, match="unfinished conversion"):
        RecordSet.open(str(job.output))
    assert later.merge() and later.files() == later.one_call()  # none of the three is left


@pytest.mark.parametrize("what", ["shard", "part"])
@pytest.mark.parametrize("how", ["gone", "cut", "changed", "another's"])
def test_a_lost_or_damaged_shard_is_missing(make_kitti, what, how):
    job = Job(make_kitti(LABELS | {"000003": [WALKER]}), 2)
    job.shards()
    paths = [job.folder / f"{NAME}-0000{i}-of-00002" for i in (0, 1)]
    paths = [part_path(path) for path in paths] if what == "part" else paths
    data = bytearray(paths[1].read_bytes())
    if how == "gone":
        paths[1].unlink()
    elif how == "cut":
        paths[1].write_bytes(data[:-1])
    elif how == "changed":
        data[-1] ^= 1
        paths[1].write_bytes(data)
    else:
        shutil.copy(paths[0], paths[1])
    wanted = "1 of 2 shards are not there yet; run the same command with --shard_index=1 "
    with pytest.raises(UserError, match=re.escape(wanted)):
        job.merge()
    job.shard(1)
    assert job.merge() and job.files() == job.one_call()


def test_one_call_finishes_what_shards_began_and_a_lost_shard_comes_back(make_kitti):
    job = Job(make_kitti(), 2)
    job.shard(0)
    convert(*job.what(job.output))
    assert job.files() == job.one_call()
    (job.folder / f"{NAME}-00001-of-00002").unlink()
    job.shard(1)
    assert RecordSet.open(str(job.output)).num_examples == 4
    assert job.merge() is None and job.files() == job.one_call()


def test_a_merge_of_nothing_names_every_shard(make_kitti):
    job = Job(make_kitti(), 3)
    job.folder.mkdir()
    with pytest.raises(UserError, match=r"3 of 3 shards .*--shard_index=0,1,2 .each of them"):
        job.merge()
    assert job.files() == {}
