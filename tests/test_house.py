"""The shape of the house: which room may import which, no circles, no name twice."""

import ast
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "efficientdet"

# From the ground floor up; a room imports from floors below its own. docs/design.md says why.
FLOORS = (
    ("wording",),
    ("errors", "atomic", "console", "signals", "tensorflow_device"),
    ("automl_names", "config_files", "hparam", "hparam_text", "links", "progress", "yaml_file"),
    ("processes",),
    ("mesh",),
    ("config", "backend"),
    ("cpu_kernels",),
    ("dataset", "model"),
    ("synthetic", "evaluation", "input", "checkpoint"),
    ("run", "visualize"),
    ("inspection", "inference"),
    ("training", "comparison", "deploy"),
    ("commands",),
    ("main", "predict", "export"),
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
MAX_LINES = 400


def _modules() -> dict[str, Path]:
    paths = [*PACKAGE.rglob("*.py"), *ROOT.glob("*.py")]
    return {_name(path): path for path in paths if path.name != "__init__.py"}


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def _room(module: str) -> str:
    """`model` of efficientdet.model.anchors, `config` of efficientdet.config."""
    return module.split(".")[1]


def _imports(path: Path, modules: dict[str, Path]) -> Iterator[str]:
    """The project's own modules that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield from (name for name in (inner, node.module) if name in modules)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)


MODULES = _modules()
IMPORTS = {name: set(_imports(path, MODULES)) for name, path in MODULES.items()}


def test_every_room_has_its_floor():
    rooms = {_room(name) for name in MODULES if name.startswith("efficientdet.")}
    assert rooms - {"__init__"} == set(FLOOR_OF)


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("efficientdet.")])
def test_a_room_imports_only_what_lies_below(module: str):
    room = _room(module)
    for imported in IMPORTS[module]:
        other = _room(imported)
        below = FLOOR_OF[other] < FLOOR_OF[room]
        assert other == room or below, f"{module} imports {imported}"


def test_no_file_imports_itself_in_a_circle():
    try:
        tuple(TopologicalSorter(IMPORTS).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_a_class_name_occurs_once():
    classes = Counter(
        node.name
        for path in MODULES.values()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in classes.items() if count > 1] == []


@pytest.mark.parametrize("module", MODULES)
def test_a_file_can_be_read_at_one_go(module: str):
    lines = len(MODULES[module].read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES
    assert not {"utils", "common", "helpers", "misc"} & set(module.split("."))


def test_the_design_names_every_room():
    rooms = [path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()]
    text = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    assert [room for room in rooms if f"{room}/" not in text] == []
