"""Is a record fit to train on? Every record is looked at; every problem is named and placed."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from efficientdet.dataset.image import ImageError, decode, read_header
from efficientdet.dataset.kitti import DONT_CARE, LabelError, parse_line
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.manifest import Manifest, manifest_path
from efficientdet.dataset.parallel import map_in_order
from efficientdet.dataset.record import Record
from efficientdet.dataset.splits import shared_drives
from efficientdet.dataset.statistics import Statistics
from efficientdet.dataset.tfrecord import Annotation, Place, base_path, read_records
from efficientdet.errors import UserError
from efficientdet.progress import meter

# Kind of problem -> what follows from it, or what to do.
PIXELS = "pixel coordinates: box_loss would stay at 0"
TINY = "boxes smaller than 2 pixels everywhere: divided by the image size twice?"
DAMAGED = "damaged record"
SCHEMA = "schema"
OUTSIDE = "box outside [0, 1]"
ORDER = "empty or inverted box"
CLASS_ID = "class id"
LINE = "box or class contradicts its KITTI label line"
IMAGE = "image"
CROWDED = "more objects than max_instances_per_image"
DUPLICATE = "source_id stands twice"
NO_BOXES = "no object to learn from: box_loss would stay at 0"
MANIFEST = "contradicts its manifest"
LEAK = "the same frame in two sets"
DRIVES = "drives shared between sets: AP will look better than it is"

_EPSILON = 1e-5  # float32 rounding of x / width
_LINE_TOLERANCE_PX = 1.1  # the converter clips boxes by up to one pixel


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: its kind, where, and what was found."""

    kind: str
    where: str
    what: str


@dataclass
class RecordSet:
    """The records of one name, all of its shards: `train.record`."""

    path: Path
    files: list[Path]
    manifest: Manifest | None
    places: list[Place] = field(default_factory=list)
    statistics: Statistics = field(default_factory=Statistics)


@dataclass
class Report:
    """The verdict on one or more sets.

    Attributes:
        sets: what was read, in the order given.
        problems: all that were found.
        label_map: given, or from the manifests, or None.
        class_texts: class id -> class texts seen with it, ignore regions aside.
    """

    sets: list[RecordSet]
    label_map: LabelMap | None
    problems: list[Problem] = field(default_factory=list)
    class_texts: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))

    @property
    def ok(self) -> bool:
        """True where nothing is wrong."""
        return not self.problems

    @property
    def num_examples(self) -> int:
        """Records read."""
        return sum(len(one.places) for one in self.sets)

    @property
    def class_ids(self) -> dict[str, int]:
        """Class text -> id, from the label map and from the records."""
        types = self.label_map.types if self.label_map else ()
        mapped = {name: label for label, names in enumerate(types, start=1) for name in names}
        seen = {text: label for label, texts in self.class_texts.items() for text in texts if label}
        return mapped | seen

    def grouped(self) -> dict[str, list[Problem]]:
        """Problems by kind, in the order they came up."""
        groups: dict[str, list[Problem]] = {}
        for problem in self.problems:
            groups.setdefault(problem.kind, []).append(problem)
        return groups

    def text(self, limit: int = 3) -> str:
        """The problems for a terminal, at most `limit` of each kind."""
        lines = []
        for kind, problems in self.grouped().items():
            lines.append(f"{kind} ({len(problems)} times)" if len(problems) > 1 else kind)
            lines += [f"  {problem.where}: {problem.what}" for problem in problems[:limit]]
            if len(problems) > limit:
                lines.append(f"  ... and {len(problems) - limit} more")
        return "\n".join(lines)


def check_records(
    files: Sequence[Path],
    label_map: LabelMap | None = None,
    *,
    max_instances: int = 100,
    decode_images: bool = True,
    sample: int | None = None,
    allow_shared_drives: bool = False,
    num_workers: int | None = None,
) -> Report:
    """Checks record files, whoever wrote them; files of one name (shards) are one set.

    Args:
        files: from `expand_pattern`; with several sets, frames and drives must not be shared.
        label_map: ids to check against; by default the manifest's, where there is one.
        max_instances: objects an image may hold.
        decode_images: decode pixels and verify hashes; False is bounded by the disk alone.
        sample: look only at the first so many records of each file.
        allow_shared_drives: a split that parts drives is no problem.
        num_workers: threads; None means one a core.
    """
    sets: dict[Path, RecordSet] = {}
    for path in files:
        manifest = manifest_path(path)
        base = base_path(path)
        if base not in sets:
            found = Manifest.load(manifest) if manifest.exists() else None
            sets[base] = RecordSet(base, [], found)
        sets[base].files.append(path)
    maps = [one.manifest.label_map for one in sets.values() if one.manifest]
    report = Report(list(sets.values()), label_map or next(iter(maps), None))
    rules = Rules(report.label_map, max_instances, decode_images)
    for one in report.sets:
        _check_set(one, report, rules, sample, num_workers)
    report.problems += _shared(report.sets, allow_shared_drives)
    return report


@dataclass(frozen=True)
class Rules:
    """What a record is held against."""

    label_map: LabelMap | None
    max_instances: int = 100
    decode_images: bool = True

    def check(self, record: Record) -> Iterator[tuple[str, str]]:
        """All problems of one record as (kind, what)."""
        for problem in record.problems:
            yield SCHEMA, problem
        yield from _check_image(record, self.decode_images)
        yield from _check_classes(record, self.label_map)
        box_problems = list(_check_boxes(record))
        yield from box_problems or _check_lines(record)
        if len(record.labels) > self.max_instances:
            yield (
                CROWDED,
                f"{len(record.labels)} objects, the limit is {self.max_instances}; raise "
                "max_instances_per_image",
            )


def _check_set(
    one: RecordSet, report: Report, rules: Rules, sample: int | None, num_workers: int | None
) -> None:
    first_places: dict[str, Place] = {}

    def examine(item: tuple[Place, bytes]) -> tuple[Place, Record, list[tuple[str, str]]]:
        place, serialized = item
        record = Record.parse(serialized)
        problems = list(rules.check(record))
        if not record.width and not record.problems:
            record.height, record.width = _size_of(record.encoded)
        record.encoded = b""  # not kept in memory until the end
        return place, record, problems

    total = one.manifest.num_examples if one.manifest and not sample else None
    with meter(one.path.name, total) as progress:
        records = _read_all(one, report, sample)
        for place, record, problems in map_in_order(examine, records, num_workers):
            progress.add(place.length)
            where = f"{place} ({record.source_id})"
            report.problems += [Problem(kind, where, what) for kind, what in problems]
            if record.source_id in first_places:
                what = f"first in {first_places[record.source_id]}"
                report.problems.append(Problem(DUPLICATE, where, what))
            first_places.setdefault(record.source_id, place)
            one.places.append(place)
            _count(record, one.statistics, report.class_texts)
    report.problems += _check_whole(one, complete=sample is None)


def _read_all(one: RecordSet, report: Report, sample: int | None) -> Iterator[tuple[Place, bytes]]:
    for path in one.files:
        try:
            yield from read_records(path, sample)
        except UserError as error:
            where, _, what = str(error).partition(": ")
            report.problems.append(Problem(DAMAGED, where, what))


def _check_image(record: Record, decode_images: bool) -> Iterator[tuple[str, str]]:
    try:
        header = read_header(record.encoded)
        if decode_images:
            decode(record.encoded)
    except ImageError as error:
        yield IMAGE, str(error)
        return
    stated = (record.height or header.height, record.width or header.width)
    if stated != (header.height, header.width):
        yield (
            IMAGE,
            f"image/width x image/height is {stated[1]}x{stated[0]}, the image has "
            f"{header.width}x{header.height}",
        )
    if record.format.lower().replace("jpg", "jpeg") not in ("", header.format):
        yield IMAGE, f"image/format is {record.format!r}, the bytes are {header.format}"
    hashed = record.sha256 if decode_images else ""
    if hashed and hashed != hashlib.sha256(record.encoded).hexdigest():
        yield IMAGE, "image/key/sha256 is not the hash of image/encoded"


def _check_boxes(record: Record) -> Iterator[tuple[str, str]]:
    """At most one problem of each kind a record: one mistake of a script is in every box."""
    boxes = record.boxes
    finite = np.isfinite(boxes).all(axis=1)
    if (pixels := np.flatnonzero(finite & (np.abs(boxes) > 2).any(axis=1))).size:
        yield PIXELS, _pixel_text(record, int(pixels[0]))
        return
    outside = finite & ((boxes < -_EPSILON) | (boxes > 1 + _EPSILON)).any(axis=1)
    inverted = finite & ((boxes[:, 0] >= boxes[:, 2]) | (boxes[:, 1] >= boxes[:, 3]))
    for kind, bad in ((OUTSIDE, outside), (OUTSIDE, ~finite), (ORDER, inverted)):
        if (rows := np.flatnonzero(bad)).size:
            yield kind, f"object {rows[0]}: {_box_text(boxes[rows[0]])}"


def _pixel_text(record: Record, index: int) -> str:
    box = record.boxes[index]
    size = np.array([record.width, record.height] * 2)
    if not size.all():
        return f"object {index}: {_box_text(box)}; expected these over the image's width and height"
    return (
        f"object {index}: {_box_text(box)}; over the image's {record.width}x{record.height} it "
        f"would be {_box_text(box / size)}"
    )


def _box_text(box: np.ndarray) -> str:
    sides = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    return " ".join(f"{side} {value:.5g}" for side, value in sides)


def _check_classes(record: Record, label_map: LabelMap | None) -> Iterator[tuple[str, str]]:
    """At most one problem a record."""
    for index, (label, text) in enumerate(zip(record.labels, record.texts, strict=True)):
        named = f"object {index} ({text or 'without class text'}) has id {label}"
        if label == 0 and not record.is_crowd[index]:
            yield CLASS_ID, f"{named} without is_crowd=1; 0 is the background, ids start at 1"
            return
        if label < 0:
            yield CLASS_ID, f"{named}; ids start at 1"
            return
        if label_map and label > label_map.num_classes:
            yield CLASS_ID, f"{named}; the label map ends at {label_map.num_classes}"
            return
        expected = label_map.id_of(text) if label_map and label else None
        if expected and expected != label:
            yield CLASS_ID, f"{named}; the label map says {expected}"
            return


def _check_lines(record: Record) -> Iterator[tuple[str, str]]:
    """Holds boxes and classes against the raw label lines; at most one problem a record."""
    if not (record.width and record.height):
        return
    pixels = record.boxes * [record.width, record.height, record.width, record.height]
    for index, line in enumerate(record.lines):
        if not line:
            continue
        try:
            item = parse_line(line, f"object {index}")
        except LabelError as error:
            yield LINE, str(error)
            return
        box = np.array([item.left, item.top, item.right, item.bottom])
        if np.abs(pixels[index] - box).max() > _LINE_TOLERANCE_PX:
            found = " ".join(f"{v:.2f}" for v in pixels[index])
            yield LINE, f"object {index}: the box is {found} px, its line says {line!r}"
            return
        if record.texts[index].lower() != item.type.lower():
            yield LINE, f"object {index}: the class is {record.texts[index]!r}, its line {line!r}"
            return


def _check_whole(one: RecordSet, complete: bool) -> Iterator[Problem]:
    """What only shows when all records are seen."""
    name = one.path.name
    if not one.places:
        yield Problem(NO_BOXES, name, "not one record")
        return
    objects = one.statistics.objects
    is_testing = one.manifest is not None and one.manifest.subset == "testing"
    if not objects.trained.any() and not is_testing:
        yield Problem(NO_BOXES, name, f"{len(one.places)} images without a single object")
    elif len(objects) and max(objects.widths.max(), objects.heights.max()) < 2:
        yield Problem(TINY, name, f"the widest box is {objects.widths.max():.3g} px wide")
    if complete and one.manifest and len(one.places) != _expected_examples(one):
        what = f"{len(one.places)} records, the manifest says {_expected_examples(one)}"
        yield Problem(MANIFEST, name, what)


def _expected_examples(one: RecordSet) -> int:
    return Manifest.read(one.files).num_examples


def _shared(sets: Sequence[RecordSet], allow_shared_drives: bool) -> Iterator[Problem]:
    for index, first in enumerate(sets):
        for second in sets[index + 1 :]:
            names = f"{first.path.name} and {second.path.name}"
            ids = [{Path(i).stem for i in one.statistics.source_ids} for one in (first, second)]
            if common := sorted(ids[0] & ids[1]):
                yield Problem(LEAK, names, f"{len(common)} frames, first {common[0]}")
            drives = {} if allow_shared_drives else shared_drives(*ids)
            if drives:
                count = sum(drives.values())
                yield Problem(
                    DRIVES,
                    names,
                    f"{count} of {len(ids[1])} frames of {second.path.name} come from "
                    f"{len(drives)} drives that are also in {first.path.name}; convert with "
                    "--split=drive, or accept it with --allow_shared_drives",
                )


def _count(record: Record, statistics: Statistics, class_texts: dict[int, set[str]]) -> None:
    """Adds a record to the statistics; boxes that make no sense are left out of them."""
    if not (record.width and record.height):
        return
    statistics.add(record.source_id, record.height, record.width, _annotations(record))
    for label, text, crowd in zip(record.labels, record.texts, record.is_crowd, strict=True):
        if not crowd:
            class_texts[label].add(text)


def _annotations(record: Record) -> Iterable[Annotation]:
    size = np.array([record.width, record.height] * 2)
    pixels = record.boxes * size
    sane = np.isfinite(pixels).all(axis=1) & (pixels[:, :2] < pixels[:, 2:]).all(axis=1)
    sane &= (np.abs(record.boxes) <= 2).all(axis=1)
    for index in np.flatnonzero(sane):
        text = record.texts[index] or f"id {record.labels[index]}"
        yield Annotation(
            box=tuple(pixels[index].tolist()),
            label=record.labels[index],
            text=DONT_CARE if text.lower() == DONT_CARE.lower() else text,
            is_crowd=bool(record.is_crowd[index]),
            truncated=record.truncated[index],
            occluded=record.occluded[index],
            line=record.lines[index],
        )


def _size_of(encoded: bytes) -> tuple[int, int]:
    try:
        header = read_header(encoded)
    except ImageError:
        return 0, 0
    return header.height, header.width
