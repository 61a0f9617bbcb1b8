"""NMS of a TFLite file: LiteRT's own operation, which knows soft NMS.

A loop, as in `model.postprocess`, would be a second graph in the file: task tools want one.
"""

import numpy as np

from efficientdet.deploy.serving import Outputs, Serving
from efficientdet.model.postprocess import candidates, least_score
from efficientdet.tensorflow_device import tf


def detect(
    serving: Serving, classes: list[tf.Tensor], boxes: list[tf.Tensor], sides: np.ndarray
) -> Outputs:
    """The detections of one image that `postprocess` finds, as `tflite_metadata` says.

    NMS runs once for each class; the best of all are the same as of one run over all classes.

    Args:
        classes, boxes: the network's outputs.
        sides: float32 [1, 2], of the input (y, x).
    """
    config = serving.config
    boxes, scores, classes = candidates(classes, boxes, serving.anchors, config=config)
    boxes, scores, classes = (boxes / np.tile(sides, 2))[0], scores[0], classes[0]
    found = [
        _of_class(boxes, tf.where(classes == index, scores, -np.inf), serving)
        for index in range(config.num_classes)
    ]
    rows, scores = (tf.concat(parts, 0) for parts in zip(*found, strict=True))
    scores, best = tf.math.top_k(scores, config.nms_configs.max_output_size)
    rows, valid = tf.gather(rows, best), tf.cast(scores > 0, tf.float32)
    return {
        "boxes": (tf.gather(boxes, rows) * valid[:, None])[None],
        "classes": (tf.cast(tf.gather(classes, rows), tf.float32) * valid)[None],
        "scores": scores[None],
        "count": tf.reduce_sum(valid)[None],
    }


def _of_class(boxes: tf.Tensor, scores: tf.Tensor, serving: Serving) -> tuple[tf.Tensor, tf.Tensor]:
    """Rows int32 [D] and scores [D] that NMS leaves of the candidates; 0 from the last one on."""
    nms = serving.config.nms_configs
    soft = nms.method == "gaussian"
    found = tf.raw_ops.NonMaxSuppressionV5(
        boxes=boxes,
        scores=scores,
        max_output_size=nms.max_output_size,
        iou_threshold=1.0 if soft else nms.iou_thresh or 0.5,
        score_threshold=least_score(nms),
        # There exp(-iou^2 / 2 sigma), here exp(-iou^2 / sigma).
        soft_nms_sigma=(nms.sigma or 0.5) / 2 if soft else 0.0,
        pad_to_max_output_size=True,
    )
    return found.selected_indices, found.selected_scores
