"""docs/flags.md is what the commands say of themselves, and the command writes it."""

import os
import subprocess
import sys
from pathlib import Path

from efficientdet.automl_names import FLAGS
from efficientdet.commands import flags


def test_the_document_is_what_the_commands_say(root: Path, tmp_path: Path) -> None:
    page = tmp_path / "깃발.md"
    done = subprocess.run(
        [sys.executable, "-m", "efficientdet.commands.flags", f"--output={page}"],
        capture_output=True, text=True, encoding="utf-8",
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUTF8": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    written = (root / "docs/flags.md").read_text(encoding="utf-8")
    advice = "python -m efficientdet.commands.flags --output=docs/flags.md"
    assert written == page.read_text(encoding="utf-8"), f"say {advice}"
    assert str(root) not in written


def test_every_flag_of_automl_has_a_row(root: Path) -> None:
    text = (root / "docs/flags.md").read_text(encoding="utf-8")
    assert [name for name in FLAGS if f"`--{name}`" not in text] == []


def test_every_command_is_among_them(root: Path) -> None:
    """Whatever ends in `runner.run(main)` has flags to tell of."""
    files = [*root.glob("*.py"), *(root / "efficientdet").glob("*.py")]
    files += (root / "efficientdet/commands").glob("*.py")
    runs = [path for path in files if "runner.run(main)" in path.read_text(encoding="utf-8")]
    typed = {command.split()[-1].replace("/", ".") for command in flags.COMMANDS}
    modules = {".".join(path.relative_to(root).with_suffix("").parts) for path in runs}
    assert modules == {name.removesuffix(".py") for name in typed}
