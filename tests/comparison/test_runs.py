"""What the folder of a run tells."""

import json
import os
import socket
from pathlib import Path

import pytest
from compared_runs import write_run

from efficientdet.comparison.runs import MOST_RUNS, StoredRun, read_runs, short_names
from efficientdet.errors import UsageError
from efficientdet.run import journal


def test_names_are_as_short_as_can_be() -> None:
    paths = [Path("/x/a/exp"), Path("/x/b/exp"), Path("/x/a/other")]
    assert short_names(paths) == ["a/exp", "b/exp", "other"]
    assert short_names([Path("/exp"), Path("/x/exp")])[1] == "x/exp"


def test_a_folder_named_twice_stands_once(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a")
    (tmp_path / "link").symlink_to(run)
    runs, notes = read_runs([str(run), f"{run}/.", str(tmp_path / "link")])
    assert [one.name for one in runs] == ["a"]
    assert len(notes) == 2 and "link was named twice, or leads to" in notes[1]


def test_a_folder_without_a_run_is_one_clear_line(tmp_path: Path) -> None:
    write_run(tmp_path / "runs/a")
    with pytest.raises(UsageError, match=r"runs: no run: .*; say --model_dir=.*/runs/a$"):
        read_runs([str(tmp_path / "runs")])
    with pytest.raises(UsageError, match="none: no such folder"):
        read_runs([str(tmp_path / "none")])
    many = [str(tmp_path / str(number)) for number in range(MOST_RUNS + 1)]
    with pytest.raises(UsageError, match=f"names {MOST_RUNS + 1} runs; a page has room for"):
        read_runs(many)


def test_where_a_run_stands(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a")
    assert StoredRun.read(folder, "a").state == "stopped in epoch 3 of 3, at step 8"
    journal.write(folder, "end", {"how": "stopped by SIGTERM"})
    assert StoredRun.read(folder, "a").state.endswith("at step 8 (stopped by SIGTERM)")
    journal.write(folder, "end", {"how": "done"})  # by --max_train_minutes, or early
    assert StoredRun.read(folder, "a").state == "finished after 2 epochs, of 3"
    lock = {"pid": os.getppid(), "host": socket.gethostname(), "since": "2026-01-02 03:04:05"}
    (folder / "train.lock").write_text(json.dumps(lock))
    assert StoredRun.read(folder, "a").state == "in training (since 2026-01-02 03:04:05), step 8"
    (folder / "train.lock").write_text(json.dumps(lock | {"host": "other"}))
    assert "in training, on other (since" in StoredRun.read(folder, "a").state
    (folder / "train.lock").write_text(json.dumps(lock | {"pid": 999999999}))  # it was killed
    assert StoredRun.read(folder, "a").state == "finished after 2 epochs, of 3"


def test_what_is_missing_or_damaged_is_noted(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", hits=None)
    (folder / "config.yaml").write_text("a: [")
    (folder / "label_map.txt").write_text("5: Car")
    (folder / "restore_report.json").write_text("{")
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "train", "st')  # it is being written
    run = StoredRun.read(folder, "a")
    told = "\n".join(run.notes)
    assert all(f"{name} cannot be read" in told for name in ("config.yaml", "label_map.txt"))
    assert "restore_report.json cannot be read" in told and "records.json is not there" in told
    assert run.step == 8 and run.config == {} and run.label_map is None
    for name in ("config.yaml", "label_map.txt", "restore_report.json", "checkpoint"):
        (folder / name).unlink()
    for path in folder.glob("model.ckpt-*"):
        path.unlink()
    run = StoredRun.read(folder, "a")
    assert run.state == "no checkpoint that tells; logged to step 8"
    assert "config.yaml is not there" in "\n".join(run.notes)


def test_evaluations_on_fewer_images_are_left_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "a", hits=None, best_metric="val_det_loss")
    lines = [(4, 100, 0.3), (8, 100, 0.2), (9, 5, 0.1)]
    with (folder / "metrics.jsonl").open("a") as file:
        for step, count, loss in lines:
            line = {"kind": "eval", "step": step, "epoch": 1, "num_images": count}
            file.write(json.dumps(line | {"val_det_loss": loss}) + "\n")
    run = StoredRun.read(folder, "a")
    assert [line["step"] for line in run.evaluations] == [4, 8]
    assert run.best["step"] == 8  # of a loss, the least
