"""Images and megabytes a second of the converter and the inspector, beside `cp -r`.

    python benchmarks/converter.py --kitti_root=./KIT

The frames are copied first, `--repeat` times, so all files are in the page cache: the figures tell
what the program takes, and not the disk.
"""

import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from efficientdet.commands import runner  # isort: skip (says what is not installed)
from absl import flags
from rich.console import Console
from rich.table import Table

from efficientdet.dataset.kitti import find_frames
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.options import Options

KITTI_ROOT = flags.DEFINE_string("kitti_root", None, "Folder that holds training/.", required=True)
REPEAT = flags.DEFINE_integer("repeat", 1, "Copies of each frame.", lower_bound=1)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "kitti"
        copy_frames(Path(KITTI_ROOT.value), root, REPEAT.value)
        measure(root, Path(folder))


def copy_frames(source: Path, root: Path, repeat: int) -> None:
    """Every frame `repeat` times under new ids."""
    for folder in ("image_2", "label_2"):
        (root / "training" / folder).mkdir(parents=True)
    for index, frame in enumerate(find_frames(source, "training") * repeat):
        for path in (frame.image, frame.label):
            name = f"{900_000 + index}{path.suffix}"
            shutil.copyfile(path, root / "training" / path.parent.name / name)


def measure(root: Path, folder: Path) -> None:
    from efficientdet.commands import quiet_tensorflow  # isort: skip  # noqa: F401
    from efficientdet.dataset.convert import convert
    from efficientdet.dataset.selection import select_frames
    from efficientdet.inspection.checks import check_records

    files = list((root / "training" / "image_2").iterdir())
    megabytes = sum(path.stat().st_size for path in files) / 1e6
    options, record = Options(subset="all"), folder / "all.record"
    selection, label_map, cores = select_frames(root, options), LabelMap.kitti(), os.cpu_count()

    def convert_with(workers: int, **changes: bool) -> None:
        chosen = Options(subset="all", **changes)
        convert(selection, record, label_map, chosen, num_workers=workers, overwrite=True)

    rows = {
        "cp -r": lambda: subprocess.run(["cp", "-r", root, folder / "copy"], check=True),
        "convert, 1 thread": lambda: convert_with(1),
        f"convert, {cores} threads": lambda: convert_with(cores),
        "convert, --verify_images": lambda: convert_with(cores, verify_images=True),
        "inspect, --no_decode": lambda: check_records([record], decode_images=False),
        "inspect": lambda: check_records([record]),
    }
    table = Table(title=f"{len(files)} images, {megabytes:.0f} MB, {cores} cores")
    for column in ("", "seconds", "CPU seconds", "images/s", "MB/s"):
        table.add_column(column, justify="right" if column else "left")
    for name, work in rows.items():
        seconds, cpu_seconds = timed(work)
        rates = (f"{len(files) / seconds:.0f}", f"{megabytes / seconds:.0f}")
        table.add_row(name, f"{seconds:.2f}", f"{cpu_seconds:.2f}", *rates)
    Console().print(table)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB")


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and of all cores together (on a busy machine the fairer figure)."""
    start, cpu_start = time.perf_counter(), sum(os.times()[:4])
    work()
    return time.perf_counter() - start, sum(os.times()[:4]) - cpu_start


if __name__ == "__main__":
    runner.run(main)
