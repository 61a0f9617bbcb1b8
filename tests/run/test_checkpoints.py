"""Checkpoints of a run: AutoML's files, pruned, checked, and never half written."""

import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientdet.checkpoint.bundle import DATA_SUFFIX, INDEX_SUFFIX, write_bundle
from efficientdet.errors import UserError
from efficientdet.run.checkpoints import CheckpointManager, Progress, hold

PROGRESS = Progress(
    step=12, epoch=2, step_in_epoch=2, steps_per_epoch=5, data_epoch=1, data_examples=8,
    lr_factor=0.5, bad_streak=1, rollbacks=1, seconds=1.5, batch_size=4, max_seconds=60.0,
    rows=[{"loss": 0.1, "gradient_norm": float("inf")}],
)  # fmt: skip


def arrays(value: float = 1.0) -> dict[str, np.ndarray]:
    return {"stem/kernel": np.full((3, 4), value, np.float32), "stem/bias": np.arange(6.0)}


@pytest.fixture
def checkpoints(tmp_path: Path, said: list[str]) -> CheckpointManager:
    """Three checkpoints, of steps 5, 10, 15; the kernel of each holds its step."""
    checkpoints = CheckpointManager(tmp_path / "run", keep=3)
    for step in (5, 10, 15):
        checkpoints.save(arrays(step), Progress(step=step))
    return checkpoints


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@contextmanager
def full_disk(free: int = 0) -> Iterator[None]:
    """Every file that grows beyond `free` bytes is refused, as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    checkpoints = CheckpointManager(tmp_path)
    assert checkpoints.load_latest() is None
    checkpoints.save(arrays(), PROGRESS)
    loaded, progress = checkpoints.load_latest()
    assert progress == PROGRESS and progress.rows == PROGRESS.rows
    assert all(getattr(progress, f.name) != f.default for f in dataclasses.fields(Progress))
    assert loaded.pop("global_step") == 12
    assert loaded.keys() == arrays().keys()
    for name, array in arrays().items():
        np.testing.assert_array_equal(loaded[name], array)
        assert loaded[name].dtype == array.dtype


def test_the_files_are_automl_s(checkpoints: CheckpointManager) -> None:
    names = {f"model.ckpt-{s}{e}" for s in (5, 10, 15) for e in (DATA_SUFFIX, INDEX_SUFFIX)}
    assert files(checkpoints.folder) == names | {"checkpoint"}
    latest = tf.train.latest_checkpoint(str(checkpoints.folder))
    assert latest == str(checkpoints.prefix(15))
    assert tf.train.load_checkpoint(latest).get_tensor("stem/kernel")[0, 0] == 15


def test_only_the_newest_stay(tmp_path: Path) -> None:
    checkpoints = CheckpointManager(tmp_path, keep=2)
    for step in (0, 900, 1000, 20000):  # as numbers, not as names
        checkpoints.save(arrays(), Progress(step=step))
    assert checkpoints.steps() == [1000, 20000]
    assert len(files(tmp_path)) == 2 * 2 + 1
    state = tf.train.get_checkpoint_state(str(tmp_path))
    assert [Path(path).name for path in state.all_model_checkpoint_paths] == [
        "model.ckpt-1000",
        "model.ckpt-20000",
    ]


def test_what_a_kill_left_of_an_old_one_goes_with_the_next_save(tmp_path: Path) -> None:
    """Killed between the removal of an index and of its data."""
    checkpoints = CheckpointManager(tmp_path, keep=1)
    checkpoints.save(arrays(), Progress(step=5))
    Path(f"{checkpoints.prefix(5)}.index").unlink()
    checkpoints.save(arrays(), Progress(step=10))
    assert files(tmp_path) == {"checkpoint"} | {
        f"model.ckpt-10{suffix}" for suffix in (".index", DATA_SUFFIX)
    }


def test_strange_files_are_no_checkpoints(checkpoints: CheckpointManager) -> None:
    for name in (
        "model.ckpt-x.index", "model.ckpt-7.meta", f"model.ckpt-99{DATA_SUFFIX}",
        "model.ckpt-007.index", "model.ckpt-\u0667.index",
    ):  # fmt: skip
        (checkpoints.folder / name).touch()
    assert checkpoints.steps() == [5, 10, 15]


def _truncate_data(prefix: Path) -> None:
    path = Path(f"{prefix}{DATA_SUFFIX}")
    path.write_bytes(path.read_bytes()[:-7])


def _truncate_index(prefix: Path) -> None:
    path = Path(f"{prefix}{INDEX_SUFFIX}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _empty(prefix: Path) -> None:
    for suffix in (DATA_SUFFIX, INDEX_SUFFIX):
        Path(f"{prefix}{suffix}").write_bytes(b"")


def _flip(suffix: str, place: float):
    def flip(prefix: Path) -> None:
        path = Path(f"{prefix}{suffix}")
        content = bytearray(path.read_bytes())
        content[int(place * (len(content) - 1))] ^= 0x10
        path.write_bytes(content)

    return flip


DAMAGES = {
    "data cut off": _truncate_data,
    "data gone": lambda prefix: Path(f"{prefix}{DATA_SUFFIX}").unlink(),
    "index cut off": _truncate_index,
    "both empty": _empty,
    "first byte of the data": _flip(DATA_SUFFIX, 0.0),
    "a byte in the middle of the data": _flip(DATA_SUFFIX, 0.5),
    "last byte of the data": _flip(DATA_SUFFIX, 1.0),
    "first byte of the index": _flip(INDEX_SUFFIX, 0.0),
    "a byte in the middle of the index": _flip(INDEX_SUFFIX, 0.4),
    "last byte of the index": _flip(INDEX_SUFFIX, 1.0),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_one_is_passed_over(
    checkpoints: CheckpointManager, said: list[str], damage: str
) -> None:
    DAMAGES[damage](checkpoints.prefix(15))
    loaded, progress = checkpoints.load_latest()
    assert progress.step == loaded["stem/kernel"][0, 0] == 10
    (line,) = said
    assert line.startswith(f"warning: {checkpoints.prefix(15)}: not a readable checkpoint")
    assert line.endswith("; going back to the checkpoint before it") and "\n" not in line
    assert checkpoints.steps() == [5, 10]
    assert tf.train.latest_checkpoint(str(checkpoints.folder)) == str(checkpoints.prefix(10))


def test_a_damaged_one_is_renamed_and_never_overwritten(
    checkpoints: CheckpointManager, said: list[str]
) -> None:
    for value in (1, 2):
        checkpoints.save(arrays(value), Progress(step=15))
        _flip(DATA_SUFFIX, 0.5)(checkpoints.prefix(15))
        checkpoints.load_latest()
    for suffix in (INDEX_SUFFIX, DATA_SUFFIX):
        for number in ("", "1"):
            assert Path(f"{checkpoints.prefix(15)}{suffix}.damaged{number}").stat().st_size
    assert checkpoints.load_latest()[1].step == 10
    assert len(said) == 2


def _fail(error: Exception, place: str, patch: pytest.MonkeyPatch, times: int) -> None:
    """The next `times` openings of a checkpoint, or readings of a tensor, raise `error`."""
    left = iter([error] * times)
    original = tf.train.load_checkpoint

    class Reader:
        def __init__(self, reader):
            self.get_variable_to_shape_map = reader.get_variable_to_shape_map
            self._reader = reader

        def get_tensor(self, name: str) -> np.ndarray:
            if place == "tensor" and (failure := next(left, None)):
                raise failure
            return self._reader.get_tensor(name)

    def load(prefix: str) -> Reader:
        if place == "open" and (failure := next(left, None)):
            raise failure
        return Reader(original(prefix))

    patch.setattr(tf.train, "load_checkpoint", load)


PASSING = {
    "unavailable": tf.errors.UnavailableError(None, None, "connection reset"),
    "as TensorFlow tells it": tf.errors.OpError(
        None, None,
        "Unable to read file (x.index). Perhaps the file is corrupt or was produced by a newer "
        "version of TensorFlow with format changes (failed to seek to header entry): x.index; "
        "Input/output error", tf.errors.UNKNOWN,
    ),
    "stale": OSError(116, "Stale file handle"),
    "no memory": tf.errors.ResourceExhaustedError(None, None, "out of memory"),
}  # fmt: skip


@pytest.mark.parametrize("place", ["open", "tensor"])
@pytest.mark.parametrize("error", PASSING)
def test_a_passing_read_error_stops_and_changes_nothing(
    checkpoints: CheckpointManager,
    said: list[str],
    monkeypatch: pytest.MonkeyPatch,
    error: str,
    place: str,
) -> None:
    before = files(checkpoints.folder)
    _fail(PASSING[error], place, monkeypatch, times=2)
    for _ in range(2):
        with pytest.raises(UserError) as caught:
            checkpoints.load_latest()
        line = str(caught.value)
        assert line.startswith(f"{checkpoints.prefix(15)}: not a readable checkpoint")
        assert "everything stays as it is" in line and "\n" not in line
    assert files(checkpoints.folder) == before and not said
    assert checkpoints.load_latest()[1].step == 15


def test_a_file_that_cannot_be_read_is_not_called_damaged(
    checkpoints: CheckpointManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorFlow speaks of data loss also where it could not open the file."""
    path = Path(f"{checkpoints.prefix(15)}{DATA_SUFFIX}")
    path.unlink()
    path.symlink_to(path.name)  # cannot be opened, by nobody
    error = tf.errors.DataLossError(None, None, "Unable to open table file")
    _fail(error, "open", monkeypatch, times=1)
    with pytest.raises(UserError, match="everything stays as it is"):
        checkpoints.load_latest()
    assert checkpoints.steps() == [5, 10, 15]


def test_when_all_are_damaged_it_does_not_start_anew(checkpoints: CheckpointManager) -> None:
    for step in checkpoints.steps():
        _truncate_data(checkpoints.prefix(step))
    with pytest.raises(UserError, match="none of its 3 checkpoints is readable"):
        checkpoints.load_latest()
    assert len(checkpoints.steps()) == 3  # left for who wants to rescue something


def test_a_foreign_checkpoint_is_not_gone_on_from(tmp_path: Path) -> None:
    write_bundle(tmp_path / "model.ckpt-7", arrays())
    with pytest.raises(UserError, match="model.ckpt-7 was not written by this program.*--ckpt"):
        CheckpointManager(tmp_path).load_latest()
    assert CheckpointManager(tmp_path).steps() == [7]


@pytest.mark.parametrize("free", [0, 60, 400])
def test_a_full_disk_leaves_the_checkpoint_before(
    checkpoints: CheckpointManager, free: int
) -> None:
    before = files(checkpoints.folder)
    with full_disk(free), pytest.raises(UserError) as caught:
        checkpoints.save({"big": np.ones(10_000)}, Progress(step=20))
    assert str(caught.value).startswith(f"{checkpoints.prefix(20)}: cannot write the checkpoint")
    assert "File too large" in str(caught.value) and "\n" not in str(caught.value)
    assert "{{" not in str(caught.value)
    assert files(checkpoints.folder) == before
    assert checkpoints.load_latest()[1].step == 15


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file")
    with pytest.raises(UserError, match="model.ckpt-1: cannot write the checkpoint"):
        CheckpointManager(tmp_path / "run").save(arrays(), Progress(step=1))


@pytest.mark.parametrize("renamed", [0, 1])
def test_an_interrupted_write_leaves_nothing_under_the_final_name(
    checkpoints: CheckpointManager, monkeypatch: pytest.MonkeyPatch, renamed: int
) -> None:
    """Interrupted before the first rename (of the data), or between it and the index's."""
    rename, calls = Path.replace, []

    def interrupted(self: Path, target: str) -> Path:
        calls.append(target)
        if len(calls) > renamed:
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", interrupted)
        checkpoints.save(arrays(20), Progress(step=20))
    assert checkpoints.steps() == [5, 10, 15]
    assert not any(name.endswith(".tmp") for name in files(checkpoints.folder))
    assert checkpoints.load_latest()[1].step == 15
    checkpoints.save(arrays(20), Progress(step=20))
    assert checkpoints.load_latest()[1].step == 20


def test_kill_9_while_writing(tmp_path: Path) -> None:
    """What the killed process left behind is cleaned up at the next start."""
    checkpoints = CheckpointManager(tmp_path)
    checkpoints.save(arrays(), Progress(step=5))
    left = tmp_path / f".model.ckpt-10.{os.getpid()}.tmp"
    left.mkdir()
    (left / f"bundle{DATA_SUFFIX}").write_bytes(b"half")
    assert checkpoints.load_latest()[1].step == 5
    assert not left.exists()


def test_saved_again_at_the_same_step_the_newer_one_counts(checkpoints: CheckpointManager) -> None:
    checkpoints.save(arrays(99), Progress(step=15, rollbacks=2))
    loaded, progress = checkpoints.load_latest()
    assert loaded["stem/kernel"][0, 0] == 99 and progress.rollbacks == 2
    assert checkpoints.steps() == [5, 10, 15]


def archive_step(checkpoints: CheckpointManager, step: int, *how: Any) -> None:
    with hold(checkpoints.prefix(step)) as checkpoint:
        checkpoints.archive(checkpoint, *how)


def test_what_is_held_can_be_archived_after_it_was_dropped(checkpoints: CheckpointManager) -> None:
    """An evaluation takes minutes, and training keeps only so many checkpoints."""
    checkpoints.save(arrays(20), dataclasses.replace(PROGRESS, step=20))
    with hold(checkpoints.prefix(20)) as checkpoint:
        assert (checkpoint.step, checkpoint.epoch) == (20, 2.4)
        for step in range(25, 45, 5):
            checkpoints.save(arrays(step), Progress(step=step))
        assert 20 not in checkpoints.steps()
        checkpoints.archive(checkpoint, "AP", 0.25, {})
    archived = tf.train.load_checkpoint(str(checkpoints.folder / "archive" / "model.ckpt-20"))
    assert archived.get_tensor("stem/kernel")[0, 0] == 20


def test_what_is_gone_or_of_another_program(checkpoints: CheckpointManager) -> None:
    with (
        pytest.raises(UserError, match="model.ckpt-99.*No such file"),
        hold(checkpoints.prefix(99)),
    ):
        pass
    write_bundle(checkpoints.folder / "model.ckpt-7", {"global_step": np.int64(7)})
    with hold(checkpoints.folder / "model.ckpt-7") as checkpoint:
        assert (checkpoint.step, checkpoint.epoch) == (7, None)


def test_the_best_stays_in_the_archive(checkpoints: CheckpointManager) -> None:
    archive, report = checkpoints.folder / "archive", checkpoints.folder / "report.html"
    report.write_text("of step 15")
    archive_step(checkpoints, 10, "AP", 0.25, {"AP": 0.25, "AP50": 0.5})
    (archive / f".model.ckpt-12{DATA_SUFFIX}.999999999.tmp").write_bytes(
        b"half"
    )  # killed meanwhile
    archive_step(checkpoints, 15, "AP", 0.31, {"AP": 0.31, "AP50": 0.6}, [report])
    assert files(archive) == {
        "checkpoint", f"model.ckpt-15{DATA_SUFFIX}", f"model.ckpt-15{INDEX_SUFFIX}",
        "best_objective.txt", "best_eval.txt", "report.html",
    }  # fmt: skip
    assert (archive / "report.html").read_text() == "of step 15"
    assert float((archive / "best_objective.txt").read_text()) == 0.31
    best = json.loads((archive / "best_eval.txt").read_text())
    assert best == {"best_metric": "AP", "step": 15, "AP": 0.31, "AP50": 0.6}
    for step in range(20, 40, 5):
        checkpoints.save(arrays(step), Progress(step=step))
    assert 15 not in checkpoints.steps()
    latest = tf.train.latest_checkpoint(str(archive))
    assert tf.train.load_checkpoint(latest).get_tensor("stem/kernel")[0, 0] == 15


def test_a_full_disk_leaves_the_archive_as_it_was(checkpoints: CheckpointManager) -> None:
    archive_step(checkpoints, 10, "AP", 0.25, {})
    before = files(checkpoints.folder / "archive")
    with full_disk(), pytest.raises(OSError):
        archive_step(checkpoints, 15, "AP", 0.31, {})
    assert files(checkpoints.folder / "archive") == before


@settings(deadline=None)
@given(
    st.integers(1, 500), st.integers(1, 500), st.integers(0, 9), st.floats(min_value=0, max_value=1)
)
def test_a_changed_epoch_keeps_the_place(old: int, new: int, epoch: int, share: float) -> None:
    done = round(share * old)
    progress = Progress(
        step=epoch * old + done, epoch=epoch, step_in_epoch=done, steps_per_epoch=old
    )
    moved = progress.rescaled(new)
    assert (moved.step, moved.epoch, moved.steps_per_epoch) == (progress.step, epoch, new)
    assert 0 <= moved.step_in_epoch <= new
    assert abs(moved.step_in_epoch / new - done / old) <= 0.5 / new + 1e-9
    assert progress.rescaled(old) == progress
    assert progress.schedule_step == progress.step


def test_a_process_killed_at_any_moment_leaves_a_readable_checkpoint(tmp_path: Path) -> None:
    """Saves as fast as it can until it is killed; what it said it saved is there."""
    code = (
        "import sys, numpy as np\n"
        "from efficientdet.run.checkpoints import CheckpointManager, Progress\n"
        f"checkpoints = CheckpointManager({str(tmp_path)!r}, keep=2)\n"
        "for step in range(10**6):\n"
        "    checkpoints.save({'a': np.full(50_000, float(step))}, Progress(step=step))\n"
        "    print(step, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        said = [int(process.stdout.readline()) for _ in range(25)]
        process.send_signal(signal.SIGKILL)
        said += [int(line) for line in process.stdout if line.endswith("\n")]
    loaded, progress = CheckpointManager(tmp_path).load_latest()
    assert progress.step in (said[-1], said[-1] + 1)
    assert (loaded["a"] == progress.step).all()


@pytest.mark.parametrize(
    "text",
    [
        "", "5", "[]", "null", "[" * 9999, '{"step": "5"}', '{"step": -1}', '{"step": 2.5}',
        '{"step": true}', '{"step": ' + "9" * 400 + "}", '{"epoch": null}', '{"unheard_of": 1}',
        '{"steps_per_epoch": 0}', '{"seconds": NaN}', '{"lr_factor": []}', '{"rows": {}}',
        '{"rows": [5]}', '{"rows": [{"loss": "high"}]}', '{"step": 1',
    ],
)  # fmt: skip
def test_a_strange_progress_is_one_line(tmp_path: Path, text: str) -> None:
    """Whoever wrote it: its checksum is right."""
    prefix = tmp_path / "model.ckpt-5"
    write_bundle(prefix, {"weight": np.array(1.0), "state/progress": np.array(text.encode())})
    checkpoints = CheckpointManager(tmp_path)
    for read in (
        checkpoints.load_latest, checkpoints.newest_batch_size, lambda: hold(prefix).__enter__()
    ):  # fmt: skip
        with pytest.raises(UserError, match="model.ckpt-5: does not tell where the run was") as why:
            read()
        assert "\n" not in str(why.value) and len(str(why.value)) < 300
    assert checkpoints.steps() == [5]


def test_the_batch_of_the_newest_is_read_without_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = CheckpointManager(tmp_path)
    assert checkpoints.newest_batch_size() is None
    checkpoints.save(arrays(), Progress(step=5, batch_size=4))
    checkpoints.save(arrays(), Progress(step=10, batch_size=8))
    with monkeypatch.context() as patch:
        patch.setattr("efficientdet.run.checkpoints.read_bundle", pytest.fail)
        assert checkpoints.newest_batch_size() == 8
    _truncate_index(checkpoints.prefix(10))
    assert checkpoints.newest_batch_size() == 4
