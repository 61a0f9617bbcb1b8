"""Score thresholds belong to a checkpoint, and only that one is drawn with them."""

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from efficientdet.checkpoint.bundle import write_bundle
from efficientdet.checkpoint.identity import identify
from efficientdet.errors import UserError
from efficientdet.run.checkpoints import CheckpointManager, Progress, hold
from efficientdet.run.thresholds import Thresholds, thresholds_of


def make_run(folder: Path, weight: float = 0.0) -> CheckpointManager:
    """Checkpoints of steps 5 and 10; step 5 is archived with thresholds of 0.5, as the best."""
    checkpoints = CheckpointManager(folder)
    for step in (5, 10):
        checkpoints.save({"weight": np.array(weight + step)}, Progress(step=step))
    file = folder / "eval" / "thresholds.json"
    Thresholds({"Car": 0.5}, identify(checkpoints.prefix(5))).write(file)
    with hold(checkpoints.prefix(5)) as checkpoint:
        checkpoints.archive(checkpoint, "AP", 0.3, {}, [file])
    Thresholds({"Car": 0.6}, identify(checkpoints.prefix(10))).write(file)
    return checkpoints


def test_they_name_checkpoint_and_step(tmp_path: Path) -> None:
    make_run(tmp_path)
    content = json.loads((tmp_path / "eval" / "thresholds.json").read_text())
    assert content["checkpoint"] == str(tmp_path / "model.ckpt-10") and content["step"] == 10
    assert content["thresholds"] == {"Car": 0.6}


@pytest.mark.parametrize(
    ("path", "threshold", "source"),
    [
        ("run/model.ckpt-10", 0.6, "run/eval/thresholds.json"),
        ("run/model.ckpt-5", 0.5, "run/archive/thresholds.json"),  # the same as in the archive
        ("run/archive", 0.5, "run/archive/thresholds.json"),
        ("other/model.ckpt-10", 0.6, "other/eval/thresholds.json"),  # the same step, other weights
    ],
)
def test_each_checkpoint_has_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, threshold: float, source: str
) -> None:
    monkeypatch.chdir(tmp_path)
    make_run(Path("run"))
    make_run(Path("other"), weight=1.0)
    scores, line = thresholds_of(path, Path("run"))
    assert scores == {"Car": threshold}
    assert line.startswith("score thresholds: best F1 of ") and line.endswith(f", from {source}")


def test_those_of_another_checkpoint_are_not_taken(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    run.save({"weight": np.array(15.0)}, Progress(step=15))
    prefix = run.prefix(15)
    scores, line = thresholds_of(prefix, run.folder)
    assert not scores and f"0.3, for want of an evaluation of {prefix} (step 15)" in line
    assert line.endswith("model.ckpt-10 (step 10)") and "\n" not in line
    # The same name and step in another folder is another checkpoint.
    other = CheckpointManager(tmp_path / "other")
    other.save({"weight": np.array(1.0)}, Progress(step=10))
    assert thresholds_of(other.prefix(10), run.folder)[0] == {}


def test_a_moved_run_keeps_its_thresholds(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    shutil.move(tmp_path / "run", tmp_path / "moved")
    assert thresholds_of(tmp_path / "moved/model.ckpt-10", tmp_path / "moved")[0] == {"Car": 0.6}


def test_older_files_are_read_and_said_to_be_unknown(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    for folder in ("eval", "archive"):
        (tmp_path / folder / "thresholds.json").write_text('{"Car": 0.7}')
    scores, line = thresholds_of(run.prefix(10), tmp_path)
    assert scores == {"Car": 0.7} and "which does not say whose it is" in line
    scores, line = thresholds_of(tmp_path / "archive", tmp_path)
    assert not scores and "is of an unnamed checkpoint" in line


def test_where_nothing_was_evaluated(tmp_path: Path) -> None:
    prefix = tmp_path / "efficientdet-d0" / "model"
    prefix.parent.mkdir()
    write_bundle(prefix, {"weight": np.array(1.0), "global_step": np.int64(7)})
    assert thresholds_of(prefix, tmp_path / "run") == (
        {}, f"score thresholds: 0.3, for want of an evaluation of {prefix} (step 7)"
    )  # fmt: skip
    archive = tmp_path / "d0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(prefix.parent, "efficientdet-d0")
    assert identify(archive).step is None and str(identify(archive)) == str(archive)
    with pytest.raises(UserError, match="no such file"):
        identify(tmp_path / "nothing")


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", '{"thresholds": {}}', '{"Car": "high"}', "{", "5", "null", "[" * 9999, "\0",
        '{"Car": NaN}', '{"Car": 1e999}', '{"Car": null}', '{"Car": ' + "9" * 400 + "}",
        '{"thresholds": {"Car": "high"}, "checkpoint": "x", "step": 1, "digest": "y"}',
        '{"thresholds": {"Car": [1]}, "checkpoint": "x", "step": 1, "digest": "y"}',
    ],
)  # fmt: skip
def test_a_file_of_another_kind_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "thresholds.json").write_text(text)
    with pytest.raises(UserError, match=r"thresholds.json: not the thresholds of an evaluation"):
        Thresholds.read(tmp_path / "thresholds.json")
