"""Whole commands: main.py and predict.py as they are typed, and google/automl's beside ours.

A run of few and a run of more steps are timed by turns. Their difference is a step at full speed,
what is left of the shorter one is start-up, the first step's compilation included; so no program
has to say anything about its own speed.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.material import Material
from benchmarks.timing import Limit, Row, in_turns, run_process
from efficientdet.config_files import PROJECT
from efficientdet.errors import UsageError

FEW, MORE = 2, 22  # steps
AUTOML = "google/automl"


def rows(material: Material, turns: int, against: Path | None) -> Iterator[Row]:
    """A step and a start of each program at each size; predict.py over all frames."""
    programs = {"ours": [sys.executable, PROJECT / "efficientdet/main.py"]}
    if against:
        programs[AUTOML] = [against, find_automl(against)]
    for size in material.sizes:
        yield from _training(material, size, turns, programs)


def find_automl(python: Path) -> Path:
    """The main.py that lies beside the module `efficientdet_arch` of that environment.

    Raises:
        UsageError: there is none.
    """
    find = "import importlib.util as u; print(u.find_spec('efficientdet_arch').origin)"
    done = subprocess.run([python, "-c", find], capture_output=True, text=True)
    path = Path(done.stdout.strip()).parent / "main.py"
    if done.returncode or not path.is_file():
        raise UsageError(
            f"--against={python}: finds no google/automl; its folder efficientdet/, which holds "
            "main.py and efficientdet_arch.py, must be on that Python's path (PYTHONPATH)"
        )
    return path


def _training(
    material: Material, size: str, turns: int, programs: dict[str, list]
) -> Iterator[Row]:
    peaks: dict[str, float] = {}
    works = {
        f"{name} {steps}": _train(material, size, steps, words, peaks, name)
        for name, words in programs.items()
        for steps in (FEW, MORE)
    }
    seconds = in_turns(works, turns)
    step = {
        name: (seconds[f"{name} {MORE}"] - seconds[f"{name} {FEW}"]) / (MORE - FEW)
        for name in programs
    }
    start = {name: seconds[f"{name} {FEW}"] - FEW * step[name] for name in programs}
    what = f"{material.model}, {size}, batch {material.batch_size}"
    for title, values, count in (("step", step, material.batch_size), ("start and end", start, 1)):
        limit = Limit(AUTOML, values[AUTOML]) if AUTOML in values else None
        unit = "images" if title == "step" else ""
        yield Row("main", f"{what}: {title}", values["ours"], count, unit, limit, peaks["ours"])
    if AUTOML in peaks:
        yield Row("main", f"{what}: {AUTOML}'s step", step[AUTOML], peak_mb=peaks[AUTOML])


def _train(
    material: Material, size: str, steps: int, words: list, peaks: dict[str, float], name: str
) -> Callable[[], None]:
    """A training of so many steps in a folder that is new each time; notes its peak memory."""
    number = 0

    def train() -> None:
        nonlocal number
        number += 1
        folder = material.folder / "runs" / f"{name.replace('/', '_')}_{size}_{steps}_{number}"
        _, peak = run_process(
            [
                *words, "--mode=train", f"--model_name={material.model}", f"--model_dir={folder}",
                f"--train_file_pattern={material.record}*", "--num_epochs=1", "--strategy=",
                f"--train_batch_size={material.batch_size}",
                f"--num_examples_per_epoch={steps * material.batch_size}",
                f"--hparams=image_size={size},mixed_precision=false,num_classes=8",
            ]
        )  # fmt: skip
        peaks[name] = max(peaks.get(name, 0.0), peak)

    return train
