"""How the cost grows: with frames, pixels, the model, the batch and with processes.

Each family is timed by turns, and a point is a row whose count is what it grows with. Two processes
share the machine's cores, as two of a scheduler's jobs would: each converts every other frame.
"""

import functools
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.material import Material
from benchmarks.timing import Row, Work, duration, in_turns

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from efficientdet.config import Config

FRAMES = (50, 100, 200, 400)
WIDTHS_HEIGHTS = ("320x96", "640x192", "960x288", "1280x384")
MODELS = ("lite0", "d0", "d1", "d2")
BATCHES = (1, 2, 4, 8)
MODEL, SIZE, BATCH = "d0", "640x192", 2  # where something else grows
PROCESSES = (1, 2)
# Name of a family: what it grows with.
FAMILIES = {
    "converter": "frames",
    "converter, processes": f"processes for {FRAMES[-1]} frames",
    "step, pixels": f"Mpx of an image; {MODEL}, batch {BATCH}",
    "step, batch": f"images in a batch; {MODEL}, {SIZE}",
    "step, model": f"GFLOP of an image, forward; {SIZE}, batch {BATCH}",
}


def rows(material: Material, turns: int) -> Iterator[Row]:
    """A row for each point of each family."""
    yield from _converter(material, turns)
    steps = {
        "step, pixels": {size: (MODEL, size, BATCH) for size in WIDTHS_HEIGHTS},
        "step, batch": {str(batch): (MODEL, SIZE, batch) for batch in BATCHES},
        "step, model": {model: (model, SIZE, BATCH) for model in MODELS},
    }
    for family, points in steps.items():
        works: dict[str, Work] = {name: _step(*point) for name, point in points.items()}
        counts = [_grows(family, *point) for point in points.values()]
        yield from _points(family, counts, in_turns(works, turns))


def _points(family: str, counts: Sequence[float], seconds: dict[str, float]) -> Iterator[Row]:
    for count, (name, value) in zip(counts, seconds.items(), strict=True):
        yield Row("scaling", f"{family}: {name}", value, count)


def _converter(material: Material, turns: int) -> Iterator[Row]:
    from efficientdet.dataset.options import Options
    from efficientdet.dataset.selection import select_frames

    folder = material.folder / "scaling"
    selections = {}
    for count in FRAMES:
        root = folder / str(count)
        _link(material.images, root / "training", count)
        selections[count] = select_frames(root, Options(subset="all"))
    works: dict[str, Work] = {
        str(count): _convert(selection, folder / "grows.record")
        for count, selection in selections.items()
    }
    yield from _points("converter", FRAMES, in_turns(works, turns))
    largest = folder / str(FRAMES[-1])
    halves = [folder / f"half{number}" for number in range(max(PROCESSES))]
    for number, half in enumerate(halves):
        images = sorted((largest / "training/image_2").iterdir())[number :: len(halves)]
        _link(images, half / "training", len(images))
    jobs = {1: [largest], 2: halves}
    works = {str(count): _processes(jobs[count]) for count in PROCESSES}
    yield from _points("converter, processes", PROCESSES, in_turns(works, turns))


def _link(images: Sequence[Path], training: Path, count: int) -> None:
    """So many frames with their labels by hard links, again and again under new ids."""
    for name in ("image_2", "label_2"):
        (training / name).mkdir(parents=True)
    for number in range(count):
        image = images[number % len(images)]
        label = image.parents[1] / "label_2" / f"{image.stem}.txt"
        for path in (image, label):
            target = training / path.parent.name / f"{910_000 + number}{path.suffix}"
            os.link(path, target)


def _convert(selection: Any, record: Path) -> Work:
    from efficientdet.dataset.convert import convert
    from efficientdet.dataset.label_map import LabelMap
    from efficientdet.dataset.options import Options

    def work() -> None:
        for path in record.parent.glob(f"{record.name}*"):
            path.unlink()
        convert(selection, record, LabelMap.kitti(), Options(subset="all"), num_workers=1)

    return work


def _convert_root(root: Path) -> None:
    from efficientdet.dataset.options import Options
    from efficientdet.dataset.selection import select_frames

    _convert(select_frames(root, Options(subset="all")), root / "all.record")()


def _processes(roots: Sequence[Path]) -> Work:
    """Each root by a process of its own, from the start of Python to the end of the last one."""
    spawn = multiprocessing.get_context("spawn")

    def work() -> None:
        processes = [spawn.Process(target=_convert_root, args=(root,)) for root in roots]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            if process.exitcode:
                raise RuntimeError(f"a converter ended with exit code {process.exitcode}")

    return work


def _grows(family: str, model: str, size: str, batch_size: int) -> float:
    """What the family grows with, at this point."""
    from benchmarks.parts.train_step import _forward_flops
    from efficientdet.model.detector import build_detector

    config = _config(model, size)
    if family == "step, batch":
        return batch_size
    if family == "step, pixels":
        return config.image_hw[0] * config.image_hw[1] / 1e6
    return _forward_flops(build_detector(config), (1, *config.image_hw, 3)) / 1e9


@functools.cache  # some points belong to several families
def _step(model: str, size: str, batch_size: int) -> Work:
    from benchmarks.gpu.step_program import made_up_batch
    from efficientdet.training.engine import TrainingEngine

    config = _config(model, size)
    engine, batch = TrainingEngine(config), made_up_batch(config, batch_size)
    return lambda: engine.update(batch, step=1, learning_rate=1e-4)


def _config(model: str, size: str) -> "Config":
    from efficientdet.config import Config

    return Config.for_model(f"efficientdet-{model}").override({"image_size": size})


def markdown(rows: Sequence[Row]) -> Iterator[str]:
    """The lines of a table of all points, with the straight line that fits a family best."""
    yield "| grows with | measured | line through it |"
    yield "|---|---|---|"
    for family, grows_with in FAMILIES.items():
        of_family = [row for row in rows if row.what.startswith(f"{family}:")]
        points = (f"{row.what.partition(': ')[2]}: {duration(row.seconds)}" for row in of_family)
        yield f"| {family}: {grows_with} | {'; '.join(points)} | {_line(of_family)} |"


def _line(rows: Sequence[Row]) -> str:
    """Least squares; nothing is fitted to two points."""
    if len(rows) < 3:
        return ""
    slope, fixed = np.polyfit([row.count for row in rows], [row.seconds for row in rows], 1)
    sign = "-" if fixed < 0 else "+"
    return f"{duration(slope)} each {sign} {duration(abs(fixed))}"


def draw(rows: Sequence[Row], path: Path, title: str) -> None:
    """The families side by side, seconds over what they grow with, each from 0; a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from efficientdet.atomic import atomic_open

    figure = Figure(figsize=(11, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3).ravel()
    for axis, (family, grows_with) in zip(axes, FAMILIES.items(), strict=False):
        _panel(axis, [row for row in rows if row.what.startswith(f"{family}:")])
        axis.set(title=family, xlabel=grows_with, ylabel="s")
    for axis in axes[len(FAMILIES) :]:
        axis.axis("off")
    figure.suptitle(title, fontsize=9)
    with atomic_open(path, "wb") as file:
        figure.savefig(file, format="png", dpi=90)


def _panel(axis: "Axes", rows: Sequence[Row]) -> None:
    counts, seconds = [row.count for row in rows], [row.seconds for row in rows]
    axis.plot(counts, seconds, marker="o", color="#1f77b4")
    for number, row in enumerate(rows):  # above the line and below it, so that none hides another
        above = number % 2 == 0
        axis.annotate(
            row.what.partition(": ")[2], (row.count, row.seconds), (-4, 4) if above else (5, -9),
            textcoords="offset points", fontsize=8, ha="right" if above else "left",
        )  # fmt: skip
    if counts:
        axis.set_xlim(0, 1.25 * max(counts))
        axis.set_ylim(0, 1.2 * max(seconds))
    axis.grid(alpha=0.3)
