"""docs/hparams.md is what the declarations say, and the command writes it."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from efficientdet.automl_names import FLAGS, HPARAMS
from efficientdet.commands import hparams
from efficientdet.config import Config, NmsConfig, flatten


def test_the_document_is_what_the_code_says(root: Path) -> None:
    written = (root / "docs/hparams.md").read_text(encoding="utf-8")
    advice = "python -m efficientdet.commands.hparams --output=docs/hparams.md"
    assert written == hparams.markdown(), f"say {advice}"


def test_each_field_has_one_row_with_all_that_it_declares() -> None:
    rows = [row for row in hparams.markdown().splitlines() if row.startswith("| `")]
    names = [row.split("`")[1] for row in rows]
    assert names == list(flatten(Config().to_dict()))
    fields = {field.name: field for field in dataclasses.fields(Config)}
    fields |= {f"nms_configs.{field.name}": field for field in dataclasses.fields(NmsConfig)}
    for name, row in zip(names, rows, strict=True):
        assert fields[name].metadata["meaning"].replace("|", "\\|") in row
        assert str(fields[name].metadata["within"] or "") in row
        assert row.endswith("| ours |") == (
            name not in HPARAMS
            and not any(rule.becomes == name for rule in (HPARAMS | FLAGS).values())
        )


@pytest.mark.parametrize("section", hparams.SECTIONS.items())
def test_each_section_begins_with_its_field(section: tuple[str, str]) -> None:
    first, title = section
    after = hparams.markdown().partition(f"\n## {title}\n")[2]
    row = next(row for row in after.splitlines() if row.startswith("| `"))
    assert row.startswith(f"| `{first}")


def test_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "efficientdet.commands.hparams"]
    options = {"capture_output": True, "text": True, "encoding": "utf-8", "check": False}
    options["env"] = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUTF8": "1"}
    printed = subprocess.run(command, **options)
    assert printed.stdout == hparams.markdown(), printed.stderr
    written = subprocess.run([*command, f"--output={tmp_path / '표.md'}"], **options)
    assert written.returncode == 0, written.stderr
    assert (tmp_path / "표.md").read_text(encoding="utf-8") == hparams.markdown()
