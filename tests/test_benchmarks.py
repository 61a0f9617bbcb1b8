"""python -m benchmarks: medians by turns, shares of limits, every part on a few tiny frames."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from benchmarks import timing
from benchmarks.export_table import markdown
from benchmarks.material import Material
from benchmarks.parts import PARTS, main_py, metric, parts, scaling
from benchmarks.timing import Limit, Row
from efficientdet.errors import UsageError, UserError


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    made = Material(tmp_path_factory.mktemp("material"), ["128x64"], "efficientdet-d0", 2)
    made.make(None, 8)
    return made


def test_turns_drop_the_first_and_take_medians() -> None:
    said: list[str] = []
    times = iter([9.0, 1.0, 5.0, 2.0])

    def timed() -> float:
        said.append("timed")
        return next(times)

    seconds = timing.in_turns({"a": timed, "b": lambda: said.append("b")}, 3)
    assert seconds["a"] == 2.0 and seconds["b"] < 1
    assert said == ["timed", "b"] * 4


def test_a_row_says_its_share_of_the_limit() -> None:
    row = Row("converter", "convert", 2.0, 400, "images", Limit("cp", 1.5))
    assert row.share == 0.75 and row.json()["rate"] == 200
    console = Console(width=80, record=True, file=sys.stderr)
    console.print(timing.table([row, Row("converter", "other", 0.02)]))
    lines = console.export_text().splitlines()
    assert any("limit: cp" in line and "1.5 s" in line for line in lines)
    assert any("convert" in line and "0.75" in line and "200 images/s" in line for line in lines)
    assert any("other" in line and "20 ms" in line for line in lines)
    assert not any("peak" in line for line in lines)


def test_a_part_makes_rows_with_limits(material: Material) -> None:
    rows = list(parts(None)["converter"](material, 1))
    assert {row.part for row in rows} == {"converter"} and all(row.share for row in rows)
    assert len({row.what for row in rows}) == len(rows) == 4


def test_every_part_is_listed(root: Path) -> None:
    files = {path.stem for path in (root / "benchmarks/parts").glob("*.py")}
    assert {name.replace("main_py", "main") for name in files - {"__init__", "decoding"}} == set(
        PARTS
    )
    text = (root / "benchmarks/README.md").read_text(encoding="utf-8")
    assert [name for name in PARTS if f"| `{name}` |" not in text] == []


def test_the_metric_part_judges_the_files_that_it_writes(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    frames = [metric.make_frame(random, f"{i:06d}") for i in range(5)]
    row = metric._command(tmp_path, *zip(*frames, strict=True), most=100, turns=1)
    assert row.peak_mb and row.limit and row.seconds > row.limit.seconds


def test_another_program_is_timed_by_the_length_of_its_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """4 s to start and a step a second; 2 s and half a second."""
    own = {"ours": (2.0, 0.5), "theirs": (4.0, 1.0)}

    def run(words: list, **environment: str) -> tuple[float, float]:
        start, step = own[words[0]]
        images = next(int(word.split("=")[1]) for word in words if "num_examples" in str(word))
        return start + step * images / 2, 1000.0

    def in_turns(works: dict[str, Callable[[], None]], turns: int) -> dict[str, float]:
        return {name: run([*name.split()[:1], _images(name)])[0] for name in works}

    def _images(name: str) -> str:
        return f"--num_examples_per_epoch={2 * int(name.split()[-1])}"

    monkeypatch.setattr(main_py, "AUTOML", "theirs")
    monkeypatch.setattr(main_py, "in_turns", in_turns)
    monkeypatch.setattr(main_py, "find_automl", lambda python: tmp_path / "main.py")
    material = Material(tmp_path, ["512"], "efficientdet-d0", 2)
    monkeypatch.setattr(main_py, "_train", lambda *args: args[-2].update({args[-1]: 1.0}))
    rows = list(main_py.rows(material, 1, Path("python")))
    step, start = rows[0], rows[1]
    assert (step.seconds, start.seconds) == pytest.approx((0.5, 2.0))
    assert step.limit and step.limit.seconds == pytest.approx(1.0) and step.share == 2.0


def test_a_python_without_automl_is_told() -> None:
    with pytest.raises(UsageError, match=r"finds no google/automl; its folder efficientdet/"):
        main_py.find_automl(Path(sys.executable))


def test_automl_is_found_beside_its_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("efficientdet_arch.py", "main.py"):
        (tmp_path / name).touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert main_py.find_automl(Path(sys.executable)) == tmp_path / "main.py"


def test_a_process_that_fails_says_why() -> None:
    with pytest.raises(UserError, match="exit code 3: no such card"):
        timing.run_process([sys.executable, "-c", "print('no such card'); raise SystemExit(3)"])
    seconds, megabytes = timing.run_process([sys.executable, "-c", "b = bytes(50 << 20)"])
    assert seconds > 0 and megabytes > 50


def test_figures_are_written(root: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "benchmarks", "--only=converter", "--frames=8", "--turns=1",
            f"--json={tmp_path / '수.json'}",
        ],
        capture_output=True, text=True, cwd=root,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "수.json").read_text())
    assert figures["rows"][0]["share"] > 0 and "8 made-up frames" in figures["of"]
    assert "8 made-up frames" in done.stdout


def test_the_table_of_exports_has_a_line_for_each_input() -> None:
    common = {"model": "efficientdet-d0", "input": "64x32"}
    rows = [
        common | {"format": "Keras", "mb": None, "ms": 12.6},
        common | {"format": "ONNX", "mb": 3.14, "ms": 7.2},
        common | {"format": "Keras", "mb": None, "ms": 20.0, "input": "128x64"},
        common | {"format": "ONNX", "mb": 3.2, "ms": 11.0, "input": "128x64"},
    ]
    assert markdown(rows).splitlines() == [
        "| model, input | Keras | ONNX |",
        "| --- | ---: | ---: |",
        "| d0, 64x32 | 13 | 7 (3.1) |",
        "| d0, 128x64 | 20 | 11 (3.2) |",
    ]


def test_the_cost_of_each_point_of_a_family(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Points that belong to several families are compiled once."""
    tiny = {
        "FRAMES": (2, 4), "WIDTHS_HEIGHTS": ("128x64",), "MODELS": ("d0",), "BATCHES": (1,),
        "SIZE": "128x64", "BATCH": 1,
    }  # fmt: skip
    for name, value in tiny.items():
        monkeypatch.setattr(scaling, name, value)
    rows = list(scaling.rows(material, 1))
    assert [(row.what, row.count) for row in rows[:-1]] == [
        ("converter: 2", 2), ("converter: 4", 4),
        ("converter, processes: 1", 1), ("converter, processes: 2", 2),
        ("step, pixels: 128x64", 128 * 64 / 1e6), ("step, batch: 1", 1),
    ]  # fmt: skip
    assert rows[-1].what == "step, model: d0" and 0.1 < rows[-1].count < 1
    assert all(row.seconds > 0 for row in rows)
    assert scaling._step.cache_info().misses == 1
    scaling._step.cache_clear()


def test_a_line_through_the_points_and_a_plot(tmp_path: Path) -> None:
    rows = [Row("scaling", f"converter: {n}", 0.5 + 0.002 * n, n) for n in (50, 100, 400)]
    rows += [Row("scaling", f"converter, processes: {n}", 2 / n, n) for n in (1, 2)]
    lines = list(scaling.markdown(rows))
    assert lines[2] == (
        "| converter: frames | 50: 600 ms; 100: 700 ms; 400: 1.3 s | 2 ms each + 500 ms |"
    )
    assert lines[3].endswith("| 1: 2 s; 2: 1 s |  |")
    scaling.draw(rows, tmp_path / "plot.png", "a machine")
    drawn = (tmp_path / "plot.png").read_bytes()
    assert drawn.startswith(b"\x89PNG") and len(drawn) < 150_000
