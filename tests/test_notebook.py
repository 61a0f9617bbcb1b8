"""The notebook for Colab: clean, with forms, and every cell runs (at a tiny size)."""

import ast
import contextlib
import importlib.util
import json
import os
import re
import signal
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks/kitti_colab.ipynb"
KNOBS = {
    "FRAMES": "8",
    "IMAGE_SIZE": "128x64",
    "MINUTES": "5",
    "WEIGHTS": "random",
    "BATCH": "2",
    "EPOCHS": "1",
    "COUNT": "2",
    "HPARAMS": (
        "backbone_name=efficientnet-tiny,fpn_num_filters=8,fpn_cell_repeats=1,box_class_repeats=1,"
        "max_level=5,image_size=128x64,anchor_scale=1"
    ),
}


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


@pytest.fixture
def client(notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NotebookClient]:
    """A kernel in a folder of its own; the server that TensorBoard leaves ends with it."""
    work, temporary = tmp_path / "작업 공간", tmp_path / "temporary"
    for folder in (work, temporary):
        folder.mkdir()
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    for name, value in KNOBS.items():
        monkeypatch.setenv(f"KNOB_{name}", value)
    client = NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(work)}}
    )
    try:
        with client.setup_kernel():
            yield client
    finally:
        for info in temporary.glob(".tensorboard-info/pid-*.info"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(json.loads(info.read_text())["pid"], signal.SIGTERM)


def _said(cell: nbformat.NotebookNode) -> str:
    return "".join(one.get("text", "") for one in cell.outputs)


def _shown(cell: nbformat.NotebookNode, kind: str) -> list[str]:
    return [one.data[kind] for one in cell.outputs if kind in one.get("data", {})]


def test_it_is_clean_and_each_cell_is_introduced(notebook) -> None:
    nbformat.validate(notebook)
    assert (notebook.nbformat, len({cell.id for cell in notebook.cells})) == (4, 21)
    title, *rest = notebook.cells
    assert title.source.startswith("# ")
    for number, (text, code) in enumerate(zip(rest[::2], rest[1::2], strict=True), start=1):
        assert (text.cell_type, code.cell_type) == ("markdown", "code")
        head, _, prose = text.source.partition("\n\n")
        assert head.startswith(f"## {number}. ")
        assert 1 <= len(re.findall(r"[.?!](\s|$)", prose)) <= 3
        assert not code.outputs and code.execution_count is None
    assert NOTEBOOK.read_text(encoding="utf-8").endswith("}\n")


def test_forms_stand_on_top_and_obey_the_environment(notebook) -> None:
    forms = set()
    for cell in notebook.cells:
        lines = cell.source.splitlines()
        params = [number for number, line in enumerate(lines) if "#@param" in line]
        assert params == list(range(len(params)))
        for line in lines[: len(params)]:
            name, value, kind = re.fullmatch(r"([A-Z_]+) = (.*?)  #@param (.*)", line).groups()
            json.loads(re.sub(r"\b(type)\b:", r'"\1":', kind))
            assert ast.literal_eval(value) in ("", *ast.literal_eval(kind)) if "[" in kind else True
            assert f'knob("{name}")' in cell.source or f"knob('{name}')" in cell.source
            forms.add(name)
    assert forms >= {"REPOSITORY", "KITTI_PATH", "MODEL", "MINUTES"} and forms >= KNOBS.keys()


def test_every_command_is_there(notebook) -> None:
    text = "\n".join(cell.source for cell in notebook.cells if cell.id != "export")
    named = set(re.findall(r"(?:scripts/)?\w+\.(?:sh|py)\b", text))
    assert named and all((ROOT / name).is_file() for name in named)


def test_every_cell_runs(notebook, client: NotebookClient) -> None:
    has_export = (ROOT / "efficientdet/export.py").is_file()
    cells = {}
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "code" and (cell.id != "export" or has_export):
            cells[cell.id] = client.execute_cell(cell, index)
    assert f"project: {ROOT}" in _said(cells["install"])
    assert "pip" not in _said(cells["install"])
    assert "8 frames" in _said(cells["kitti"])
    for name in ("inspect", "evaluate"):
        (page,) = _shown(cells[name], "text/html")
        assert page.startswith("<iframe srcdoc=") and len(page) > 10_000
    assert "done: 3 steps" in _said(cells["train"])
    assert any("tensorboard-frame" in page for page in _shown(cells["tensorboard"], "text/html"))
    assert "KITTI 2D AP" in _said(cells["evaluate"])
    assert len(_shown(cells["pictures"], "image/png")) == 2
    work = Path(client.resources["metadata"]["path"])
    assert (work / "run_efficientdet-d0.zip").stat().st_size > 100_000
    if has_export:
        assert list((work / "run_efficientdet-d0/export").rglob("*.tflite"))


def test_without_the_project_it_is_asked_for(notebook, client: NotebookClient) -> None:
    """Where it cannot be imported, and neither form says where it is."""
    (index,) = [i for i, cell in enumerate(notebook.cells) if cell.id == "install"]
    notebook.cells[0] = nbformat.v4.new_code_cell(
        "import importlib.util\nimportlib.util.find_spec = lambda name: None"
    )
    client.execute_cell(notebook.cells[0], 0)
    with pytest.raises(CellExecutionError, match="Set REPOSITORY to its address for git clone"):
        client.execute_cell(notebook.cells[index], index)


def _install(notebook: nbformat.NotebookNode, client: NotebookClient) -> None:
    (index,) = [i for i, cell in enumerate(notebook.cells) if cell.id == "install"]
    client.execute_cell(notebook.cells[index], index)


def test_a_command_that_fails_ends_the_cell(notebook, client: NotebookClient) -> None:
    _install(notebook, client)
    notebook.cells[0] = nbformat.v4.new_code_cell("run('echo \"$A\"; exit 3', A='한국 \"$x\"')")
    with pytest.raises(CellExecutionError, match="exit code 3 of: echo"):
        client.execute_cell(notebook.cells[0], 0)
    assert _said(notebook.cells[0]).startswith('한국 "$x"\n')


def test_the_stop_button_lets_a_command_save(
    notebook, client: NotebookClient, tmp_path: Path
) -> None:
    _install(notebook, client)
    # Printed when the cell has read most of it; no line ends, so the cell then can only read. In a
    # print IPython may take the exception; a second one could end the cell before the command.
    half_a_line = "printf 'x%.0s' {1..200000}"
    saved = tmp_path / "saved"
    wait = "while :; do read -t 5 <> <(:); done"
    body = f"trap 'touch {saved}; exit 130' INT; {half_a_line}; kill -INT $PPID; {wait}"
    notebook.cells[0] = nbformat.v4.new_code_cell(f'run("""{body}""")')
    with pytest.raises(CellExecutionError, match="KeyboardInterrupt"):
        client.execute_cell(notebook.cells[0], 0)
    assert saved.exists()


@pytest.mark.parametrize("form", ["zips", "folders"])
def test_kitti_of_the_user_is_taken(
    notebook, client: NotebookClient, tmp_path: Path, form: str
) -> None:
    _install(notebook, client)
    drive, names = tmp_path / "내 드라이브", ("image_2/000000.png", "label_2/000000.txt")
    for name in names:
        if form == "folders":
            (drive / "training" / name).parent.mkdir(parents=True)
            (drive / "training" / name).touch()
        else:
            drive.mkdir(exist_ok=True)
            with zipfile.ZipFile(drive / f"data_object_{name[:7]}.zip", "w") as archive:
                archive.writestr(f"training/{name}", b"bytes")
    (index,) = [i for i, cell in enumerate(notebook.cells) if cell.id == "kitti"]
    notebook.cells[0] = nbformat.v4.new_code_cell(f"os.environ['KNOB_KITTI_PATH'] = '{drive}'")
    client.execute_cell(notebook.cells[0], 0)
    said = _said(client.execute_cell(notebook.cells[index], index))
    root = drive if form == "folders" else Path(client.resources["metadata"]["path"]) / "KIT"
    assert said.endswith(f"frames: {root}\n")
    assert all((root / "training" / name).is_file() for name in names)


def test_it_needs_what_the_tests_install() -> None:
    needed = (ROOT / "requirements-dev.txt").read_text()
    for name in ("nbclient", "nbformat", "ipykernel"):
        assert name in needed and importlib.util.find_spec(name)
