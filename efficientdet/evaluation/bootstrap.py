"""How sure a metric is: resampling the drives (Efron 1979), without matching anything again.

Frames of one drive show the same street, often the same objects: they are drawn together, or the
intervals come out too narrow. A frame whose drive is not known is drawn by itself.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UsageError
from efficientdet.evaluation import coco, kitti
from efficientdet.evaluation.evaluate import coco_class_metrics
from efficientdet.evaluation.frames import FrameDetections, FrameTruth, align
from efficientdet.evaluation.kitti_table import MODERATE_MEAN, kitti_metrics
from efficientdet.progress import track

_SIZES = {"APs": 1, "APm": 2, "APl": 3}


@dataclass(frozen=True)
class Interval:
    """The middle 95 % of a metric over resampled drives; NaN where nothing can be said."""

    low: float
    high: float

    @classmethod
    def of(cls, samples: np.ndarray) -> "Interval":
        """The percentiles 2.5 and 97.5, leaving out samples in which there was nothing to find."""
        if np.isnan(samples).all():
            return cls(np.nan, np.nan)
        low, high = np.nanpercentile(samples, (2.5, 97.5))
        return cls(float(low), float(high))


def resampled(groups: Sequence[str | None]) -> str:
    """What `samples` draws, in words that belong beside every interval: `45 drives`."""
    num_drives, num_single = len({*groups} - {None}), list(groups).count(None)
    drives = "1 drive, too few for an interval" if num_drives == 1 else f"{num_drives} drives"
    if not num_single:
        return drives
    single = f"{num_single} single frames (of no known drive: too narrow if they are neighbours)"
    return f"{num_drives} drives and {single}" if num_drives else single


def intervals(
    truths: Sequence[FrameTruth],
    detections: Iterable[FrameDetections],
    label_map: LabelMap,
    metrics: Sequence[str],
    groups: Sequence[str | None],
    n: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """95 % intervals of chosen metrics; arguments as in `samples`."""
    values = samples(truths, detections, label_map, metrics, groups, n, seed)
    return {name: Interval.of(values[name]) for name in metrics}


def samples(
    truths: Sequence[FrameTruth],
    detections: Iterable[FrameDetections],
    label_map: LabelMap,
    metrics: Sequence[str],
    groups: Sequence[str | None],
    n: int = 1000,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Each metric on `n` sets of as many drives, drawn with repetition, each with all its frames.

    The same seed draws the same drives, so that the difference of two detectors on the same truths
    has the interval `Interval.of(samples_b[name] - samples_a[name])`.

    Args:
        metrics: tags of `Result.metrics`: COCO's precisions (no recalls) and KITTI's.
        groups: of each frame, the drive that it is from, or None where that is not known.

    Returns:
        float [n] for each metric; NaN in samples without ground truth, and everywhere when there
        is but one drive.

    Raises:
        UsageError: a metric that cannot be resampled, or that these frames do not have.
    """
    detections = align(truths, detections)
    draw = _resampler(truths, detections, label_map, metrics)
    if unknown := set(metrics) - set(draw(np.arange(len(truths)))):
        raise UsageError(
            f"{min(unknown)}: no metric that can be resampled here; expected tags such as AP50, "
            "AP_/Car, kitti/Car_moderate_R40 or kitti/moderate_R40, of what has ground truth"
        )
    values = np.full((n, len(metrics)), np.nan)
    units, generator = _units(groups), np.random.default_rng(seed)
    if len(units) == 1:
        return dict(zip(metrics, values.T, strict=True))
    for row in track(values, "Bootstrap", shown=n >= 100):
        chosen = generator.integers(len(units), size=len(units))
        drawn = draw(np.concatenate([units[unit] for unit in chosen]))
        row[:] = [drawn.get(name, np.nan) for name in metrics]
    return dict(zip(metrics, values.T, strict=True))


def _units(groups: Sequence[str | None]) -> list[np.ndarray]:
    """What is drawn as one: the frames (indices) of a drive, or a frame of no known drive."""
    frames: dict[str | int, list[int]] = {}
    for index, group in enumerate(groups):
        frames.setdefault(index if group is None else group, []).append(index)
    return [np.array(indices) for indices in frames.values()]


def _resampler(
    truths: Sequence[FrameTruth],
    detections: Sequence[FrameDetections],
    label_map: LabelMap,
    metrics: Sequence[str],
) -> Callable[[np.ndarray], dict[str, float]]:
    """A function from frames (indices, with repetition) to their metrics; matches once."""
    of_kitti = [name for name in metrics if name.startswith("kitti/")]
    sizes = sorted({_SIZES.get(name, 0) for name in metrics if name not in of_kitti})
    cells = kitti.match(truths, detections, label_map.names) if of_kitti else []
    cells = [cell for cell in cells if any(_needs(name, cell) for name in of_kitti)]
    matching = coco.match(truths, detections, label_map) if sizes else None

    def draw(frames: np.ndarray) -> dict[str, float]:
        weights = np.bincount(frames, minlength=len(truths))
        values = kitti_metrics([cell.curve(weights) for cell in cells])
        if matching:
            precision = matching.precision(weights=weights, sizes=sizes)
            values |= coco.average_precisions(precision)
            values |= coco_class_metrics(precision, label_map)
        return {name: value for name, value in values.items() if not np.isnan(value)}

    return draw


def _needs(metric: str, cell: kitti.Cell) -> bool:
    """Whether one of KITTI's metrics is made of this cell."""
    difficulty = cell.difficulty.name
    if metric == MODERATE_MEAN:
        return difficulty == "moderate"
    return f"/{cell.class_name}_{difficulty}_" in metric
