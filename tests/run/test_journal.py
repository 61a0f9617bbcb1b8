"""How a run was started, and how that ended."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from efficientdet.config import Config
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import Stopped
from efficientdet.run import journal
from efficientdet.run.directory import RunDirectory
from efficientdet.training import train
from efficientdet.training.options import TrainOptions


@pytest.mark.parametrize(
    ("error", "how"),
    [
        (None, "done"),
        (Stopped("SIGTERM at step 7", 143), "SIGTERM at step 7"),
        (KeyboardInterrupt(), "interrupted"),
        (MemoryError(), "MemoryError"),
    ],
)
def test_a_start_and_its_end(tmp_path: Path, error: BaseException | None, how: str) -> None:
    raised = pytest.raises(type(error)) if error else nullcontext()
    with raised, journal.start(tmp_path, {"train": [Path("a.record")], "val": []}):
        if error:
            raise error
    start, end = journal.read(tmp_path)
    assert start["kind"] == "start" and start["argv"] and start["cwd"] == str(Path.cwd())
    assert start["records"] == {"train": [str(Path("a.record").resolve())], "val": []}
    assert {"efficientdet", "python", "tensorflow", "keras"} <= start["versions"].keys()
    assert (end["kind"], end["how"]) == ("end", how)


def test_the_command_is_as_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.orig_argv", ["python", "m.py", "--hparams=a=1,b=2"])
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    assert journal.this_command()["argv"] == ["python", "m.py", "--hparams=a=1,b=2"]
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert journal.this_command()["argv"][0] == "KERAS_BACKEND=jax"


def test_what_is_no_line_is_left_out(tmp_path: Path) -> None:
    assert journal.read(tmp_path) == []
    journal.write(tmp_path, "memory", {"changes": {"grad_checkpoint": True}})
    with (tmp_path / journal.FILE_NAME).open("ab") as file:
        file.write(
            b'[]\n{"kind": 1, "time": ""}\n{"kind": "start", "time": "", "argv": 7}\n\xff{"k'
        )
    (line,) = journal.read(tmp_path)
    assert line["changes"] == {"grad_checkpoint": True}


def test_training_writes_its_start_and_what_memory_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory, label_map = RunDirectory(tmp_path), LabelMap((("Car",),))
    config = Config.for_model("efficientdet-d0").override({"num_classes": 1})
    records = SimpleNamespace(files=[tmp_path / "train.record"])
    run = SimpleNamespace(
        directory=directory, records=records, validation=None, label_map=label_map,
        checkpoints=None, config=config,
    )  # fmt: skip
    changed = config.override({"grad_checkpoint": True, "grad_accum_steps": 2})

    def fit() -> None:
        train._write_down(changed, run)
        raise Stopped("enough", 1)

    def build_trainer(*args: object) -> SimpleNamespace:
        directory.write(config, label_map)
        return SimpleNamespace(fit=fit)

    monkeypatch.setattr(train, "open_run", lambda options: run)
    monkeypatch.setattr(train, "build_trainer", build_trainer)
    with pytest.raises(Stopped):
        train.train(TrainOptions(str(tmp_path), "train.record"))
    start, memory, end = journal.read(tmp_path)
    assert start["records"] == {"train": [str(records.files[0])], "val": []}
    assert memory["changes"] == {"grad_checkpoint": True, "grad_accum_steps": 2}
    assert end["how"] == "enough"
    assert directory.config(None, {}, label_map) == changed
