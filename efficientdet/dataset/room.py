"""Is there room on the disk for what a conversion is about to write?"""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from efficientdet.dataset.kitti import Frame
from efficientdet.errors import UserError

_A_FRAME = 2048  # bytes of a record and its index besides image and label lines


def require_room(frames: Sequence[Frame], output: Path) -> None:
    """Raises UserError where the record of these frames would not fit beside what is there.

    BMP and WebP, which become PNGs of another size, are not counted; nor is what cannot be read.
    """
    parents = Path(os.path.realpath(output)).parents  # a link is written through
    folder = next(path for path in parents if path.is_dir())
    needed = sum(
        _size(frame.image) * (frame.image.suffix.lower() not in (".bmp", ".webp"))
        + 2 * _size(frame.label)
        + _A_FRAME
        for frame in frames
        if frame.image
    )
    disk = shutil.disk_usage(folder)
    if disk.total and needed > disk.free:  # some network disks do not tell
        raise UserError(
            f"{output}: the record needs about {needed / 1e6:,.1f} MB, {disk.free / 1e6:,.1f} MB "
            f"are free in {folder}; free some, or name a folder on another disk (--output_path)"
        )


def _size(path: Path | None) -> int:
    try:
        return path.stat().st_size if path else 0
    except OSError:  # the conversion will tell
        return 0
