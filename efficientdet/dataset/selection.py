"""Which frames of a KITTI folder a record holds."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from efficientdet.dataset import sequences, splits
from efficientdet.dataset.image import read_size
from efficientdet.dataset.kitti import Frame, find_frames
from efficientdet.dataset.options import Options
from efficientdet.errors import UsageError, UserError

SAMPLE = 200  # images whose sizes tell whether a folder is KITTI's


@dataclass(frozen=True)
class Selection:
    """The frames of one subset, and what the user should know about how they were chosen.

    Attributes:
        split: the split as it was carried out: an `options.SPLITS`, or `blocks`.
        is_kitti: frames with an id of KITTI's training set are KITTI's, so their drives are known.
    """

    frames: list[Frame]
    notes: list[str] = field(default_factory=list)
    split: str = ""
    is_kitti: bool = False


def select_frames(
    root: Path | None,
    options: Options,
    image_dir: Path | None = None,
    label_dir: Path | None = None,
) -> Selection:
    """The frames that `options` choose from the folders under `root`, see `find_frames`.

    Raises:
        UserError: no folder, no frame, an empty side of the split, a listed frame is absent, or
            Chen's split of images that are not KITTI's.
    """
    subset = "testing" if options.subset == "testing" else "training"
    frames = find_frames(root, subset, image_dir, label_dir)
    root = image_dir or root
    if not frames:
        raise UserError(f"{root}: no image and no label in it; is the download unpacked?")
    sizes = {} if options.subset == "testing" else _sample_sizes(frames)
    is_kitti = splits.looks_like_kitti(sizes)
    if options.split == "file":
        return Selection(_listed_frames(frames, options), split="file", is_kitti=is_kitti)
    if options.subset in ("testing", "all"):
        return Selection(frames, split=options.split, is_kitti=is_kitti)
    why = _why_not_kitti(sizes)
    if options.split == "chen" and not is_kitti:
        raise UserError(
            f"{root}: --split=chen lists frames of KITTI, and these are others: {why}; take "
            "--split=drive, or lists with --split=file"
        )
    training, validation, notes = _sides(frames, options, is_kitti)
    wanted = set(training if options.subset == "training" else validation)
    if not wanted:
        raise UserError(
            f"{root}: --split={options.split} puts none of the {len(frames)} frames present into "
            f"{options.subset}; use --split=random, or lists with --split=file"
        )
    return Selection(
        [frame for frame in frames if frame.source_id in wanted],
        notes + [*_split_notes(training, validation, options.split, None if is_kitti else why)],
        split="blocks" if options.split == "drive" and not is_kitti else options.split,
        is_kitti=is_kitti,
    )


def _sides(
    frames: list[Frame], options: Options, is_kitti: bool
) -> tuple[list[str], list[str], list[str]]:
    """Ids of training and of validation, and notes."""
    chosen = {"val_fraction": options.val_fraction, "seed": options.seed}
    if options.split == "sequence":
        found = sequences.split_sequences(frames, options.group_by, **chosen)
        return found.training, found.validation, [found.note]
    if options.group_by:
        raise UsageError(f"--group_by needs --split=sequence; the split is {options.split}")
    ids = [frame.source_id for frame in frames]
    return *splits.split_frames(ids, options.split, **chosen, is_kitti=is_kitti), []


def _sample_sizes(frames: list[Frame]) -> dict[str, tuple[int, int]]:
    """Source id -> width and height, of images that are named as KITTI's training frames."""
    named = [frame for frame in frames if frame.image and splits.drive_of(frame.source_id)]
    sample = named[:: max(1, len(named) // SAMPLE)]
    return {f.source_id: size for f in sample if (size := read_size(f.image))}


def _why_not_kitti(sizes: Mapping[str, tuple[int, int]]) -> str:
    for source_id, (width, height) in sizes.items():
        if (width, height) != (kitti := splits.kitti_size(source_id)):
            return f"{source_id} is {width}x{height}, KITTI's is {kitti[0]}x{kitti[1]}"
    return "no image has a name of 000000 to 007480"


def _listed_frames(frames: list[Frame], options: Options) -> list[Frame]:
    if options.split_file is None:
        raise UsageError("--split=file needs --split_file, a list with one frame id a line")
    present = {frame.source_id: frame for frame in frames}
    ids = splits.read_split_file(options.split_file, present)
    absent = [source_id for source_id in ids if source_id not in present]
    if absent:
        raise UserError(
            f"{options.split_file}: {len(absent)} of its {len(ids)} frames are absent, "
            f"first {absent[0]}"
        )
    return [present[source_id] for source_id in sorted(ids)]


def _split_notes(
    training: list[str], validation: list[str], split: str, not_kitti: str | None
) -> Iterator[str]:
    """What to say about the two sides; `not_kitti`: why no drive is known, if so."""
    total = len(training) + len(validation)
    ids = [i for i in training + validation if not_kitti or splits.drive_of(i) is None]
    unknown = len(ids)
    if unknown and split in ("drive", "chen"):
        by = sequences.suggested(ids)
        why = not_kitti or "their names are not 000000 to 007480"
        yield (
            f"{unknown} of {total} frames are no KITTI training frames ({why}), their drives are "
            "not known: contiguous blocks of them validate, in the order of their names; "
            "--split=sequence keeps whole recordings apart, "
            + (f"which --group_by={by} finds here" if by else "where --group_by tells them apart")
        )
    if unknown and split == "random":
        yield (
            "--split=random: frames of one recording come to both sides; where these are pictures "
            "of a video, AP will look better than it is. --split=sequence keeps recordings apart, "
            "inspect_tfrecord.py finds near-duplicates"
        )
    if not_kitti:
        return
    if shared := sum(splits.shared_drives(training, validation).values()):
        yield (
            f"--split={split}: {shared} of {len(validation)} validation frames come from a drive "
            "that is also in training; AP will look better than it is. --split=drive keeps drives "
            "apart"
        )
