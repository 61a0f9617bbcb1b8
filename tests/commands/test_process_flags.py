"""How main.py learns that it is one of several processes."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from absl import flags
from absl.testing import flagsaver

from efficientdet.commands import process_flags
from efficientdet.errors import UsageError
from efficientdet.links import Meeting

ADDRESS = "JAX_COORDINATOR_ADDRESS"
SLURM = {
    "SLURM_JOB_ID": "70", "SLURM_STEP_ID": "1", "SLURM_NTASKS": "2", "SLURM_PROCID": "1",
    "SLURM_STEP_NODELIST": "gpu[07-09,12],other3",
}  # fmt: skip
TWO = ("--num_processes=2", "--process_id=1")


@pytest.fixture(scope="module", autouse=True)
def defined() -> Iterator[None]:
    """The flags, for this file alone: another command's may bear the same names."""
    before = set(flags.FLAGS)
    process_flags.define_flags()
    for name, value in {"mode": "train", "train_batch_size": "64"}.items():
        if name not in before:
            flags.DEFINE_string(name, value, "As main.py's.")
    yield
    for name in set(flags.FLAGS) - before:
        delattr(flags.FLAGS, name)


def chosen(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], **environ: str
) -> Meeting | None:
    for name in (ADDRESS, "JAX_NUM_PROCESSES", "JAX_PROCESS_ID", *SLURM, "SLURM_JOB_NODELIST"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"KERAS_BACKEND": "jax"} | environ).items():
        monkeypatch.setenv(name, value)
    with flagsaver.flagsaver():
        flags.FLAGS(["main.py", *words])
        return process_flags.chosen()


@pytest.mark.parametrize(
    ("words", "environ", "meeting"),
    [
        ((), {}, None),
        ((), SLURM, None),  # tasks of one step may be trainings of their own
        (("--mode=eval",), {ADDRESS: "a:1"}, None),
        (("--coordinator=a:1", *TWO), {}, Meeting("a", 1, 2, 1, 300.0)),
        (("--coordinator=[::1]:5000", *TWO), {}, Meeting("::1", 5000, 2, 1, 300.0)),
        (("--coordinator=a:1", *TWO), {ADDRESS: "b:2"}, Meeting("a", 1, 2, 1, 300.0)),
        (
            ("--coordinator_timeout=9",),
            {ADDRESS: "b:2", "JAX_NUM_PROCESSES": "3", "JAX_PROCESS_ID": "2"},
            Meeting("b", 2, 3, 2, 9.0),
        ),
        (("--coordinator=slurm",), SLURM, Meeting("gpu07", 61440 + 491, 2, 1, 300.0)),
        (
            ("--coordinator=slurm",),
            SLURM | {"SLURM_STEP_NODELIST": "node1,node2"},
            Meeting("node1", 61440 + 491, 2, 1, 300.0),
        ),
        (("--coordinator=a:1",), SLURM, Meeting("a", 1, 2, 1, 300.0)),
        (("--coordinator=a:1", "--process_id=0"), SLURM, Meeting("a", 1, 2, 0, 300.0)),
    ],
)
def test_flags_come_before_variables_of_jax_and_those_before_slurm(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], environ: dict, meeting: Meeting | None
) -> None:
    assert chosen(monkeypatch, words, **environ) == meeting


@pytest.mark.parametrize(
    ("words", "environ", "line"),
    [
        (("--process_id=0",), {}, "--process_id goes with --coordinator=host:port, of process 0"),
        (("--num_processes=2",), {}, "--num_processes goes with --coordinator=host:port"),
        (("--mode=eval", "--coordinator=a:1"), {}, "--coordinator goes with --mode=train or"),
        (("--coordinator=a:1",), {}, "--coordinator=a:1 needs --num_processes: how many"),
        (("--coordinator=a:1", "--num_processes=2"), {}, "needs --process_id: 0 in one process"),
        (("--coordinator=a:1", "--num_processes=2", "--process_id=2"), {}, "expected 0 ... 1, as"),
        (("--coordinator=a", *TWO), {}, "--coordinator=a: expected host:port, such as gpu1:5000"),
        (("--coordinator=a:0", *TWO), {}, "expected host:port"),
        (("--coordinator=a:65536", *TWO), {}, "expected host:port"),
        (("--coordinator=a:1", "--train_batch_size=auto", *TWO), {}, "tries what fits one process"),
        (("--coordinator=slurm", *TWO), {}, "this is no task of SLURM"),
        ((), {ADDRESS: "a:1"}, "JAX_COORDINATOR_ADDRESS=a:1 needs --num_processes"),
        ((), {ADDRESS: "a:1", "JAX_NUM_PROCESSES": "x"}, "JAX_NUM_PROCESSES=x: expected a whole"),
        (
            ("--coordinator=a:1", *TWO),
            {"KERAS_BACKEND": "tensorflow"},
            "train with the JAX backend",
        ),
        ((), {ADDRESS: "a:1", "KERAS_BACKEND": ""}, "several processes train with the JAX backend"),
    ],
)
def test_what_cannot_be_is_told(
    monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], environ: dict, line: str
) -> None:
    with pytest.raises(UsageError, match=".*") as error:
        chosen(monkeypatch, words, **environ)
    assert line in str(error.value) and "\n" not in str(error.value)
    assert error.value.exit_code == 2


def test_it_is_told_before_anything_slow(root: Path, tmp_path: Path) -> None:
    for name in ("tensorflow", "keras", "jax"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} was imported')")
    done = subprocess.run(
        [
            sys.executable, str(root / "efficientdet/main.py"), "--model_dir=run",
            "--train_file_pattern=train.record", "--coordinator=a:1",
        ],
        capture_output=True, text=True, env={"PYTHONPATH": str(tmp_path), "KERAS_BACKEND": "jax"},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: --coordinator=a:1 needs --num_processes: how many there are\n"
