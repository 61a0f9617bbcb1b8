"""Images -> detections: the network with its post-processing, compiled once."""

import dataclasses
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from efficientdet import backend
from efficientdet.checkpoint.class_rows import ClassMode
from efficientdet.checkpoint.restore import restore
from efficientdet.checkpoint.trained_with import check_input
from efficientdet.config import Config
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UserError
from efficientdet.evaluation.frames import FrameDetections
from efficientdet.inference.precision import compute_policy, explain_precision
from efficientdet.model import losses, targets
from efficientdet.model.anchors import Anchors
from efficientdet.model.detector import build_detector
from efficientdet.model.postprocess import postprocess
from efficientdet.model.roles import IGNORE, PADDING

logger = logging.getLogger(__name__)

EVAL_NMS_INPUTS = 5000  # (anchor, class) pairs that AutoML's evaluation keeps before NMS

Batch = Mapping[str, np.ndarray]


class Detector:
    """A model with its post-processing.

    A batch for which memory runs out is halved and done again, as are all that follow. No result
    depends on that: each image has its own, and sums are sums.

    Args:
        model: from `build_detector`; to start from a checkpoint, see `load_detector`.
        config: as the model was built with; `max_nms_inputs=0` becomes AutoML's 5000 of evaluation.

    Attributes:
        model: the network.
        values: (trainables, non-trainables) to run with; at first the model's own. The trainer sets
            its averages here, without touching the weights that it trains.
    """

    def __init__(self, model: keras.Model, config: Config):
        self.model, self._config = model, with_evaluation_nms(config)
        self.values = _values_of(model)
        self._most: int | None = None  # images at once
        self._anchors = Anchors(config).boxes
        self._detect = backend.compile_pure(self._pure_detect)
        self._evaluate = backend.compile_pure(self._pure_evaluate)

    def load(
        self,
        path: str | Path,
        label_map: LabelMap | None = None,
        classes: ClassMode = "auto",
    ) -> None:
        """Takes the weights of the checkpoint at `path`, averages first; see `restore`.

        Raises:
            UserError: a part would keep its random weights, or the images would be scaled otherwise
                than those it was trained on: every figure would mean nothing.
        """
        check_input(str(path), self._config)
        report = restore(self.model, str(path), self._config, label_map=label_map, classes=classes)
        report.require_complete()
        self.values = _values_of(self.model)
        logger.info(report.line())

    def detect(self, batch: Batch) -> list[FrameDetections]:
        """Detections of a batch: `images`, `image_scale`, `original_hw`, `source_id` (`valid`).

        Raises:
            UserError: not even one image fits the memory.
        """
        ((_, frames),) = self.detect_each([batch])
        return frames

    def detect_each(
        self, batches: Iterable[Batch]
    ) -> Iterator[tuple[Batch, list[FrameDetections]]]:
        """(batch, what `detect` finds in it) of each; the next one runs while one is looked at."""
        for batch, parts in self._each(self._detect, ("images", "image_scale"), batches):
            yield batch, [frame for part, found in parts for frame in to_frames(found, part)]

    def evaluate(self, batch: Batch) -> tuple[list[FrameDetections], dict[str, float]]:
        """Detections, and the sums of the losses over the valid images with `num_positives`.

        Raises:
            UserError: not even one image fits the memory.
        """
        ((_, frames, sums),) = self.evaluate_each([batch])
        return frames, sums

    def evaluate_each(
        self, batches: Iterable[Batch]
    ) -> Iterator[tuple[Batch, list[FrameDetections], dict[str, float]]]:
        """(batch, what `evaluate` returns) of each; the next one runs while one is looked at."""
        keys = ("images", "image_scale", "boxes", "classes", "valid")
        for batch, parts in self._each(self._evaluate, keys, batches):
            frames: list[FrameDetections] = []
            sums: dict[str, float] = {}
            for part, (found, losses_of_part) in parts:
                frames += to_frames(found, part)
                for key, value in losses_of_part.items():
                    sums[key] = sums.get(key, 0.0) + float(value)
            yield batch, frames, sums

    def _each(
        self, compiled: Callable[..., Any], keys: tuple[str, ...], batches: Iterable[Batch]
    ) -> Iterator[tuple[Batch, Iterator[tuple[Batch, Any]]]]:
        """(batch, its parts with what `compiled` makes of their `keys`) of each.

        A device that works by itself has the next batch before the host waits for this one.
        """
        running: deque[tuple[Batch, Any]] = deque()
        for batch in batches:
            ahead = backend.runs_ahead()
            started = self._start_beside(compiled, keys, batch) if ahead else None
            running.append((batch, started))
            if len(running) > ahead:
                yield running[0][0], self._in_parts(compiled, keys, *running.popleft())
        for batch, started in running:
            yield batch, self._in_parts(compiled, keys, batch, started)

    def _start_beside(
        self, compiled: Callable[..., Any], keys: tuple[str, ...], batch: Batch
    ) -> tuple[Batch, Any] | None:
        """`_start`; None where memory ran out: the batch has another turn, with none beside it."""
        try:
            return self._start(compiled, keys, batch)
        except Exception as error:
            if not backend.is_out_of_memory(error):
                raise
        return None

    def _start(
        self, compiled: Callable[..., Any], keys: tuple[str, ...], batch: Batch, done: int = 0
    ) -> tuple[Batch, Any]:
        """(rows of the batch from `done` on, what `compiled` makes of them, maybe under way)."""
        rows = slice(done, done + (self._most or len(batch["images"])))
        part = {key: np.asarray(value)[rows] for key, value in batch.items()}
        return part, compiled(*self.values, *(part[key] for key in keys))

    def _in_parts(
        self, compiled: Callable[..., Any], keys: tuple[str, ...], batch: Batch, started: Any
    ) -> Iterator[tuple[Batch, Any]]:
        """(part of the batch, what `compiled` makes of its `keys`) until all images are done.

        Args:
            started: the first part, where it was.
        """
        done, count = 0, len(batch["images"])
        while done < count:
            size = len(started[0]["images"]) if started else min(self._most or count, count - done)
            try:
                part, result = started or self._start(compiled, keys, batch, done)
                # As numpy: JAX reports an error no sooner than then.
                result = keras.tree.map_structure(ops.convert_to_numpy, result)
            except Exception as error:
                if not backend.is_out_of_memory(error):
                    raise
                started = None
                if not self._most or size <= self._most:  # else halved since it was started
                    self._halve(size)
                continue
            yield part, result
            done, started = done + size, None

    def _halve(self, size: int) -> None:
        if size == 1:
            width, height = reversed(self._config.image_hw)
            raise UserError(
                f"out of memory with a single image of {width}x{height} in {self._config.name}: "
                "free the device of other programs (nvidia-smi lists them), or take a smaller "
                "image_size or model"
            )
        self._most = size // 2
        logger.info(f"out of memory with {size} images at once: going on with {self._most}")

    def _outputs(self, trainables: list, statistics: list, images: Any) -> tuple[list, list]:
        outputs, _ = self.model.stateless_call(trainables, statistics, images, training=False)
        return outputs

    def _pure_detect(self, trainables: list, statistics: list, images: Any, scale: Any) -> Any:
        outputs = self._outputs(trainables, statistics, images)
        return postprocess(*outputs, self._anchors, scale, config=self._config)

    def _pure_evaluate(
        self, trainables: list, statistics: list, images: Any, scale: Any,
        boxes: Any, classes: Any, valid: Any,
    ) -> tuple[Any, dict[str, Any]]:  # fmt: skip
        outputs = self._outputs(trainables, statistics, images)
        # What lies in the rows that fill up the last batch counts neither as object nor background.
        classes = ops.where(valid[:, None], classes, PADDING)
        assigned = targets.assign(self._anchors, boxes, classes, config=self._config)
        assigned = assigned._replace(classes=ops.where(valid[:, None], assigned.classes, IGNORE))
        sums = losses.detection_loss(
            outputs, assigned, self._anchors, config=self._config, normaliser=1.0
        )
        sums["num_positives"] = ops.sum(assigned.num_positives)
        return postprocess(*outputs, self._anchors, scale, config=self._config), sums


def load_detector(
    config: Config,
    path: str | Path,
    label_map: LabelMap | None = None,
    classes: ClassMode = "auto",
) -> Detector:
    """A detector of `config` with the weights at `path`; mixed precision where the device gains.

    Args:
        label_map, classes: see `checkpoint.class_rows.match_classes`.

    Raises:
        UserError: see `Detector.load`.
    """
    explain_precision(config)
    keras.config.set_dtype_policy(compute_policy(config))
    detector = Detector(build_detector(config), config)
    detector.load(path, label_map, classes)
    return detector


def _values_of(model: keras.Model) -> tuple[list, list]:
    return (
        [ops.convert_to_tensor(v.value) for v in model.trainable_variables],
        [ops.convert_to_tensor(v.value) for v in model.non_trainable_variables],
    )


def with_evaluation_nms(config: Config) -> Config:
    """`config` with the number of NMS inputs that AutoML's evaluation has, where it has none."""
    nms = config.nms_configs
    nms = dataclasses.replace(nms, max_nms_inputs=nms.max_nms_inputs or EVAL_NMS_INPUTS)
    return dataclasses.replace(config, nms_configs=nms)


def to_frames(found: Any, batch: Batch) -> list[FrameDetections]:
    """`Detections` as numpy arrays -> those of each valid row of `batch`, in KITTI's order."""
    boxes, scores, classes, num_valid = found
    valid = batch.get("valid", np.ones(len(boxes), bool))
    frames = []
    for i in np.flatnonzero(valid):
        n = int(num_valid[i])
        height, width = batch["original_hw"][i]
        # Labels end at the last pixel of the image; so must what is compared with them.
        limits = np.array([width, height, width, height], np.float64) - 1
        frames.append(
            FrameDetections(
                text_of(batch["source_id"][i]),
                np.clip(boxes[i, :n][:, [1, 0, 3, 2]], 0, limits),  # network order -> KITTI order
                scores[i, :n],
                classes[i, :n],
            )
        )
    return frames


def text_of(value: Any) -> str:
    """A source_id of a batch as text."""
    return value.decode() if isinstance(value, bytes) else str(value)
