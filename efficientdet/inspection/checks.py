"""Is a record fit to train on? Every record is looked at; every problem is named and placed."""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from efficientdet.dataset.example import Annotation, Record
from efficientdet.dataset.file_names import file_name, shown
from efficientdet.dataset.image import ImageError
from efficientdet.dataset.index_file import read_frames
from efficientdet.dataset.kitti import DONT_CARE
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.manifest import Manifest
from efficientdet.dataset.nominal_size import nominal_size
from efficientdet.dataset.parallel import map_in_order
from efficientdet.dataset.rules import CLASS_ID, MAX_TEXT, Rules, place_name
from efficientdet.dataset.shards import shard_problems
from efficientdet.dataset.splits import looks_like_kitti, shared_drives
from efficientdet.dataset.statistics import Statistics
from efficientdet.dataset.tfrecord import Place, base_path
from efficientdet.errors import UserError
from efficientdet.progress import meter
from efficientdet.wording import counted, listed

# Kinds of problems that show between records; `record_rules` has those of a single one.
DAMAGED = "damaged record"
DUPLICATE = "source_id stands twice"
SAME_FILE = "two source_ids name one file: results of one would replace the other's"
NO_BOXES = "no object to learn from: box_loss would stay at 0"
TINY = "boxes smaller than 2 pixels everywhere: divided by the image size twice?"
MANIFEST = "contradicts its manifest"
LEAK = "the same frame in two sets"
NOMINAL = "boxes of another size than their images"
DRIVES = "drives shared between sets: AP will look better than it is"
NO_MAP = "class ids that only a label map explains"

Parse = Callable[[], Record]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: its kind, where, and what was found."""

    kind: str
    where: str
    what: str


@dataclass
class InspectedSet:
    """The records of one name, all of its shards: `train.record`.

    Attributes:
        num_examples: records read.
        places: where the records lie that the statistics count, in their order.
        num_learnable: boxes that are no ignore regions, whether they make sense or not.
        statistics: of the boxes that make sense.
    """

    path: Path
    files: list[Path]
    manifest: Manifest | None
    num_examples: int = 0
    places: list[Place] = field(default_factory=list)
    num_learnable: int = 0
    statistics: Statistics = field(default_factory=Statistics)

    @property
    def is_testing(self) -> bool:
        """Whether these are images of KITTI's testing set, whose ids say nothing about training."""
        return self.manifest is not None and self.manifest.subset == "testing"

    @property
    def ids(self) -> set[str]:
        """The source ids as KITTI has them, `000007`, also where the record has a path.

        Of other data also the folders, which may tell two images of one name apart.
        """
        name = _stem if self.is_kitti else _name
        return {name(source_id) for source_id in self.statistics.source_ids}

    @property
    def is_kitti(self) -> bool:
        """Whether ids of KITTI's training set are its frames, by what was converted and by size."""
        if self.is_testing or (self.manifest and not self.manifest.drives):
            return False
        sizes = {
            _stem(source_id): (width, height)
            for source_id, (height, width) in zip(
                self.statistics.source_ids, self.statistics.image_hw, strict=True
            )
        }
        return looks_like_kitti(sizes)


@dataclass
class Report:
    """The verdict on one or more sets.

    Attributes:
        sets: what was read, in the order given.
        problems: all that were found.
        warnings: what to know before training on them; they are fit for it all the same.
        label_map: given, or from the manifests, or None.
        class_texts: class id -> class texts seen with it, ignore regions aside.
    """

    sets: list[InspectedSet]
    label_map: LabelMap | None
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    class_texts: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))

    @property
    def ok(self) -> bool:
        """True where nothing is wrong."""
        return not self.problems

    @property
    def training(self) -> InspectedSet | None:
        """The set to train on: the first that was not converted for validation or testing."""
        other = ("validation", "testing")
        return next(
            (one for one in self.sets if not one.manifest or one.manifest.subset not in other), None
        )

    @property
    def num_examples(self) -> int:
        """Records read."""
        return sum(one.num_examples for one in self.sets)

    @property
    def class_ids(self) -> dict[str, int]:
        """Class text -> id, from the label map and from the records."""
        types = self.label_map.types if self.label_map else ()
        mapped = {name: label for label, names in enumerate(types, start=1) for name in names}
        seen = {text: label for label, texts in self.class_texts.items() for text in texts if label}
        return mapped | seen

    def grouped(self) -> dict[str, list[Problem]]:
        """Problems by kind, in the order they came up."""
        return by_kind(self.problems)

    def text(self, limit: int = 3) -> str:
        """The problems for a terminal, at most `limit` of each kind."""
        lines = []
        for kind, problems in self.grouped().items():
            lines.append(f"{kind} ({len(problems)} times)" if len(problems) > 1 else kind)
            lines += [f"  {problem.where}: {problem.what}" for problem in problems[:limit]]
            if len(problems) > limit:
                lines.append(f"  ... and {len(problems) - limit} more")
        return "\n".join(lines)


def by_kind(problems: Sequence[Problem]) -> dict[str, list[Problem]]:
    """The same by kind, in the order they came up."""
    groups: dict[str, list[Problem]] = {}
    for problem in problems:
        groups.setdefault(problem.kind, []).append(problem)
    return groups


def check_records(
    files: Sequence[Path],
    label_map: LabelMap | None = None,
    *,
    max_instances: int = 100,
    decode_images: bool = True,
    sample: int | None = None,
    allow_shared_drives: bool = False,
    num_workers: int | None = None,
    indexed: bool = False,
) -> Report:
    """Checks record files, whoever wrote them; files of one name (shards) are one set.

    Args:
        files: from `expand_pattern`; with several sets, frames and drives must not be shared.
        label_map: ids to check against; by default the manifest's, where there is one.
        max_instances: objects an image may hold.
        decode_images: decode pixels and verify hashes; False is bounded by the disk alone.
        sample: look only at the first so many records of each file.
        allow_shared_drives: a split that parts drives is a warning, no problem.
        num_workers: threads; None means one a core.
        indexed: read the index in the record's place where there is one, without decoding.
    """
    by_name: dict[Path, list[Path]] = {}
    for path in files:
        by_name.setdefault(base_path(path), []).append(path)
    sets = [InspectedSet(name, paths, Manifest.read(paths)) for name, paths in by_name.items()]
    maps = [one.manifest.label_map for one in sets if one.manifest]
    report = Report(sets, label_map or next(iter(maps), None))
    rules = Rules(report.label_map, max_instances, decode_images)
    for one in report.sets:
        _check_set(one, report, rules, sample, num_workers, indexed and not decode_images)
    for problem in _shared(report.sets, allow_shared_drives):
        allowed = allow_shared_drives and problem.kind == DRIVES
        (report.warnings if allowed else report.problems).append(problem)
    if report.label_map is None:
        _check_classes(report)
    return report


def _check_set(
    one: InspectedSet,
    report: Report,
    rules: Rules,
    sample: int | None,
    num_workers: int | None,
    indexed: bool,
) -> None:
    first: dict[str, tuple[str, Place]] = {}

    def examine(item: tuple[Place, Parse]) -> tuple[Place, Record, list[tuple[str, str]]]:
        place, parse = item
        record = parse()
        problems = list(rules.check(record))
        if not (record.width and record.height or record.problems):
            record.height, record.width = _size_of(record)
        record.encoded = b""  # not kept in memory until the end
        record.texts = [shown(text, MAX_TEXT) for text in record.texts]  # numpy pads to the longest
        return place, record, problems

    total = one.manifest.num_examples if one.manifest and not sample else None
    with meter(one.path.name, total) as progress:
        records = _read_all(one, report, sample, indexed)
        for place, record, problems in map_in_order(examine, records, num_workers):
            progress.add(place.length)
            where = place_name(place, record)
            report.problems += [Problem(kind, where, what) for kind, what in problems]
            other, first_place = first.setdefault(
                _name(record.source_id), (record.source_id, place)
            )
            if first_place is not place:
                kind = DUPLICATE if other == record.source_id else SAME_FILE
                report.problems.append(Problem(kind, where, f"first in {first_place}"))
            one.num_examples += 1
            _count(record, place, one, report.class_texts)
    report.problems += _check_whole(one, complete=sample is None)
    if what := _nominal_size(one.statistics):
        report.warnings.append(Problem(NOMINAL, one.path.name, what))
    for problem in shard_problems(one.files):
        where, _, what = problem.partition(": ")
        report.problems.append(Problem(MANIFEST, where, what))


def _nominal_size(statistics: Statistics) -> str:
    objects = statistics.objects
    reach = np.zeros((len(statistics.image_hw), 2))
    np.maximum.at(reach, objects.image, objects.boxes[:, 2:])
    labelled = np.unique(objects.image)
    sizes = np.array(statistics.image_hw, float).reshape(-1, 2)[labelled, ::-1]
    return nominal_size(sizes, reach[labelled])


def _read_all(
    one: InspectedSet, report: Report, sample: int | None, indexed: bool
) -> Iterator[tuple[Place, Parse]]:
    for path in one.files:
        try:
            yield from read_frames(path, sample, indexed=indexed)
        except UserError as error:
            where, _, what = str(error).partition(": ")
            report.problems.append(Problem(DAMAGED, where, what))


def _check_whole(one: InspectedSet, complete: bool) -> Iterator[Problem]:
    """What only shows when all records are seen."""
    name = one.path.name
    if not one.num_examples:
        yield Problem(NO_BOXES, name, "not one record")
        return
    objects, manifest = one.statistics.objects, one.manifest
    if not one.num_learnable and not one.is_testing:
        yield Problem(
            NO_BOXES, name, f"{counted(one.num_examples, 'image')} without a single object"
        )
    elif len(objects) and max(objects.widths.max(), objects.heights.max()) < 2:
        yield Problem(TINY, name, f"the widest box is {objects.widths.max():.3g} px wide")
    if complete and manifest and one.num_examples != manifest.num_examples:
        what = f"{counted(one.num_examples, 'record')}, the manifest says {manifest.num_examples}"
        yield Problem(MANIFEST, name, what)


def _shared(sets: Sequence[InspectedSet], allow_shared_drives: bool) -> Iterator[Problem]:
    for index, first in enumerate(sets):
        for second in sets[index + 1 :]:
            if first.is_testing or second.is_testing:
                continue
            names = f"{first.path.name} and {second.path.name}"
            if common := sorted(first.ids & second.ids):
                yield Problem(LEAK, names, f"{counted(len(common), 'frame')}, first {common[0]}")
            if not (first.is_kitti and second.is_kitti):
                continue
            if drives := shared_drives(first.ids, second.ids):
                count = f"{sum(drives.values()):,} of {counted(len(second.ids), 'frame')}"
                accept = "" if allow_shared_drives else ", or accept it with --allow_shared_drives"
                yield Problem(
                    DRIVES,
                    names,
                    f"{count} of {second.path.name} belong to drives that are also in "
                    f"{first.path.name} ({counted(len(drives), 'drive')}); convert with "
                    f"--split=drive{accept}",
                )


def _check_classes(report: Report) -> None:
    """Holds names and ids of all records against each other, and against KITTI's.

    KITTI's are what training and evaluation take where neither manifest nor label map is there.
    """
    where = " and ".join(one.path.name for one in report.sets)
    ids: dict[str, list[int]] = defaultdict(list)
    for label, texts in sorted(report.class_texts.items()):
        for text in texts:
            ids[text].append(label)
    kitti = LabelMap.kitti()
    odd = []
    for text, labels in ids.items():
        if text and len(labels) > 1:
            what = f"{text} has the ids {listed([str(label) for label in labels])}; a class has one"
            report.problems.append(Problem(CLASS_ID, where, what))
        known = kitti.id_of(text)
        odd += [
            (text, i) for i in labels if i > len(kitti.names) or i > 0 and known not in (None, i)
        ]
    if odd:
        (text, label), *others = odd
        more = f" and {counted(len(others), 'class')} more" if others else ""
        what = (
            f"{text or 'a class'} has id {label}{more}: without a manifest ids are read as KITTI's "
            "eight classes; give this command, training and evaluation --label_map_path"
        )
        report.warnings.append(Problem(NO_MAP, where, what))


def _count(
    record: Record, place: Place, one: InspectedSet, class_texts: dict[int, set[str]]
) -> None:
    """Adds a record to the statistics; boxes that make no sense are left out of them."""
    one.num_learnable += record.is_crowd.count(0)
    if not (record.width and record.height):
        return
    one.places.append(place)
    one.statistics.add(record.source_id, record.height, record.width, _annotations(record))
    for label, text, crowd in zip(record.labels, record.texts, record.is_crowd, strict=True):
        if not crowd:
            class_texts[label].add(text)


def _annotations(record: Record) -> Iterator[Annotation]:
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


def _name(source_id: str) -> str:
    """As in `file_name`; where it can name none, which the rules tell, as it stands."""
    try:
        return file_name(source_id)
    except UserError:
        return source_id


def _stem(source_id: str) -> str:
    return Path(source_id).stem


def _size_of(record: Record) -> tuple[int, int]:
    try:
        header = record.image_header()
    except ImageError:
        return 0, 0
    return header.height, header.width
