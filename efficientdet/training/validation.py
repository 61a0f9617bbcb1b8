"""One evaluation: the network over all validation records, losses, both metrics, a picture."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.progress import track

from efficientdet.config import Config
from efficientdet.dataset.label_map import LabelMap
from efficientdet.evaluation.evaluate import Result, evaluate
from efficientdet.evaluation.frames import FrameDetections, FrameTruth
from efficientdet.inference import Detector
from efficientdet.visualize.detections import draw_detections, draw_truth
from efficientdet.visualize.drawing import sheet

Batch = Mapping[str, np.ndarray]
STRIP_IMAGES = 6
STRIP_SCORE = 0.3


@dataclass(frozen=True)
class Evaluated:
    """What one evaluation found.

    Attributes:
        metrics: name -> value, the losses as `val_cls_loss` and so on.
        strip: uint8 [H, W, 3]: the first images with predicted (solid) and true (dashed) boxes.
    """

    metrics: dict[str, float]
    result: Result
    detections: list[FrameDetections]
    strip: np.ndarray


class Validator:
    """Evaluates on one set of records; reads their ground truth once.

    Args:
        batches: makes an iterator over all validation batches, the last one filled up.
        truths: every frame of the records.
    """

    def __init__(
        self,
        batches: Callable[[], Iterable[Batch]],
        truths: Sequence[FrameTruth],
        *,
        num_batches: int,
        config: Config,
        label_map: LabelMap,
        console: Console,
    ):
        self._batches, self.truths, self._num_batches = batches, truths, num_batches
        self._config, self.label_map, self._console = config, label_map, console
        self._by_id = {truth.source_id: truth for truth in truths}

    def __call__(self, detector: Detector) -> Evaluated:
        """Runs `detector` over everything and scores it.

        Losses are sums over all images divided by all positives + 1: they do not depend on how the
        images were cut into batches.
        """
        detections: list[FrameDetections] = []
        sums: dict[str, float] = {}
        pictures: list[np.ndarray] = []
        for batch in self._tracked():
            found, losses = detector.evaluate(batch)
            detections += found
            sums = {key: sums.get(key, 0.0) + value for key, value in losses.items()}
            for image, frame in zip(batch["images"], found, strict=False):
                if len(pictures) < STRIP_IMAGES:
                    pictures.append(self._picture(image, frame, batch))
        result = evaluate(self.truths, detections, self.label_map)
        normaliser = sums.pop("num_positives") + 1.0
        losses = {f"val_{key}": value / normaliser for key, value in sums.items()}
        return Evaluated(result.metrics | losses, result, detections, sheet(pictures, columns=2))

    def _tracked(self) -> Iterator[Batch]:
        yield from track(
            self._batches(),
            total=self._num_batches,
            description="evaluating",
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )

    def _picture(self, image: np.ndarray, frame: FrameDetections, batch: Batch) -> np.ndarray:
        """The network's view of one frame with true (dashed) and predicted (solid) boxes."""
        ids = [i.decode() if isinstance(i, bytes) else str(i) for i in batch["source_id"]]
        row = ids.index(frame.source_id)
        scale = float(batch["image_scale"][row])
        height, width = (round(side / scale) for side in batch["original_hw"][row])
        mean, std = np.float32(self._config.mean_rgb), np.float32(self._config.stddev_rgb)
        pixels = np.clip(image[:height, :width] * std + mean, 0, 255).astype(np.uint8)
        pixels = draw_truth(pixels, self._by_id[frame.source_id], self.label_map, scale=scale)
        thresholds = dict.fromkeys(self.label_map.names, STRIP_SCORE)
        return draw_detections(pixels, frame, self.label_map, thresholds, scale=scale)
