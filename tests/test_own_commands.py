"""The converter on folders that are not KITTI's."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.manifest import Manifest
from efficientdet.errors import UsageError, UserError

LINES = {"1": ["버스", "버스", "사람"], "2": ["버스"], "3": ["사람", "개"], "4": ["버스"], "5": []}


@pytest.fixture
def convert(tmp_path, root, monkeypatch):
    """Runs the command beside `images` and `labels` of five frames; what it leaves is checked."""
    monkeypatch.chdir(tmp_path)
    for name, kinds in LINES.items():
        for folder in ("images", "labels"):
            Path(f"mine/{folder}").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (100, 40)).save(f"mine/images/{name}.png")
        lines = "".join(f"{kind} 10 8 50 30\n" for kind in kinds)
        Path(f"mine/labels/{name}.txt").write_text(lines, encoding="utf-8")

    def run(*more: str, output: str = "own/train.record") -> None:
        words = ["--kitti_root=mine", "--image_dir=images", "--label_dir=labels", *more]
        done = subprocess.run(
            [sys.executable, root / "create_kitti_tf_record.py", f"--output_path={output}", *words],
            capture_output=True, encoding="utf-8", env=os.environ | {"PYTHONUTF8": "1"},
        )  # fmt: skip
        print(done.stdout)
        assert not [path for path in Path().rglob("*") if ".tmp" in path.name]
        if done.returncode:
            kind = {1: UserError, 2: UsageError}[done.returncode]
            raise kind(done.stderr.partition("error: ")[2].rstrip())

    return run


def test_both_records_get_the_classes_of_all_labels(convert, capsys):
    convert("--subset=validation", output="own/val.record")
    said = capsys.readouterr().out
    assert "found 3 classes: 버스 4, 사람 2, 개 1" in said
    assert "own/label_map.txt: these classes, which the next record" in said
    convert()
    assert "classes of own/label_map.txt: 1: 버스, 2: 사람, 3: 개" in capsys.readouterr().out
    train, val = (Manifest.read(f"own/{name}.record") for name in ("train", "val"))
    assert train.label_map == val.label_map == LabelMap.read("own/label_map.txt")
    assert sorted(train.source_ids + val.source_ids) == [*LINES]
    convert()
    assert "up to date" in capsys.readouterr().out


def test_chosen_classes_are_the_map_of_the_folder(convert):
    convert("--classes=사람,버스")
    assert LabelMap.read("own/label_map.txt") == LabelMap((("버스",), ("사람",)))
    convert("--classes=버스,사람", "--subset=validation", output="own/val.record")
    with pytest.raises(UserError, match="does not name 개"):
        convert("--subset=all", output="own/all.record")


def test_what_fails_or_is_dry_leaves_nothing(convert, capsys):
    convert("--dry_run")
    Path("mine/labels/1.txt").write_text("버스 0.5 0.5 0.1 0.1\n", encoding="utf-8")
    with pytest.raises(UserError, match="1 problem .*\n.*1.txt:1: this looks like YOLO's"):
        convert("--subset=all")
    assert not list(Path("own").glob("*"))
    with pytest.raises(UsageError, match="--label_map_path is missing: no class is found in"):
        convert("--subset=testing")


def test_a_map_that_names_too_little_is_one_line(convert):
    Path("map.txt").write_text("1: 버스\n2: 사랑\n", encoding="utf-8")
    with pytest.raises(UserError) as error:
        convert("--label_map_path=map.txt", "--subset=all")
    assert "\n" not in str(error.value) and str(error.value).startswith(
        "the label map does not name 사람 (2 objects, first in mine/labels/1.txt:3; is "
        "사랑 meant?) and 개 (1 object, first in"
    )
    assert not Path("own/train.record").exists()
