"""How fast it is, each figure beside its limit from the same run.

    python -m benchmarks                                       made-up frames, every part
    python -m benchmarks --kitti_root=./KIT --frames=400       real ones
    python -m benchmarks --only=converter,metric --turns=5
    python -m benchmarks --only=main --against=/automl/bin/python
    python -m benchmarks --only=scaling --plot=docs/scaling.png

Everything is done by turns with its limit, `--turns` times after one for warming up; medians are
shown. The share of the limit means the same on another machine. What an image or a step costs on
an idle machine is only measured on an idle machine.
"""

import json
import os
import platform
import tempfile
from pathlib import Path

from efficientdet.commands import runner  # isort: skip (says what is not installed)
from absl import flags
from rich.console import Console

from benchmarks.parts import PARTS, parts
from efficientdet.errors import UsageError

ONLY = flags.DEFINE_list("only", list(PARTS), f"Parts to do, of {', '.join(PARTS)}.")
KITTI_ROOT = flags.DEFINE_string("kitti_root", None, "Folder of training/; else made up.")
FRAMES = flags.DEFINE_integer("frames", 80, "Images; fewer are copied again.", lower_bound=8)
TURNS = flags.DEFINE_integer("turns", 3, "Times that each is done.", lower_bound=1)
SIZES = flags.DEFINE_list("sizes", ["512", "1280x384"], "Input sizes, `512` or width x height.")
MODEL = flags.DEFINE_string("model_name", "efficientdet-d0", "Network.")
BATCH_SIZE = flags.DEFINE_integer("batch_size", 2, "Images of a training step.", lower_bound=1)
AGAINST = flags.DEFINE_string("against", None, "Python that finds google/automl: times it as well.")
JSON = flags.DEFINE_string("json", None, "Also write the figures to this file.")
PLOT = flags.DEFINE_string("plot", None, "Draw the part `scaling` to this PNG.")


def main() -> None:
    """Makes what to work on, and does the parts in their order."""
    if unknown := [name for name in ONLY.value if name not in PARTS]:
        raise UsageError(f"--only={unknown[0]}: no such part; there are {', '.join(PARTS)}")
    against = Path(AGAINST.value) if AGAINST.value else None
    if against and not against.is_file():
        raise UsageError(f"--against={against}: no such file; expected a Python")
    if PLOT.value and "scaling" not in ONLY.value:
        raise UsageError(f"--plot={PLOT.value}: draws the part scaling, which --only leaves out")
    if KITTI_ROOT.value and not Path(KITTI_ROOT.value).is_dir():
        raise UsageError(f"--kitti_root={KITTI_ROOT.value}: no such folder")
    from efficientdet.commands import quiet_tensorflow  # isort: skip  # noqa: F401
    from benchmarks import timing
    from benchmarks.material import Material
    from efficientdet.atomic import atomic_open

    console = Console()
    with tempfile.TemporaryDirectory() as name:
        material = Material(Path(name), SIZES.value, MODEL.value, BATCH_SIZE.value)
        with console.status("making records"):
            material.make(Path(KITTI_ROOT.value) if KITTI_ROOT.value else None, FRAMES.value)
        title = f"{FRAMES.value} {'real' if KITTI_ROOT.value else 'made-up'} frames, {machine()}"
        rows: list[timing.Row] = []
        for part in (part for part in PARTS if part in ONLY.value):
            with console.status(f"{part}, {TURNS.value} times and once to warm up"):
                rows += parts(against)[part](material, TURNS.value)
            console.print(timing.table([row for row in rows if row.part == part]))
    if PLOT.value:
        from benchmarks.parts import scaling

        of_part = [row for row in rows if row.part == "scaling"]
        scaling.draw(of_part, Path(PLOT.value), f"{title}; medians of {TURNS.value}")
        console.print("\n".join(scaling.markdown(of_part)), soft_wrap=True, markup=False)
    if JSON.value:
        figures = {"of": title, "load": os.getloadavg(), "rows": [row.json() for row in rows]}
        with atomic_open(JSON.value) as file:
            file.write(json.dumps(figures, indent=1))
    console.print(title)


def machine() -> str:
    """Cores, Python and TensorFlow."""
    from importlib.metadata import version

    return (
        f"{os.cpu_count()} {platform.machine()} cores, Python {platform.python_version()}, "
        f"TensorFlow {version('tensorflow')}"
    )


if __name__ == "__main__":
    runner.run(main)
