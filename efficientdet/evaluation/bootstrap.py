"""How sure a metric is: resampling the frames (Efron 1979), without matching anything again."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.progress import track

from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UsageError
from efficientdet.evaluation import coco, kitti
from efficientdet.evaluation.evaluate import coco_class_metrics, kitti_metrics
from efficientdet.evaluation.frames import FrameDetections, FrameTruth, align

_SIZES = {"APs": 1, "APm": 2, "APl": 3}


@dataclass(frozen=True)
class Interval:
    """The middle 95 % of a metric over resampled frames."""

    low: float
    high: float

    @classmethod
    def of(cls, samples: np.ndarray) -> "Interval":
        """The percentiles 2.5 and 97.5, leaving out samples in which there was nothing to find."""
        low, high = np.nanpercentile(samples, (2.5, 97.5))
        return cls(float(low), float(high))


def intervals(
    truths: Sequence[FrameTruth],
    detections: Iterable[FrameDetections],
    label_map: LabelMap,
    metrics: Sequence[str],
    n: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """95 % intervals of chosen metrics; arguments as in `samples`."""
    values = samples(truths, detections, label_map, metrics, n, seed)
    return {name: Interval.of(values[name]) for name in metrics}


def samples(
    truths: Sequence[FrameTruth],
    detections: Iterable[FrameDetections],
    label_map: LabelMap,
    metrics: Sequence[str],
    n: int = 1000,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Each metric on `n` sets of as many frames, drawn with repetition.

    The same seed draws the same frames, so that the difference of two detectors on the same truths
    has the interval `Interval.of(samples_b[name] - samples_a[name])`.

    Args:
        metrics: tags of `Result.metrics`: COCO's precisions (no recalls) and KITTI's.

    Returns:
        float [n] for each metric; NaN in samples without ground truth.

    Raises:
        UsageError: a metric that cannot be resampled, or that these frames do not have.
    """
    detections = align(truths, detections)
    draw = _resampler(truths, detections, label_map, metrics)
    if unknown := set(metrics) - set(draw(np.arange(len(truths)))):
        raise UsageError(
            f"{min(unknown)}: no metric that can be resampled here; expected tags such as AP50, "
            "APs, AP_/Car or kitti/Car_moderate_R40, of classes that have ground truth"
        )
    generator = np.random.default_rng(seed)
    values = np.full((n, len(metrics)), np.nan)
    console = Console(stderr=True)
    hidden = n < 100 or not console.is_terminal
    for row in track(values, "Bootstrap", console=console, transient=True, disable=hidden):
        drawn = draw(generator.integers(len(truths), size=len(truths)))
        row[:] = [drawn.get(name, np.nan) for name in metrics]
    return dict(zip(metrics, values.T, strict=True))


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
    cells = [
        c for c in cells if any(f"/{c.class_name}_{c.difficulty.name}_" in m for m in of_kitti)
    ]
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
