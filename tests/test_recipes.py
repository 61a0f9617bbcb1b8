"""benchmarks/recipes.py: arms go on where they were, and what is finished is scored and drawn."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import CAR, REGION, WALKER

from efficientdet.dataset.convert import convert
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.options import Options
from efficientdet.dataset.selection import select_frames

# Runs main() on each [what main.py shall do, flags] of argv[1]; main.py itself only leaves behind
# what a training does, or fails. Prints for each: arms that were trained, last line or error.
DRIVER = """
import contextlib, io, json, os, sys
from pathlib import Path
from types import SimpleNamespace
from benchmarks import recipes
import numpy as np
from absl import flags
from absl.testing import flagsaver
from efficientdet.errors import UserError
from efficientdet.run.checkpoints import CheckpointManager, Progress
from efficientdet.run.metrics_log import MetricsLog

def popen(words, *, stdout, stderr, env, pass_fds):
    assert "CUDA_VISIBLE_DEVICES" not in env and os.environ["CUDA_VISIBLE_DEVICES"] == "-1"
    said = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
    folder = Path(said["model_dir"])
    trained.append(folder.name)
    print("0.1 M parameters, float32 on cpu (tensorflow)", file=stdout)
    CheckpointManager(folder).save({"w": np.zeros(1)}, Progress(4, 2, seconds=90.0))
    if fails:
        return SimpleNamespace(wait=lambda: 1)
    scores = {"AP50": 0.5, "kitti/Car_moderate_R40": None}
    MetricsLog(folder / "metrics.jsonl").append("eval", 4, 2.0, scores)
    (folder / "eval/results").mkdir(parents=True, exist_ok=True)
    for name, line in json.loads(os.environ["FOUND"]).items():
        line = "" if folder.name == "random" else line
        (folder / "eval/results" / f"{name}.txt").write_text(line)
    (folder / "eval/thresholds.json").write_text('{"Car": 0.5}')
    return SimpleNamespace(wait=lambda: 0)

recipes.subprocess = SimpleNamespace(Popen=popen)
ends = []
for fails, words in json.loads(sys.argv[1]):
    trained = []
    out = io.StringIO()
    with flagsaver.flagsaver(), contextlib.redirect_stdout(out):
        flags.FLAGS(["recipes.py", *words])
        try:
            recipes.main()
            end = out.getvalue().splitlines()[-1]
        except UserError as error:
            end = str(error)
    ends.append([trained, end])
print(json.dumps(ends))
"""
LABELS = {"000000": [CAR, REGION], "000001": [WALKER, CAR], "000002": [CAR]}


@pytest.fixture
def run(make_kitti, root: Path, tmp_path: Path):
    """Runs recipes.py several times: what was trained each time, and its last line."""
    record, options = tmp_path / "some.record", Options(subset="all")
    kitti = make_kitti(LABELS)
    convert(select_frames(kitti, options), record, LabelMap.kitti(), options)
    found = {
        name: "".join(f"{line} 0.9\n" for line in lines if line != REGION)
        for name, lines in LABELS.items()
    }
    common = [f"--train_file_pattern={record}", f"--val_file_pattern={record}"]
    common += [f"--work_dir={tmp_path / 'work'}", "--small=96x32", "--images=8", "--eval_images=4"]
    environment = {**os.environ, "FOUND": json.dumps(found)}
    environment.pop("CUDA_VISIBLE_DEVICES", None)

    def run(*starts: tuple[bool, list[str]]) -> list[tuple[list[str], str]]:
        words = [(fails, [*common, "--train_batch_size=2", *more]) for fails, more in starts]
        done = subprocess.run(
            [sys.executable, "-c", DRIVER, json.dumps(words)],
            cwd=root, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        assert not done.returncode, done.stderr
        return [tuple(end) for end in json.loads(done.stdout.splitlines()[-1])]

    return run


def test_arms_go_on_where_they_were(run, tmp_path: Path):
    work = tmp_path / "work"
    failed, first, second, third, _, _, changed, unknown = run(
        (True, ["--arms=imagenet"]),
        (False, ["--arms=imagenet"]),
        (False, ["--arms=random,imagenet"]),
        (False, ["--arms=random"]),
        (True, ["--arms=ignore"]),
        (True, ["--arms=long", "--large=96x32"]),
        (False, ["--arms=ignore", "--train_batch_size=4"]),
        (False, ["--arms=imagenett"]),
    )
    log = work / "imagenet/train.log"
    assert failed == (["imagenet"], f"imagenet: main.py ended with code 1; its output: {log}")
    assert first[0] == ["imagenet"] and second[0] == ["random"] and third[0] == []
    assert third[1] == f"written to {work}: recipes.md, curves.png, before_after_*.png"
    assert unknown[1].startswith("--arms=imagenett: expected some of imagenet, resolution, long")
    table = (work / "recipes.md").read_text().splitlines()
    row = next(line for line in table if "random weights" in line).split("|")[1:4]
    assert [cell.strip() for cell in row[1:]] == ["8", "2"]
    assert "| start | +" in next(line for line in table if line.startswith("| start"))
    assert "batch 2" in table[-1].lower() and "cpu (tensorflow)" in table[-1]
    assert {path.name for path in work.glob("*.png")} == {"curves.png", "before_after_start.png"}
    assert changed[0] == [] and changed[1].startswith(f"{work}/ignore/arm.yaml: this arm was begun")
    begun = yaml.safe_load((work / "random/arm.yaml").read_text())
    whole = yaml.safe_load((work / "imagenet/arm.yaml").read_text())
    assert begun["backbone_ckpt"] is None and whole["backbone_ckpt"] == "imagenet"
    assert begun["hparams"] == whole["hparams"] and whole["hparams"]["num_epochs"] == 2
    less = yaml.safe_load((work / "ignore/arm.yaml").read_text())["hparams"]
    assert (less["jitter_min"], less["jitter_max"], less["crop_prob"]) == (0.1, 2.0, 0.0)
    assert less["anchor_scale"] == whole["hparams"]["anchor_scale"]
    long = yaml.safe_load((work / "long/arm.yaml").read_text())["hparams"]
    assert (long["anchor_scale"], long["jitter_max"]) == (3.0, whole["hparams"]["jitter_max"])
