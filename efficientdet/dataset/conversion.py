"""Frames -> examples in their order, and what they add up to: a conversion without its files."""

import hashlib
import json
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import efficientdet
from efficientdet.dataset.findings import Findings
from efficientdet.dataset.frame_conversion import Converted, convert_frame, with_labels
from efficientdet.dataset.kitti import Frame, read_file
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.manifest import Manifest
from efficientdet.dataset.options import Options
from efficientdet.dataset.parallel import map_in_order
from efficientdet.dataset.selection import Selection
from efficientdet.dataset.splits import count_drives
from efficientdet.dataset.statistics import Statistics
from efficientdet.errors import UserError
from efficientdet.progress import meter
from efficientdet.wording import counted

MAX_PRINTED_ERRORS = 20
Item = TypeVar("Item")
Write = Callable[[int, Converted], None]  # takes a frame's number, and what it became


@dataclass(frozen=True)
class Conversion:
    """Which frames become a record, and how; see `of`."""

    selection: Selection
    label_map: LabelMap
    options: Options

    @classmethod
    def of(cls, selection: Selection, label_map: LabelMap, options: Options) -> "Conversion":
        """The label map of the record is `label_map` without what `options.classes` leaves out."""
        chosen = label_map.only(options.classes) if options.classes else label_map
        return cls(selection, chosen, options)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of options, label map, all labels, and the images' names, sizes and times."""
        digest = hashlib.sha256()

        def update(*values: Any) -> None:
            digest.update(json.dumps(values).encode() + b"\n")

        update(efficientdet.__version__, self.options.to_dict(), self.label_map.to_dict())
        for frame in self.selection.frames:
            image = _state(frame.image, _name_size_time)
            update(frame.source_id, image, _state(frame.label, _hash))
        return digest.hexdigest()

    def run(self, title: str, write: Write, num_workers: int | None = None) -> Manifest:
        """Converts all frames in order, and hands each good example to `write`.

        Raises:
            UserError: bad frames (all are counted, 20 printed), or not a good one.
        """

        def write_good(index: int, item: Converted) -> None:
            if not item.errors:
                write(index, item)

        totals = Totals(self)
        frames = self.selection.frames
        totals.add_all(title, frames, len(frames), self.convert_frame, write_good, num_workers)
        return totals.manifest()

    def convert_frame(self, frame: Frame) -> Converted:
        """One frame, see `frame_conversion.convert_frame`."""
        return convert_frame(frame, self.label_map, self.options)

    def with_labels(self, stored: Converted) -> Converted:
        """One frame that was converted before, see `frame_conversion.with_labels`."""
        return with_labels(stored, self.label_map, self.options)


class Totals:
    """What the frames of a conversion, or of a shard of it, add up to."""

    def __init__(self, conversion: Conversion):
        self._conversion, self._errors = conversion, []
        self._statistics = Statistics()
        self._findings = Findings(conversion.label_map, conversion.options)

    def add_all(
        self,
        title: str,
        items: Iterable[Item],
        num_items: int,
        convert_one: Callable[[Item], Converted],
        write: Write,
        num_workers: int | None = None,
    ) -> None:
        """Converts the next frames, and hands each to `write`, also a bad one that is skipped.

        Raises:
            UserError: bad frames, or classes that nobody chose to leave out.
        """
        skip_bad = self._conversion.options.skip_bad
        converted = map_in_order(convert_one, items, num_workers)
        with meter(title, num_items) as progress, closing(converted) as frames:
            for index, item in enumerate(frames):
                progress.add(sum(map(len, item.example)))
                self._errors += item.errors
                self._findings.add(item)
                if self._errors and not skip_bad:
                    continue
                write(index, item)
                if not item.errors:
                    size = item.header.height, item.header.width
                    self._statistics.add(item.frame.source_id, *size, item.annotations)
        if self._errors and not skip_bad:
            raise UserError(_describe(self._errors, self._findings.hints()))
        self._findings.require_named()

    def manifest(self) -> Manifest:
        """Of all frames, without the shards and what tells the input.

        Raises:
            UserError: not one good frame.
        """
        selection, options = self._conversion.selection, self._conversion.options
        source_ids = self._statistics.source_ids
        if not source_ids:
            raise UserError("not one good frame is left, so nothing was written")
        return Manifest(
            **self._statistics.counts(),
            label_map=self._conversion.label_map,
            subset=options.subset,
            drives=count_drives(source_ids) if selection.is_kitti else {},
            split=selection.split,
            seed=options.seed,
            source_ids=source_ids,
            left_out=self._errors,
            options=options.to_dict(),
            converter=efficientdet.__version__,
            notes=list(self._findings.notes()),
        )


def _name_size_time(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return path.name, status.st_size, status.st_mtime_ns


def _hash(path: Path) -> str:
    return hashlib.sha256(read_file(path)).hexdigest()


def _state(path: Path | None, read: Callable[[Path], Any]) -> Any:
    try:
        return path and read(path)
    except OSError as error:  # the conversion will tell, together with all else that is wrong
        return str(error)


def _describe(errors: list[str], hints: Iterable[str]) -> str:
    lines = errors[:MAX_PRINTED_ERRORS]
    more = len(errors) - len(lines)
    return "\n  ".join(
        [
            f"{counted(len(errors), 'problem')} in the input; --skip_bad leaves these frames out",
            *hints,
            *lines,
        ]
        + ([f"... and {more} more"] if more else [])
    )
