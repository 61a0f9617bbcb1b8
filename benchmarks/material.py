"""What the benchmarks work on: frames in KITTI's layout and one record of them."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path


@dataclass(frozen=True)
class Material:
    """A folder of its own, with KIT/ and all.record.

    Attributes:
        sizes: of the input, as `image_size` takes them.
        model: name of the network.
        batch_size: of training.
    """

    folder: Path
    sizes: Sequence[str]
    model: str
    batch_size: int

    @property
    def kitti(self) -> Path:
        """Holds training/image_2 and training/label_2."""
        return self.folder / "KIT"

    @property
    def record(self) -> Path:
        """All frames."""
        return self.folder / "all.record"

    @cached_property
    def images(self) -> list[Path]:
        """Every image file."""
        return sorted((self.kitti / "training/image_2").iterdir())

    def make(self, source: Path | None, frames: int) -> None:
        """Copies frames of a KITTI folder, again and again up to `frames`; None: made-up ones."""
        from efficientdet.dataset.convert import convert
        from efficientdet.dataset.label_map import LabelMap
        from efficientdet.dataset.options import Options
        from efficientdet.dataset.selection import select_frames

        if source is None:
            from efficientdet.synthetic.scenes import render_set

            source = self.folder / "made_up"
            render_set(source, min(frames, 40))
        _copy_frames(source, self.kitti, frames)
        options = Options(subset="all")
        convert(select_frames(self.kitti, options), self.record, LabelMap.kitti(), options)


def _copy_frames(source: Path, root: Path, count: int) -> None:
    """Frames under new ids."""
    from efficientdet.dataset.kitti import find_frames

    for folder in ("image_2", "label_2"):
        (root / "training" / folder).mkdir(parents=True)
    frames = find_frames(source, "training")
    for index in range(count):
        frame = frames[index % len(frames)]
        for path in (frame.image, frame.label):
            name = f"{900_000 + index}{path.suffix}"
            shutil.copyfile(path, root / "training" / path.parent.name / name)
