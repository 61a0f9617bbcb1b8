"""The converter as its user runs it."""

import subprocess
import sys
from pathlib import Path

import pytest

from efficientdet.dataset.manifest import Manifest
from efficientdet.synthetic.scenes import render_set

# As typed: relative paths, from the folder that holds ./KIT.
TYPED = {
    name: f"--kitti_root=./KIT/ --output_path=./finTfrecords/{name}.record "
    f"--label_map_path=./label_map.txt --subset={subset}"
    for name, subset in (("train", "training"), ("val", "validation"))
}


@pytest.fixture
def start(root: Path, tmp_path: Path):
    """Starts the command in a folder with ./KIT and ./label_map.txt; returns the process."""
    render_set(tmp_path / "KIT", 12, seed=0)
    (tmp_path / "label_map.txt").write_bytes((root / "label_map.txt").read_bytes())

    def run(flags: str) -> subprocess.Popen:
        command = [sys.executable, root / "create_kitti_tf_record.py", *flags.split()]
        return subprocess.Popen(
            command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return run


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in err, err
    return process.returncode, out, err


def test_the_user_s_commands(start, tmp_path):
    runs = [start(TYPED["train"]), start(TYPED["val"])]
    for code, out, err in map(finish, runs):
        assert code == 0, err
        assert "12 of 12 frames are no KITTI training frames" in out
    sides = [
        Manifest.read(tmp_path / "finTfrecords" / f"{name}.record").source_ids
        for name in ("train", "val")
    ]
    assert sorted(sides[0] + sides[1]) == [str(900000 + frame) for frame in range(12)]
    assert sides[0] and sides[1]

    record = tmp_path / "finTfrecords" / "train.record"
    before = record.stat().st_mtime_ns
    (tmp_path / "KIT" / "training" / "label_2" / f"{sides[1][0]}.txt").write_text("Bus 1\n")
    runs = [start(TYPED["train"]), start(TYPED["val"] + " --overwrite")]
    again, broken = map(finish, runs)
    assert again[0] == 0 and "up to date" in again[1] and record.stat().st_mtime_ns == before
    assert broken[0] == 1 and f"{sides[1][0]}.txt:1: 2 columns, expected 15" in broken[2]


def test_shards_by_many_processes_and_a_merge(start, tmp_path):
    """Two of them on one shard; without a label map, which the merge writes."""
    typed = "--kitti_root=KIT --subset=all --num_shards=3 --output_path={}/train.record"
    one, many = typed.format("one"), typed.format("many")
    runs = [start(one), *(start(f"{many} --shard_index={index}") for index in (0, 0, 2))]
    done = [finish(run) for run in runs]
    assert [code for code, _, _ in done] == [0] * 4, done
    out = done[-1][1]
    assert "train.record-00002-of-00003: 4 images; when all 3 shards are there: the same" in out
    code, _, err = finish(start(f"{many} --merge"))
    assert code == 1 and "1 of 3 shards are not there yet" in err and "--shard_index=1 " in err
    runs = [start(f"{many} --shard_index=1"), start(f"{many} --shard_index=0 --classes=Car")]
    (code, _, err), (other, _, said) = map(finish, runs)
    assert code == 0, err
    assert other == 1 and "of other input or flags" in said and len(said.splitlines()) == 1
    code, out, err = finish(start(f"{many} --merge"))
    assert code == 0 and "many/train.record: 12 images (all)" in out, err
    assert _files(tmp_path / "many") == _files(tmp_path / "one")
    assert "label_map.txt" in _files(tmp_path / "one")
    for again in ("--merge", "--shard_index=2"):
        code, out, _ = finish(start(f"{many} {again}"))
        assert code == 0 and "many/train.record: up to date" in out


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--shard_index=3 --num_shards=3", "--shard_index=3: expected 0 to 2"),
        ("--shard_index=0 --merge", "exclude one another"),
        ("--merge --dry_run", "exclude one another"),
        ("--shard_index=0 --verify", "exclude one another"),
    ],
)
def test_flags_of_shards_that_do_not_go_together(start, tmp_path, flags, said):
    code, _, err = finish(start(f"{TYPED['train']} {flags}"))
    assert code == 2 and said in err and len(err.splitlines()) == 1
    assert not (tmp_path / "finTfrecords").exists()
