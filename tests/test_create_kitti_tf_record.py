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
