"""Which frames of a KITTI folder a record holds."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from efficientdet.dataset import splits
from efficientdet.dataset.kitti import Frame, find_frames
from efficientdet.dataset.options import Options
from efficientdet.errors import UsageError, UserError


@dataclass(frozen=True)
class Selection:
    """The frames of one subset, and what the user should know about how they were chosen."""

    frames: list[Frame]
    notes: list[str] = field(default_factory=list)


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
