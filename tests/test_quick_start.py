"""--help and a wrong command line are answered before TensorFlow and its like are imported."""

import contextlib
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from efficientdet.console import console

ROOT = Path(__file__).parents[1]
SLOW = {
    "tensorflow", "keras", "jax", "matplotlib", "PIL", "pycocotools", "tensorboard", "h5py",
    "scipy", "jinja2", "efficientdet.commands.quiet_tensorflow",  # which hides what it imports
}  # fmt: skip


def _commands() -> list[str]:
    """Every file that is run, as a path below the root."""
    folders = (ROOT, ROOT / "efficientdet", ROOT / "efficientdet" / "commands", ROOT / "benchmarks")
    return [
        str(path.relative_to(ROOT))
        for folder in folders
        for path in sorted(folder.glob("*.py"))
        if 'if __name__ == "__main__":' in path.read_text(encoding="utf-8")
    ]


COMMANDS = _commands()
NOT_THERE = "nowhere/no.record"
# Input files that are missing. A command that reads files belongs here.
MISSING = {
    "create_kitti_tf_record.py": [
        "--kitti_root=nowhere", "--output_path=out.record",
        f"--label_map_path={ROOT / 'label_map.txt'}",
    ],
    "inspect_tfrecord.py": [f"--input={NOT_THERE}"],
    "efficientdet/main.py": [f"--train_file_pattern={NOT_THERE}", "--model_dir=run"],
    "efficientdet/predict.py": ["--model_dir=run", "--images=nowhere/*.png"],
    "efficientdet/commands/kitti_eval.py": ["--labels=nowhere", "--results=nowhere"],
    "efficientdet/commands/preview.py": [f"--input={NOT_THERE}"],
    "benchmarks/__main__.py": ["--kitti_root=nowhere"],
    "benchmarks/recipes.py": [
        f"--train_file_pattern={NOT_THERE}", f"--val_file_pattern={NOT_THERE}", "--work_dir=run",
    ],
}  # fmt: skip


def _run(command: str, *words: str, cwd: Path) -> tuple[int, str, set[str]]:
    """Exit code, what it says, and the slow packages that it imported."""
    path = Path(command)
    is_module = path.parent.name in ("commands", "benchmarks")
    what = ["-m", ".".join(path.with_suffix("").parts)] if is_module else [str(ROOT / path)]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *what, *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
        check=False,
    )
    lines = done.stderr.splitlines()
    imported = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time")}
    said = [line for line in lines if not line.startswith("import time")]
    return done.returncode, done.stdout + "\n".join(said), imported & SLOW


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_quick(command, tmp_path):
    code, text, slow = _run(command, "--help", cwd=tmp_path)
    assert code == 0 and "--" in text
    assert not slow
    if not command.startswith("benchmarks"):  # prose a terminal breaks anew, commands it does not
        assert not [line for line in text.splitlines() if line.startswith(" ") and len(line) > 80]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_command_line_is_refused_at_once(command, tmp_path):
    code, text, slow = _run(command, "--no_such_flag=1", cwd=tmp_path)
    assert code == 2 and re.search(r"^error: .*no_such_flag|^error: .*required", text, re.M), text
    assert not slow


@pytest.mark.parametrize("command", MISSING)
def test_a_missing_input_is_told_at_once(command, tmp_path):
    code, text, slow = _run(command, *MISSING[command], cwd=tmp_path)
    assert code in (1, 2) and re.search(r"^error: .*(nowhere|run)", text, re.M), text
    assert "Traceback" not in text
    assert slow <= {"PIL"}  # the converter's, which looks for frames with it
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_a_missing_checkpoint_is_told_at_once(mode, tmp_path):
    (tmp_path / "a.record").touch()
    code, text, slow = _run(
        "efficientdet/main.py", f"--mode={mode}", "--model_dir=run", "--ckpt=nowhere",
        "--train_file_pattern=a.record", "--val_file_pattern=a.record", cwd=tmp_path,
    )  # fmt: skip
    assert code == 1 and "error: nowhere: no such file or folder" in text
    assert not slow and not (tmp_path / "run").exists()


def test_a_terminal_is_told_what_takes_so_long(monkeypatch):
    said = []

    def status(text: str) -> contextlib.AbstractContextManager:
        said.append(text)
        return contextlib.nullcontext()

    monkeypatch.setattr(console, "status", status)
    importlib.reload(importlib.import_module("efficientdet.commands.quiet_tensorflow"))
    assert said[-1] == "loading TensorFlow"
