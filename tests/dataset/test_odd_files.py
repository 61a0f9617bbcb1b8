"""The converter among pipes, folders, links, full disks and names that collide."""

import dataclasses
import os
import resource
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from efficientdet.dataset.convert import convert, dry_run
from efficientdet.dataset.example import Record
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.manifest import Manifest
from efficientdet.dataset.options import Options
from efficientdet.dataset.selection import select_frames
from efficientdet.dataset.tfrecord import read_records
from efficientdet.errors import UsageError, UserError

KITTI = LabelMap.kitti()
ALL = Options(subset="all")


def run(root: Path, options: Options = ALL, **how) -> Manifest | None:
    return convert(select_frames(root, options), root / "out.record", KITTI, options, **how)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "training",
            r"--output_path=.*training: a folder; name a file, for example .*/train.record",
        ),
        ("", "a folder; name a file"),
        ("pipe", "not a regular file"),
        ("out.record-00000-of-00002", "the name of a shard or a manifest"),
        ("out.record.manifest.json", "the name of a shard or a manifest"),
        ("out.record.index", "the name of a shard or a manifest"),
    ],
)
def test_names_that_no_record_can_have(make_kitti, name, said):
    root = make_kitti()
    os.mkfifo(root / "pipe")
    for overwrite in (False, True):
        with pytest.raises(UsageError, match=said):
            convert(select_frames(root, ALL), root / name, KITTI, ALL, overwrite=overwrite)
    assert sorted(path.name for path in root.iterdir()) == ["pipe", "training"]


@pytest.mark.parametrize("num_shards", [1, 2])
def test_a_link_is_written_through(make_kitti, tmp_path, num_shards):
    root, options = make_kitti(), dataclasses.replace(ALL, num_shards=num_shards)
    run(root, options)
    names = [path.name for path in root.iterdir() if path.is_file()]
    expected = {name: (root / name).read_bytes() for name in names}
    disk = tmp_path / "disk"
    disk.mkdir()
    for name in names:
        (root / name).rename(disk / name)
        (root / name).symlink_to(disk / name)
    assert run(root, options) is None
    for path in disk.iterdir():
        path.write_bytes(b"old")
    assert run(root, options, overwrite=True) is not None
    assert all((root / name).is_symlink() for name in names)
    assert {path.name: path.read_bytes() for path in disk.iterdir()} == expected


@pytest.mark.parametrize("folder", [".", "새 폴더/deep"])
def test_a_record_that_does_not_fit_is_refused_before_anything_is_written(
    make_kitti, monkeypatch, folder
):
    """One line: what it needs, what there is, and where."""
    root = make_kitti()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=10**9, free=3000))
    before = sorted(root.rglob("*"))
    with pytest.raises(
        UserError, match="needs about 0.0 MB, 0.0 MB are free in .*kitti; free some"
    ):
        convert(select_frames(root, ALL), root / folder / "out.record", KITTI, ALL)
    assert sorted(root.rglob("*")) == before
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=0, free=0))
    assert convert(select_frames(root, ALL), root / "out.record", KITTI, ALL)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=10**9, free=0))
    assert convert(select_frames(root, ALL), root / "out.record", KITTI, ALL) is None  # up to date


def test_a_full_disk_is_one_line_with_the_path_and_leaves_nothing(make_kitti):
    root = make_kitti()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))
    try:
        with pytest.raises(UserError, match="out.record: cannot be written: .*File too large$"):
            run(root)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in root.iterdir()] == ["training"]


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir])
@pytest.mark.parametrize("name", ["image_2/000001.png", "label_2/000001.txt"])
def test_only_regular_files_are_read(make_kitti, name, make):
    """A pipe would be waited for, for ever."""
    root = make_kitti()
    path = root / "training" / name
    path.unlink()
    make(path)
    for call in (run, lambda root: dry_run(select_frames(root, ALL), KITTI, ALL)):
        with pytest.raises(
            UserError, match=f"1 problem in [^\\n]*\\n .*{name}: not a regular file"
        ):
            call(root)
    manifest = run(root, dataclasses.replace(ALL, skip_bad=True))
    assert manifest.num_examples == 3 and len(manifest.left_out) == 1


def test_ids_that_differ_only_in_case_stay_apart(make_kitti):
    root = make_kitti()
    for folder, suffix in (("image_2", ".png"), ("label_2", ".txt")):
        for name in ("가a", "가A"):
            source = root / "training" / folder / f"000001{suffix}"
            (source.parent / f"{name}{suffix}").write_bytes(source.read_bytes())
    assert run(root).source_ids[-2:] == ["가A", "가a"]
    stored = [Record.parse(data).source_id for _, data in read_records(root / "out.record")]
    assert stored[-2:] == ["가A", "가a"]


@pytest.mark.parametrize("name", ["image_2/000001.PNG", "label_2/000001.Txt"])
def test_two_files_of_one_frame_are_not_silently_one(make_kitti, name):
    root = make_kitti()
    (root / "training" / name).write_bytes(b"")
    with pytest.raises(UserError, match=r"000001\.\w+ and 000001\.\w+ are of one frame; keep one"):
        run(root)


def test_a_name_that_is_no_text_is_one_line(make_kitti):
    root = make_kitti()
    (root / "training" / "image_2" / os.fsdecode(b"\xff.png")).write_bytes(b"")
    with pytest.raises(UserError, match=r"rename .*\.png', which is no readable name") as error:
        run(root)
    str(error.value).encode()
