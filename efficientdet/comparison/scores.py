"""The runs judged on the same frames of one validation record, from the detections they stored."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from efficientdet.checkpoint.identity import Identity
from efficientdet.comparison.runs import StoredRun
from efficientdet.dataset.splits import drive_of, looks_like_kitti
from efficientdet.errors import UserError
from efficientdet.evaluation import bootstrap
from efficientdet.evaluation.bootstrap import Interval
from efficientdet.evaluation.coco import SUMMARY
from efficientdet.evaluation.evaluate import Result, evaluate
from efficientdet.evaluation.frames import FrameDetections, FrameTruth
from efficientdet.evaluation.kitti_table import MODERATE_MEAN
from efficientdet.evaluation.results import read_coco
from efficientdet.inference.truths import read_truths
from efficientdet.input.record_set import RecordSet
from efficientdet.run import record_prints, scored_frames, thresholds
from efficientdet.run.scored_frames import ScoredFrames
from efficientdet.run.thresholds import Thresholds
from efficientdet.wording import counted

logger = logging.getLogger(__name__)

_JSON = "detections.json"  # that older evaluations left alone


@dataclass(frozen=True)
class JudgedRun:
    """The detections of one run's checkpoint and what they are worth.

    Attributes:
        checkpoint: None where nothing tells whose they are.
        samples: metric -> float [n] over resampled drives, the same for every run; empty: none.
        date, command: of the evaluation; empty where it does not say.
    """

    run: StoredRun
    checkpoint: Identity | None
    result: Result
    samples: Mapping[str, np.ndarray]
    date: str = ""
    command: Mapping[str, Any] = field(default_factory=dict)

    @property
    def step(self) -> int | None:
        """Of the checkpoint."""
        return self.checkpoint.step if self.checkpoint else None

    def interval(self, metric: str, minus: "JudgedRun | None" = None) -> Interval | None:
        """Of the metric, or of its difference to another run's, paired by drive."""
        if metric not in self.samples:
            return None
        other = minus.samples[metric] if minus else 0.0
        return Interval.of(self.samples[metric] - other)


@dataclass(frozen=True)
class Scores:
    """Runs that can be compared frame by frame, and why others cannot.

    Attributes:
        records: None where no validation records were found; then nobody is judged.
        truths: the frames that every judged run has; `numbers`: their places in the records.
        drawn: what the intervals resample, in words; empty: there are none.
        notes: in sentences.
    """

    records: RecordSet | None = None
    truths: Sequence[FrameTruth] = ()
    numbers: Sequence[int] = ()
    judged: Sequence[JudgedRun] = ()
    drawn: str = ""
    notes: list[str] = field(default_factory=list)

    @cached_property
    def metrics(self) -> list[str]:
        """What is compared."""
        known = self.judged[0].result.metrics if self.judged else {}
        return compared_metrics(known)


def compared_metrics(known: Sequence[str] | Mapping[str, float]) -> list[str]:
    """Of these metrics those of the comparison: means, KITTI's moderate ones, AP by class."""
    names = [*SUMMARY[:6], MODERATE_MEAN]
    names += [name for name in known if name.endswith("_moderate_R40")]
    names += [name for name in known if name.startswith("AP_/")]
    return [name for name in dict.fromkeys(names) if name in known]


def judge(
    runs: Sequence[StoredRun], val_file_pattern: str | None, *, newest: bool, resamples: int
) -> Scores:
    """Judges the runs' own detections on the validation records.

    Args:
        val_file_pattern: None: the records that the evaluations name.
        newest: the last evaluation of each run; else that of its best checkpoint, where stored.
        resamples: of the bootstrap; 0: no intervals.

    Raises:
        UserError: `val_file_pattern` leads to no sound records.
    """
    notes: list[str] = []
    stored = {run.name: _stored(run, newest, notes) for run in runs}
    with_detections = [run for run in runs if stored[run.name]]
    if not with_detections:
        return Scores(notes=notes)
    records = _records(with_detections, stored, val_file_pattern, notes)
    if records is None:
        return Scores(notes=notes)
    truths = read_truths(records.files, records.label_map, strict=False)
    found = {
        run.name: detections
        for run in with_detections
        if (detections := _on_records(run, stored[run.name], records, truths, notes))
    }
    frames = _common(found, truths, notes)
    if not frames or not found:
        return Scores(records, notes=notes)
    kept = {truth.source_id for truth in frames}
    numbers = [i for i, truth in enumerate(truths) if truth.source_id in kept]
    groups = _drives(frames)
    judged = []
    if resamples:
        logger.info(
            f"intervals: {counted(resamples, 'resample')} of {bootstrap.resampled(groups)} for "
            f"{counted(len(found), 'run')}; --bootstrap=0 leaves them out"
        )
    for run in (run for run in runs if run.name in found):
        checkpoint, detections = found[run.name]
        detections = [frame for frame in detections if frame.source_id in kept]
        try:
            result = evaluate(frames, detections, records.label_map)
        except UserError as error:  # a class that the map does not have
            notes.append(f"{run.name} is not compared: {error}")
            continue
        names = compared_metrics(result.metrics) if resamples else []
        samples = {}
        if names:
            samples = bootstrap.samples(
                frames, result.detections, records.label_map, names, groups, resamples
            )
        one = stored[run.name]
        told = (one.date, one.command) if isinstance(one, ScoredFrames) else ()
        judged.append(JudgedRun(run, checkpoint, result, samples, *told))
    drawn = bootstrap.resampled(groups) if resamples else ""
    return Scores(records, frames, numbers, judged, drawn, notes)


def _stored(run: StoredRun, newest: bool, notes: list[str]) -> ScoredFrames | Path | None:
    """What an evaluation left; a path: an older one, that does not tell its frames."""
    folders = ("eval",) if newest else ("archive", "eval")
    for file in (run.path / folder / scored_frames.FILE_NAME for folder in folders):
        if file.exists():
            try:
                stored = ScoredFrames.read(file)
                _require_own(run, stored.checkpoint)
                return stored
            except UserError as error:
                notes.append(str(error))
    older = run.path / "eval" / _JSON
    if older.exists():
        return older
    line = "has no evaluation yet" if not run.evaluations else "has no stored detections any more"
    notes.append(
        f"{run.name} {line}: it has no part in the comparison frame by frame "
        f"(python efficientdet/main.py --mode=eval --model_dir={run.path} --val_file_pattern=... "
        "makes one)"
    )
    return None


def _records(
    runs: Sequence[StoredRun],
    stored: Mapping[str, ScoredFrames | Path | None],
    pattern: str | None,
    notes: list[str],
) -> RecordSet | None:
    """Those of the pattern, else the first that an evaluation names and that are still there."""
    label_map = next((run.label_map for run in runs if run.label_map), None)
    if pattern:
        return RecordSet.open(pattern, of_run=label_map)
    named = [one.files for run in runs if isinstance(one := stored[run.name], ScoredFrames)]
    for files in named:
        if files and all(Path(file).exists() for file in files):
            try:
                pattern = files[0] if len(files) == 1 else list(files)
                return RecordSet.open(pattern, of_run=label_map)
            except UserError as error:
                notes.append(f"the validation records cannot be read: {error}")
    why = f"{named[0][0]} is not there any more" if named and named[0] else "no run names them"
    notes.append(
        f"Without the validation records ({why}) there are no precision-recall curves, no frames "
        "and no intervals here: name them with --val_file_pattern"
    )
    return None


def _on_records(
    run: StoredRun,
    stored: ScoredFrames | Path,
    records: RecordSet,
    truths: Sequence[FrameTruth],
    notes: list[str],
) -> tuple[Identity | None, Sequence[FrameDetections]] | None:
    """Whose detections, and what they are; None where they are of other frames or classes."""
    is_older = isinstance(stored, Path)
    prints = run.prints.get("val", []) if is_older else stored.prints
    label_map = run.label_map if is_older else stored.label_map
    names = ", ".join(file.name for file in records.files)
    if prints and not record_prints.is_same(prints, record_prints.fingerprint(records)):
        others = ", ".join(one["name"] for one in prints)
        notes.append(
            f"{run.name} was evaluated on other records ({others}, "
            f"{sum(one['num_bytes'] for one in prints):,} bytes) than {names}: it is not compared "
            "frame by frame"
        )
        return None
    if label_map not in (None, records.label_map):
        notes.append(
            f"{run.name} has the classes {label_map}, {names} has {records.label_map}: it is not "
            "compared frame by frame"
        )
        return None
    if not is_older:
        return stored.checkpoint, stored.frames
    try:
        return _older(run, stored, truths)
    except UserError as error:
        notes.append(f"{run.name} is not compared frame by frame: {error}")
        return None


def _older(
    run: StoredRun, path: Path, truths: Sequence[FrameTruth]
) -> tuple[Identity | None, Sequence[FrameDetections]]:
    """Of an evaluation that left COCO's results alone, and its checkpoint in the thresholds."""
    file = path.with_name(thresholds.FILE_NAME)
    checkpoint = Thresholds.read(file).checkpoint if file.exists() else None
    step = checkpoint.step if checkpoint else None
    if checkpoint:
        _require_own(run, checkpoint)
    counts = [line.get("num_images") for line in run.history.evaluations if line["step"] == step]
    source_ids = [truth.source_id for truth in truths]
    return checkpoint, read_coco(path, source_ids[: counts[-1] if counts else None])


def _require_own(run: StoredRun, checkpoint: Identity) -> None:
    """Raises UserError where `--ckpt` brought another's weights into the folder `eval`.

    The run may have been moved, and the checkpoint may be gone: it is known by its evaluation.
    """
    if checkpoint.step not in [line["step"] for line in run.history.evaluations]:
        raise UserError(
            f"{run.name}: the last evaluation was of {checkpoint}, which is none that it logged: "
            "run --mode=eval again, without --ckpt"
        )


def _common(
    found: Mapping[str, tuple[Identity | None, Sequence[FrameDetections]]],
    truths: Sequence[FrameTruth],
    notes: list[str],
) -> list[FrameTruth]:
    """The frames that every run was evaluated on."""
    sets = [{frame.source_id for frame in frames} for _, frames in found.values()]
    common = set.intersection(*sets) if sets else set()
    if sets and any(one != common for one in sets):
        sizes = ", ".join(f"{name} {len(one):,}" for name, one in zip(found, sets, strict=True))
        notes.append(
            f"the runs were evaluated on different numbers of frames ({sizes}): compared are the "
            f"{len(common):,} that all have"
        )
    return [truth for truth in truths if truth.source_id in common]


def _drives(truths: Sequence[FrameTruth]) -> list[str | None]:
    """The drive of each frame; None throughout where these are not KITTI's images."""
    sizes = {truth.source_id: (truth.width, truth.height) for truth in truths}
    is_kitti = looks_like_kitti(sizes)
    return [drive_of(source_id) if is_kitti else None for source_id in sizes]
