"""Images -> detections: the network with its post-processing, compiled once."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from efficientdet import backend
from efficientdet.config import Config
from efficientdet.evaluation.frames import FrameDetections
from efficientdet.model import losses, targets
from efficientdet.model.anchors import Anchors
from efficientdet.model.postprocess import postprocess

EVAL_NMS_INPUTS = 5000  # (anchor, class) pairs that AutoML's evaluation keeps before NMS


class Detector:
    """A model with its post-processing.

    Args:
        model: from `build_detector`.
        config: as the model was built with; `max_nms_inputs=0` becomes AutoML's 5000 of evaluation.

    Attributes:
        values: (trainables, non-trainables) to run with; at first the model's own. The trainer sets
            its averages here, without touching the weights that it trains.
    """

    def __init__(self, model: keras.Model, config: Config):
        nms = dataclasses.replace(
            config.nms_configs, max_nms_inputs=config.nms_configs.max_nms_inputs or EVAL_NMS_INPUTS
        )
        self._model, self._config = model, dataclasses.replace(config, nms_configs=nms)
        self.values = _values_of(model)
        self._anchors = Anchors(config).boxes
        self._detect = backend.compile_pure(self._pure_detect)
        self._evaluate = backend.compile_pure(self._pure_evaluate)

    def detect(self, batch: Mapping[str, np.ndarray]) -> list[FrameDetections]:
        """Detections of a batch: `images`, `image_scale`, `original_hw`, `source_id` (`valid`)."""
        found = self._detect(
            *self.values, np.asarray(batch["images"]), np.asarray(batch["image_scale"])
        )
        return _frames(found, batch)

    def evaluate(
        self, batch: Mapping[str, np.ndarray]
    ) -> tuple[list[FrameDetections], dict[str, float]]:
        """Detections, and the sums of the losses over the valid images with `num_positives`."""
        keys = ("images", "image_scale", "boxes", "classes", "valid")
        found, sums = self._evaluate(*self.values, *(np.asarray(batch[key]) for key in keys))
        return _frames(found, batch), {key: float(value) for key, value in sums.items()}

    def _outputs(self, trainables: list, statistics: list, images: Any) -> tuple[list, list]:
        outputs, _ = self._model.stateless_call(trainables, statistics, images, training=False)
        return outputs

    def _pure_detect(self, trainables: list, statistics: list, images: Any, scale: Any) -> Any:
        outputs = self._outputs(trainables, statistics, images)
        return postprocess(*outputs, self._anchors, scale, config=self._config)

    def _pure_evaluate(
        self, trainables: list, statistics: list, images: Any, scale: Any,
        boxes: Any, classes: Any, valid: Any,
    ) -> tuple[Any, dict[str, Any]]:  # fmt: skip
        outputs = self._outputs(trainables, statistics, images)
        assigned = targets.assign(self._anchors, boxes, classes, config=self._config)
        # The rows that fill up the last batch must not count as background.
        assigned = assigned._replace(
            classes=ops.where(valid[:, None], assigned.classes, targets.IGNORED)
        )
        sums = losses.detection_loss(
            outputs, assigned, self._anchors, config=self._config, normaliser=1.0
        )
        sums["num_positives"] = ops.sum(assigned.num_positives)
        return postprocess(*outputs, self._anchors, scale, config=self._config), sums


def _values_of(model: keras.Model) -> tuple[list, list]:
    return (
        [ops.convert_to_tensor(v.value) for v in model.trainable_variables],
        [ops.convert_to_tensor(v.value) for v in model.non_trainable_variables],
    )


def _frames(found: Any, batch: Mapping[str, np.ndarray]) -> list[FrameDetections]:
    boxes, scores, classes, num_valid = (ops.convert_to_numpy(x) for x in found)
    valid = batch.get("valid", np.ones(len(boxes), bool))
    frames = []
    for i in np.flatnonzero(valid):
        n = int(num_valid[i])
        height, width = batch["original_hw"][i]
        # Labels end at the last pixel of the image; so must what is compared with them.
        limits = np.array([width, height, width, height], np.float64) - 1
        frames.append(
            FrameDetections(
                _text(batch["source_id"][i]),
                np.clip(boxes[i, :n][:, [1, 0, 3, 2]], 0, limits),  # network order -> KITTI order
                scores[i, :n],
                classes[i, :n],
            )
        )
    return frames


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
