"""The converter beside `cp -r` of the same files, the inspector beside reading and decoding.

The frames were copied just before, so all files are in the page cache: the figures tell what the
program takes, and not the disk.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.material import Material
from benchmarks.parts.decoding import decode_all
from benchmarks.timing import Limit, Row, in_turns


def rows(material: Material, turns: int) -> Iterator[Row]:
    """Converting with one thread and all; inspecting with and without decoding."""
    from efficientdet.dataset.convert import convert
    from efficientdet.dataset.label_map import LabelMap
    from efficientdet.dataset.options import Options
    from efficientdet.dataset.selection import select_frames
    from efficientdet.inspection.checks import check_records

    record, copy = material.folder / "timed.record", material.folder / "copy"
    options, label_map = Options(subset="all"), LabelMap.kitti()
    selection, cores = select_frames(material.kitti, options), os.cpu_count() or 1

    def convert_with(workers: int) -> None:
        for path in material.folder.glob(f"{record.name}*"):
            path.unlink()
        convert(selection, record, label_map, options, num_workers=workers)

    def copied() -> None:
        shutil.rmtree(copy, ignore_errors=True)
        subprocess.run(["cp", "-r", material.kitti, copy], check=True)

    seconds = in_turns(
        {
            "cp -r of the same files": copied,
            "convert, 1 thread": lambda: convert_with(1),
            f"convert, {cores} threads": lambda: convert_with(cores),
            "reading the record": lambda: _read(record),
            "inspect --no_decode": lambda: check_records([record], decode_images=False),
            "decoding on all cores": lambda: decode_all(material.images),
            "inspect": lambda: check_records([record]),
        },
        turns,
    )
    limit = None
    for name, value in seconds.items():
        if not name.startswith(("convert", "inspect")):
            limit = Limit(name, value)
            continue
        yield Row("converter", name, value, len(material.images), "images", limit)


def _read(path: Path) -> None:
    with path.open("rb") as file:
        while file.read(1 << 20):
            pass
