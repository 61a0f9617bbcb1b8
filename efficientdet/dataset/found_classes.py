"""The label map of a conversion that names none: what the folder has, or the classes found."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from efficientdet.dataset.kitti import DONT_CARE, Frame, parse_labels, read_file
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.manifest import Manifest, UnfinishedConversion, manifest_path
from efficientdet.dataset.tfrecord import MANIFEST_SUFFIX
from efficientdet.errors import UserError
from efficientdet.wording import counted, nearest

FILE_NAME = "label_map.txt"  # beside the records
_SELDOM = 20  # times rarer than a class of nearly the same name: rather a slip than a class


def map_of_folder(output: Path) -> tuple[LabelMap, Path] | None:
    """The label map that the records beside `output` have, and where it stands.

    Records of one folder are trained and judged by together, and so they have one.

    Raises:
        UserError: they do not agree.
    """
    maps: dict[Path, LabelMap] = {}
    if (path := output.parent / FILE_NAME).is_file():
        maps[path] = LabelMap.read(path)
    for path in sorted(output.parent.glob(f"*{MANIFEST_SUFFIX}")):
        if path != manifest_path(output):
            try:
                maps[path] = Manifest.load(path).label_map
            except UnfinishedConversion:
                continue
    if not maps:
        return None
    (first, label_map), *others = maps.items()
    for path, other in others:
        if other != label_map:
            raise UserError(
                f"{path}: its label map is {other}, but {first} has {label_map}; name one by "
                "--label_map_path, or remove what is old"
            )
    return label_map, first


def find_classes(frames: Iterable[Frame]) -> tuple[LabelMap, str]:
    """The classes of all labels, most frequent first, and how many objects each has, as a line.

    The line has a warning, in more lines, for each name that looks like another one misspelt. What
    differs in letter case alone is one class, spelt as it most often is.

    Raises:
        UserError: no class, or a name that no label map can hold.
    """
    spellings: dict[str, Counter[str]] = defaultdict(Counter)
    for frame in frames:
        for item in _readable(frame):
            spellings[item.type.lower()][item.type] += 1
    spellings.pop(DONT_CARE.lower(), None)
    if not spellings:
        raise UserError(
            "no label names a class, so none can be found; name the classes by --label_map_path"
        )
    counts = Counter({min(one, key=lambda n: (-one[n], n)): one.total() for one in
                      spellings.values()})  # fmt: skip
    names = sorted(counts, key=lambda name: (-counts[name], name))
    for name in names:
        if set(name) & set(",#'\""):
            raise UserError(
                f"class {name!r} has a comma, # or quote in its name, which a label map cannot "
                "hold; rename it in the labels"
            )
    said = f"{counted(len(names), 'class')}: " + ", ".join(f"{n} {counts[n]}" for n in names)
    return LabelMap(tuple((name,) for name in names)), "\n".join([said, *_slips(counts)])


def _slips(counts: Counter[str]) -> Iterator[str]:
    """A line for each class that may be another one, misspelt."""
    for name, count in counts.items():
        often = [other for other in counts if counts[other] >= _SELDOM * count]
        if other := nearest(name, often):
            yield (
                f"warning: {name} ({counted(count, 'object')}) looks like {other} misspelt; if so, "
                "correct the labels, or write both on one line of the label map"
            )


def _readable(frame: Frame) -> list:
    """The objects of a frame; what cannot be read, the conversion tells."""
    try:
        data = read_file(frame.label) if frame.label else b""
    except OSError:
        return []
    return list(parse_labels(data, frame.label or "", scored=None)[0].values())
