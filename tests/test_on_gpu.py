"""benchmarks.on_gpu, rehearsed where TensorFlow cannot be imported; its rows, jobs and frames."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.gpu import effdet, frames, jobs, step_program
from benchmarks.gpu.device_limit import limit_environment, limit_step
from benchmarks.gpu.results import Found, Results, markdown
from benchmarks.gpu.settings import Settings
from efficientdet import backend
from efficientdet.config import Config
from efficientdet.dataset.convert import convert
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.options import Options
from efficientdet.dataset.selection import select_frames
from efficientdet.errors import UsageError
from efficientdet.training import memory

PARTS = ("step", "memory", "postprocess", "training")
CONFIG = Config.for_model("efficientdet-d0").override({"image_size": "128x64"})


@pytest.fixture
def record(make_kitti: Callable[..., Path], tmp_path: Path) -> Path:
    """Four frames."""
    path, options = tmp_path / "all.record", Options(subset="all")
    convert(select_frames(make_kitti(), options), path, LabelMap.kitti(), options)
    return path


@pytest.fixture
def carried(record: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The pattern of its frames in two parts."""
    monkeypatch.setattr(memory, "estimate", lambda config: memory.Memory(100, 20, 3))
    mb = 2 * 128 * 64 * 3 / 1e6
    paths = frames.prepare(tmp_path / "frames.npz", str(record), 4, mb, [CONFIG])
    assert [path.name for path in paths] == ["frames-0.npz", "frames-1.npz"]
    return str(tmp_path / "frames-*.npz")


def run(root: Path, *flags: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.on_gpu", *flags],
        cwd=root, capture_output=True, text=True, env=os.environ | environment, check=False,
    )  # fmt: skip


def test_it_is_rehearsed_without_tensorflow(root: Path, tmp_path: Path, carried: str) -> None:
    away = tmp_path / "away"
    away.mkdir()
    (away / "tensorflow.py").write_text("raise ModuleNotFoundError('not installed here')")
    done = run(
        root, "--rehearse", f"--only={','.join(PARTS)}", f"--frames={carried}",
        f"--out={tmp_path / 'out'}", "--minutes=20", "--job_minutes=8", PYTHONPATH=str(away),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out/figures.json").read_text())["rows"]
    assert {row["part"] for row in rows} == set(PARTS)
    assert [row for row in rows if row["error"]] == []
    assert all(row["device"] == "cpu" and row["backend"].startswith("JAX") for row in rows)
    found = {name: value for row in rows for name, value in row["figures"].items()}
    assert found["share of roofline"] > 0 and found["GB measured"] > 0 and found["img/s"] > 0
    assert found["frames"] == "3" and found["steps not finite"] == "0"
    assert "| share of roofline |" in (tmp_path / "out/figures.md").read_text()


def test_frames_come_back_as_the_pipeline_made_them(carried: str) -> None:
    found = frames.load(carried)
    assert found["images"].shape == (4, 64, 128, 3) and found["images"].dtype == np.uint8
    assert found["num_classes"] == 8 and frames.size_of(carried) == "128x64"
    assert found["shown"].tolist() == [[51, 128]] * 4
    first = found["classes"][0]  # a car, a van; what is not to be learnt comes last
    assert first[first > 0].tolist() == [1, 2]
    np.testing.assert_allclose(found["boxes"][0, 0], [10.2, 12.8, 38.25, 64], atol=0.3)


def test_the_estimate_is_of_the_same_configuration(carried: str) -> None:
    known = CONFIG.override({"num_classes": 8, "mixed_precision": True})
    assert frames.estimate_of(carried, known, 4) == 100 + 20 + 4 * 3
    other = known.override({"image_size": "256x64"})
    assert frames.estimate_of(carried, other, 4) is frames.estimate_of(None, known, 4) is None


def test_frames_that_are_not_there_are_told(root: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file; make them by --prepare"):
        frames.load(str(tmp_path / "none-*.npz"))
    for flags, line in (
        (["--frames=none-*.npz"], "--frames=none-*.npz: no such file"),
        (["--only=step,fast"], "--only=fast: no such part; there are step, effdet"),
        (["--batches=4,x"], "--batches=4,x: expected numbers"),
        (["--models=d9"], "'d9'"),
        (["--prepare=frames.npz"], "--prepare needs --train_file_pattern"),
        (["--faster"], "Unknown command line flag 'faster'"),
    ):
        done = run(root, f"--out={tmp_path}", *flags)
        assert done.returncode == 2 and line in done.stderr, flags
        assert done.stderr.count("\n") == 1, done.stderr


def test_what_is_no_part_and_no_result_is_told(tmp_path: Path) -> None:
    (tmp_path / "frames-0.npz").write_bytes(b"PK\x03\x04 cut off")
    np.savez(tmp_path / "other-0.npz", images=np.zeros(3))
    for name in ("frames", "other"):
        with pytest.raises(UsageError, match=f"{name}-0.npz is no part that --prepare wrote"):
            frames.load(str(tmp_path / f"{name}-*.npz"))
    (tmp_path / "figures.json").write_text("[]")
    with pytest.raises(UsageError, match="not what this command writes; say another --out"):
        Results(tmp_path, "command", ["step"])


def settings(part: str, **more: object) -> Settings:
    return Settings(part, "efficientdet-d0", "image_size=64", [1], **more)


def test_a_job_that_fails_is_a_row_and_the_others_go_on(root: Path, tmp_path: Path) -> None:
    rows: list[Found] = []
    environment = os.environ | {"PYTHONPATH": str(root)}
    todo = [(settings("no_such_part"), environment), (settings("other"), environment)]
    now = time.monotonic()
    jobs.run(todo, rows.append, logs=tmp_path, at_once=2, until=now + 99, job_seconds=99)
    assert [row.part for row in rows] == ["no_such_part", "other"]
    assert "exit code 1: ModuleNotFoundError: No module named" in rows[0].error
    assert "\n" not in rows[0].error


def test_what_takes_too_long_is_ended(root: Path, tmp_path: Path) -> None:
    rows: list[Found] = []
    todo = [(settings("step"), os.environ | {"PYTHONPATH": str(root)})]
    now = time.monotonic()
    jobs.run(todo, rows.append, logs=tmp_path, at_once=1, until=now + 99, job_seconds=0.2)
    jobs.run(todo, rows.append, logs=tmp_path, at_once=1, until=now, job_seconds=99)
    assert [row.error for row in rows] == [
        "stopped: its time was over", "not begun: --minutes were over",
    ]  # fmt: skip


def test_effdet_is_left_out_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(effdet, "NEEDED", ("no_torch", "no_timm"))
    (row,) = effdet.rows(settings("effdet"), lambda: None)
    assert row.error == "left out: not installed: no_torch, no_timm" and not row.figures
    monkeypatch.setattr(effdet, "NEEDED", ())
    (row,) = effdet.rows(settings("effdet"), lambda: None)
    assert row.error == "left out: effdet wants sides in multiples of 128"


def test_rows_are_written_one_by_one_and_done_again_by_part(tmp_path: Path) -> None:
    results = Results(tmp_path, "first", ["step", "oom"])
    results.add(Found("step", "d0 | 4", "H", "JAX", "bfloat16", {"img/s": 1234.5, "ms": 3.2449}))
    results.add(Found("oom", "d0", error="it fits"))
    again = Results(tmp_path, "second", ["oom"])
    again.add(Found("step", "d2", figures={"img/s": 9.0}))
    lines = (tmp_path / "figures.md").read_text().splitlines()
    assert lines[2:6] == [
        "| step | device, backend, dtype | img/s | ms |",
        "| --- | --- | ---: | ---: |",
        "| d0 / 4 | H, JAX, bfloat16 | 1234 | 3.24 |",
        "| d2 |  | 9 |  |",
    ]
    assert not any("oom" in line for line in lines)
    assert "| error |" in "\n".join(markdown([Found("oom", "d0", error="it fits")]))


def test_a_made_up_batch_has_boxes_inside_the_image() -> None:
    batch = step_program.made_up_batch(CONFIG, 3, np.float16)
    assert batch["images"].shape == (3, 64, 128, 3) and batch["images"].dtype == np.float16
    boxes = batch["boxes"][batch["classes"] > 0]
    assert len(boxes) == 3 * step_program.OBJECTS
    assert (boxes[:, 2:] > boxes[:, :2]).all() and (boxes <= [64, 128, 64, 128]).all()


def test_the_time_of_a_call_leaves_the_first_out() -> None:
    asked: list[int] = []

    def timed(times: int) -> float:
        asked.append(times)
        return times * 0.5 + (60 if len(asked) == 1 else 0)

    assert step_program.mean_seconds(timed, 3.0) == pytest.approx(0.5)
    assert asked == [1, 2, 6]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_allocation_fails_while_a_limited_step_is_dispatched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def step(batch: dict, gigabytes: float) -> np.ndarray:
        return np.empty(int(gigabytes * 1e9), np.uint8)

    step.log_names = ("loss",)
    engine = SimpleNamespace(step=step)
    monkeypatch.setattr(backend, "has_gpu", lambda: False)
    monkeypatch.setattr(backend, "fetch", lambda logs: logs)
    limit_step(engine, 0.5, beyond=2)
    three, two = {"images": range(3)}, {"images": range(2)}
    assert engine.step(three, gigabytes=0.1).size == 1e8 and engine.step.log_names == ("loss",)
    with pytest.raises(MemoryError):
        engine.step(three, gigabytes=1.0)
    assert engine.step(two, gigabytes=1.0).size == 1e9
    monkeypatch.setattr(backend, "has_gpu", lambda: True)
    free = SimpleNamespace(step=step)
    limit_step(free, 0.5)
    assert free.step is step


def test_a_card_gives_no_more_than_the_limit() -> None:
    assert limit_environment(4.0, 16.0)["XLA_CLIENT_MEM_FRACTION"] == "0.2500"
    assert limit_environment(4.0, 2.0)["XLA_CLIENT_MEM_FRACTION"] == "1.0000"
    assert limit_environment(4.0, None) == {}
