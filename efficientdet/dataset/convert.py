"""KITTI folders -> TFRecord and manifest: parallel, deterministic, nothing lost."""

import dataclasses
import hashlib
import json
from bisect import bisect
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tensorflow as tf

import efficientdet
from efficientdet.atomic import atomic_path
from efficientdet.dataset import splits
from efficientdet.dataset.image import ImageError, ImageHeader, decode, read_header
from efficientdet.dataset.kitti import CLASSES, Frame, KittiObject, find_frames, parse_labels
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.manifest import Manifest, Shard, manifest_path
from efficientdet.dataset.parallel import map_in_order
from efficientdet.dataset.statistics import Statistics
from efficientdet.dataset.tfrecord import Annotation, make_example, shard_paths
from efficientdet.errors import UsageError, UserError
from efficientdet.progress import meter

Subset = Literal["training", "validation", "testing", "all"]
SUBSETS = ("training", "validation", "testing", "all")
MAX_PRINTED_ERRORS = 20
_CLIP_PX = 1.0  # a box may leave the image by this much: rounding in the labels


@dataclass(frozen=True)
class Options:
    """What shapes the bytes of a record, apart from its input.

    Attributes:
        subset: training or validation side of the split, all training frames, or testing.
        split: how the sides are chosen; with `file`, the frames are those of `split_file`.
        classes: KITTI types to train on; None keeps all.
        min_box_height: px; max_occlusion: 0..3; max_truncation: 0..1. What lies beyond is kept as
            an ignore region.
        verify_images: decode every image.
        skip_bad: leave bad frames out instead of failing.
    """

    subset: Subset = "training"
    split: splits.Split = "drive"
    split_file: Path | None = None
    val_fraction: float = 0.2
    seed: int = 0
    num_shards: int = 1
    classes: tuple[str, ...] | None = None
    min_box_height: float = 0.0
    max_occlusion: int = 3
    max_truncation: float = 1.0
    verify_images: bool = False
    skip_bad: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the manifest; the split file by its name alone."""
        values = dataclasses.asdict(self)
        return values | {"split_file": self.split_file and self.split_file.name}


@dataclass(frozen=True)
class Selection:
    """The frames of one subset, and what the user should know about how they were chosen."""

    frames: list[Frame]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Converted:
    """One frame on its way into a record; with errors there is no example."""

    frame: Frame
    errors: list[str]
    example: bytes = b""
    header: ImageHeader | None = None
    annotations: list[Annotation] = field(default_factory=list)


def select_frames(root: Path, options: Options) -> Selection:
    """The frames that `options` choose from the folders under `root`.

    Raises:
        UserError: no folder, no frame, an empty side of the split, or a listed frame is absent.
    """
    frames = find_frames(root, "testing" if options.subset == "testing" else "training")
    if not frames:
        raise UserError(f"{root}: no image and no label in it; is the download unpacked?")
    if options.split == "file":
        return _listed_frames(frames, options)
    if options.subset in ("testing", "all"):
        return Selection(frames)
    ids = [frame.source_id for frame in frames]
    training, validation = splits.split_frames(
        ids, options.split, val_fraction=options.val_fraction, seed=options.seed
    )
    wanted = set(training if options.subset == "training" else validation)
    if not wanted:
        raise UserError(
            f"{root}: --split={options.split} puts none of the {len(frames)} frames present into "
            f"{options.subset}; use --split=random, or lists with --split=file"
        )
    return Selection(
        [frame for frame in frames if frame.source_id in wanted],
        list(_split_notes(training, validation, options.split)),
    )


def convert(
    selection: Selection,
    output: Path,
    label_map: LabelMap,
    options: Options,
    *,
    num_workers: int | None = None,
    overwrite: bool = False,
) -> Manifest | None:
    """Writes the record (or its shards) and the manifest; a killed run leaves neither.

    Returns:
        The manifest, or None where the record is up to date already.

    Raises:
        UserError: bad frames (all are counted, 20 printed), or an output of other input that only
            `overwrite` replaces.
    """
    fingerprint = _fingerprint(selection, label_map, options)
    if not overwrite and _is_up_to_date(output, fingerprint, options):
        return None
    with _Writer(output, len(selection.frames), options.num_shards) as writer:
        manifest = _run(selection, label_map, options, num_workers, output.name, writer.write)
        manifest.inputs_sha256 = fingerprint
        manifest.shards = writer.finish()
        _remove_old(output, keep={shard.name for shard in manifest.shards})
    manifest.write(output)
    return manifest


def dry_run(
    selection: Selection, label_map: LabelMap, options: Options, num_workers: int | None = None
) -> Manifest:
    """Reads and checks everything as `convert` does, and writes nothing."""
    return _run(selection, label_map, options, num_workers, "dry run", lambda *_: None)


def convert_frame(frame: Frame, label_map: LabelMap, options: Options) -> Converted:
    """Reads one frame's two files and makes its example; collects what is wrong with them."""
    errors: list[str] = []
    encoded, header = _read_image(frame, options, errors)
    objects = _read_objects(frame, options, errors)
    if header is None or objects is None:
        return Converted(frame, errors)
    annotations = []
    for number, item in objects.items():
        try:
            box = clip_box(item, header)
            annotations.append(annotate(item, box, label_map, options))
        except ValueError as error:
            errors.append(f"{frame.label}:{number}: {error}")
    if errors:
        return Converted(frame, errors)
    example = make_example(encoded, header, frame.source_id, annotations, frame.image.name)
    return Converted(frame, [], example, header, annotations)


def clip_box(item: KittiObject, header: ImageHeader) -> tuple[float, float, float, float]:
    """The object's box in pixels, clipped where it leaves the image by at most one.

    Raises:
        ValueError: further outside, empty, or with an impossible occlusion or truncation.
    """
    left, top = max(item.left, 0.0), max(item.top, 0.0)
    right, bottom = min(item.right, float(header.width)), min(item.bottom, float(header.height))
    box = f"box {item.left:g} {item.top:g} {item.right:g} {item.bottom:g}"
    outside = max(left - item.left, top - item.top, item.right - right, item.bottom - bottom)
    if outside > _CLIP_PX:
        raise ValueError(
            f"{box} is {outside:g} px outside the image of {header.width}x{header.height}"
        )
    if left >= right or top >= bottom:
        raise ValueError(f"{box} is empty: left >= right or top >= bottom")
    return left, top, right, bottom


def annotate(
    item: KittiObject,
    box: tuple[float, float, float, float],
    label_map: LabelMap,
    options: Options,
) -> Annotation:
    """The object as training sees it: with its id, or as an ignore region where a filter says so.

    Raises:
        ValueError: occlusion or truncation out of range.
    """
    if not -1 <= item.occluded <= 3:
        raise ValueError(f"occluded is {item.occluded}, expected 0, 1, 2 or 3 (-1 where unknown)")
    if not 0 <= item.truncated <= 1 and item.truncated != -1:
        raise ValueError(f"truncated is {item.truncated:g}, expected 0 to 1 (-1 where unknown)")
    kept = (
        (options.classes is None or item.type in options.classes)
        and item.bottom - item.top >= options.min_box_height
        and item.occluded <= options.max_occlusion
        and item.truncated <= options.max_truncation
    )
    label = (label_map.id_of(item.type) or 0) if kept else 0
    return Annotation(
        box=box,
        label=label,
        text=item.type,
        is_crowd=label == 0,
        difficult=item.difficulty is None,
        truncated=item.truncated,
        occluded=item.occluded,
        line=item.line,
    )


def parse_classes(text: str) -> tuple[str, ...] | None:
    """KITTI types from `Car,Pedestrian`, in any letter case; None from an empty text."""
    canonical = {name.lower(): name for name in CLASSES}
    names = [name for part in text.split(",") if (name := part.strip())]
    for name in names:
        if name.lower() not in canonical:
            raise UsageError(f"--classes: unknown class {name!r}; KITTI has {', '.join(CLASSES)}")
    return tuple(canonical[name.lower()] for name in names) or None


def _run(
    selection: Selection,
    label_map: LabelMap,
    options: Options,
    num_workers: int | None,
    title: str,
    write: Callable[[int, bytes], None],
) -> Manifest:
    """Converts all frames in order, hands each good example to `write`, and sums them up."""
    statistics, errors = Statistics(), []

    def convert_one(frame: Frame) -> Converted:
        return convert_frame(frame, label_map, options)

    with meter(title, len(selection.frames)) as progress:
        items = map_in_order(convert_one, selection.frames, num_workers)
        for index, item in enumerate(items):
            progress.add(len(item.example))
            errors += item.errors
            if not item.errors and (options.skip_bad or not errors):
                write(index, item.example)
                size = item.header.height, item.header.width
                statistics.add(item.frame.source_id, *size, item.annotations)
    if errors and not options.skip_bad:
        raise UserError(_describe(errors))
    if not statistics.source_ids:
        raise UserError("not one good frame is left, so nothing was written")
    return Manifest(
        **statistics.counts(),
        label_map=label_map,
        subset=options.subset,
        split=options.split,
        seed=options.seed,
        source_ids=statistics.source_ids,
        left_out=errors,
        options=options.to_dict(),
        converter=efficientdet.__version__,
    )


class _Writer:
    """Shards under temporary names, which become the final ones when the block ends well."""

    def __init__(self, output: Path, num_frames: int, num_shards: int):
        if not 1 <= num_shards <= num_frames:
            raise UsageError(f"--num_shards={num_shards}: expected 1 to {num_frames} (the frames)")
        self._paths = shard_paths(output, num_shards)
        self._starts = [index * num_frames // num_shards for index in range(1, num_shards)]
        self._counts = [0] * num_shards
        self._stack = ExitStack()

    def __enter__(self) -> "_Writer":
        with ExitStack() as stack:
            self._temporary = [stack.enter_context(atomic_path(path)) for path in self._paths]
            self._files = [
                stack.enter_context(tf.io.TFRecordWriter(str(path))) for path in self._temporary
            ]
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def write(self, index: int, example: bytes) -> None:
        """Appends the example of frame `index`; frames stand in the shards in order."""
        shard = bisect(self._starts, index)
        self._files[shard].write(example)
        self._counts[shard] += 1

    def finish(self) -> list[Shard]:
        """Closes the files and describes them."""
        for file in self._files:
            file.close()
        return [
            Shard(path.name, count, temporary.stat().st_size, _sha256(temporary))
            for path, count, temporary in zip(
                self._paths, self._counts, self._temporary, strict=True
            )
        ]


def _read_image(
    frame: Frame, options: Options, errors: list[str]
) -> tuple[bytes, ImageHeader | None]:
    if frame.image is None:
        errors.append(f"{frame.label}: no image {frame.source_id}.png or .jpg for this label")
        return b"", None
    try:
        encoded = frame.image.read_bytes()
        header = read_header(encoded)
        if options.verify_images:
            decode(encoded)
        return encoded, header
    except OSError as error:
        errors.append(f"{frame.image}: {error.strerror}")
    except ImageError as error:
        errors.append(f"{frame.image}: {error}")
    return b"", None


def _read_objects(
    frame: Frame, options: Options, errors: list[str]
) -> dict[int, KittiObject] | None:
    if options.subset == "testing":
        return {}
    if frame.label is None:
        errors.append(f"{frame.image}: no label {frame.source_id}.txt for this image")
        return None
    try:
        objects, problems = parse_labels(frame.label.read_bytes(), frame.label)
    except OSError as error:
        objects, problems = None, [f"{frame.label}: {error.strerror}"]
    errors += problems
    return objects


def _listed_frames(frames: list[Frame], options: Options) -> Selection:
    if options.split_file is None:
        raise UsageError("--split=file needs --split_file, a list with one frame id a line")
    present = {frame.source_id: frame for frame in frames}
    ids = splits.read_split_file(options.split_file)
    absent = [source_id for source_id in ids if source_id not in present]
    if absent:
        raise UserError(
            f"{options.split_file}: {len(absent)} of its {len(ids)} frames are absent, "
            f"first {absent[0]}"
        )
    return Selection([present[source_id] for source_id in sorted(ids)])


def _split_notes(training: list[str], validation: list[str], split: str) -> Iterator[str]:
    unknown = sum(splits.drive_of(source_id) is None for source_id in training + validation)
    if unknown and split != "random":
        yield (
            f"{unknown} of {len(training) + len(validation)} frames are no KITTI training frames "
            "(000000 to 007480): a hash of the id decided their side"
        )
    if shared := sum(splits.shared_drives(training, validation).values()):
        yield (
            f"--split={split}: {shared} of {len(validation)} validation frames come from a drive "
            "that is also in training; AP will look better than it is. --split=drive keeps drives "
            "apart"
        )


def _fingerprint(selection: Selection, label_map: LabelMap, options: Options) -> str:
    """SHA-256 of the options, the label map, all labels, and the images' names and sizes."""
    digest = hashlib.sha256()

    def update(*values: Any) -> None:
        digest.update(json.dumps(values).encode() + b"\n")

    update(efficientdet.__version__, options.to_dict(), label_map.to_dict())
    for frame in selection.frames:
        image = frame.image and (frame.image.name, frame.image.stat().st_size)
        label = frame.label and hashlib.sha256(frame.label.read_bytes()).hexdigest()
        update(frame.source_id, image, label)
    return digest.hexdigest()


def _is_up_to_date(output: Path, fingerprint: str, options: Options) -> bool:
    """True where the output exists and came from the same input; False where there is none."""
    existing = [path for path in (output, manifest_path(output)) if path.exists()]
    existing += output.parent.glob(f"{output.name}-?????-of-?????")
    if not existing:
        return False
    manifest = Manifest.load(path) if (path := manifest_path(output)).exists() else None
    if manifest and manifest.inputs_sha256 == fingerprint and manifest.shards_exist(output.parent):
        return True
    changed = [
        f"--{name} was {manifest.options.get(name)}"
        for name, value in options.to_dict().items()
        if manifest and json.loads(json.dumps(value)) != manifest.options.get(name)
    ]
    reason = ", ".join(changed) or "it was made from other input"
    raise UserError(f"{existing[0]} exists already ({reason}); --overwrite replaces it")


def _remove_old(output: Path, keep: set[str]) -> None:
    """Removes what an earlier run left; its manifest first, so that none tells of other bytes."""
    manifest_path(output).unlink(missing_ok=True)
    for path in [output, *output.parent.glob(f"{output.name}-?????-of-?????")]:
        if path.name not in keep:
            path.unlink(missing_ok=True)


def _describe(errors: list[str]) -> str:
    lines = errors[:MAX_PRINTED_ERRORS]
    more = len(errors) - len(lines)
    return "\n  ".join(
        [f"{len(errors)} problems in the input; --skip_bad leaves these frames out", *lines]
        + ([f"... and {more} more"] if more else [])
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
