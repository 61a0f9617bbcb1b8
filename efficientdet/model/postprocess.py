"""From the network's outputs to detections: candidates, decoding, hard or soft NMS.

Everything is batched and runs where the network runs. An image's detections do not depend on what
else is in its batch.
"""

import math
from typing import Any, Literal, NamedTuple

from keras import ops

from efficientdet.config import Config, NmsConfig
from efficientdet.model.anchors import decode
from efficientdet.model.losses import flatten

Tensor = Any


class Detections(NamedTuple):
    """Detections of a batch, best first; rows from `num_valid` on are 0."""

    boxes: Tensor  # float32 [B, D, 4] ymin, xmin, ymax, xmax in pixels of the original image
    scores: Tensor  # float32 [B, D] in 0..1
    classes: Tensor  # int32 [B, D], 1..K
    num_valid: Tensor  # int32 [B]


def postprocess(
    cls_outputs: list[Tensor],
    box_outputs: list[Tensor],
    anchors: Tensor,
    image_scale: Tensor,
    *,
    config: Config,
    mode: Literal["per_class", "global"] = "per_class",
) -> Detections:
    """Detections of a batch, as `config.nms_configs` says.

    Args:
        cls_outputs: one [B, h, w, anchors * K] of logits for each level.
        box_outputs: one [B, h, w, anchors * 4] of (ty, tx, th, tw) for each level.
        anchors: float32 [A, 4] in input pixels.
        image_scale: float32 [B, 2] (y, x), input pixels -> original pixels.
        mode: `per_class` suppresses within a class and leaves boxes as they are; `global`
            suppresses whatever the class, and clips to the input in the end. As AutoML has them.
    """
    boxes, scores, classes = candidates(cls_outputs, box_outputs, anchors, config=config)
    groups = classes if mode == "per_class" else ops.zeros_like(classes)
    found = _detections(boxes, scores, classes, groups, config)
    boxes = found.boxes
    if mode == "global":
        boxes = ops.clip(boxes, 0.0, ops.cast(config.image_hw * 2, "float32"))
    return found._replace(boxes=to_original(boxes, image_scale))


def select(boxes: Tensor, scores: Tensor, *, config: Config) -> Detections:
    """What `postprocess` does after decoding: for a network that was exported without it.

    Args:
        boxes: float32 [B, A, 4] of all anchors, in whatever unit.
        scores: float32 [B, A, K], the sigmoids of the logits.

    Returns:
        Detections with boxes in that unit.
    """
    scores, classes, boxes, _ = _candidates(
        scores, boxes, boxes[0], config.nms_configs.max_nms_inputs
    )
    return _detections(boxes, scores, classes, classes, config)


def candidates(
    cls_outputs: list[Tensor], box_outputs: list[Tensor], anchors: Tensor, *, config: Config
) -> tuple[Tensor, Tensor, Tensor]:
    """What NMS chooses from, best first where `max_nms_inputs` says how many.

    Returns:
        boxes float32 [B, N, 4] in input pixels, scores float32 [B, N], classes int32 [B, N] from 0.
    """
    logits, codes = flat_outputs(cls_outputs, box_outputs, config)
    logits, classes, codes, anchors = _candidates(
        logits, codes, ops.convert_to_tensor(anchors), config.nms_configs.max_nms_inputs
    )
    return decode(codes, anchors), ops.sigmoid(logits), classes


def flat_outputs(
    cls_outputs: list[Tensor], box_outputs: list[Tensor], config: Config
) -> tuple[Tensor, Tensor]:
    """The outputs of all levels as logits float32 [B, A, K] and box codes float32 [B, A, 4]."""
    logits = ops.cast(flatten(cls_outputs, config.num_classes), "float32")
    return logits, ops.cast(flatten(box_outputs, 4), "float32")


def _detections(
    boxes: Tensor, scores: Tensor, classes: Tensor, groups: Tensor, config: Config
) -> Detections:
    """The candidates [B, N] that NMS within `groups` leaves, in the unit of `boxes`."""
    rows, scores = _suppress(boxes, scores, groups, config.nms_configs)
    valid = rows >= 0
    rows = ops.maximum(rows, 0)
    boxes = ops.take_along_axis(boxes, rows[..., None], axis=1)
    return Detections(
        ops.where(valid[..., None], boxes, 0.0),
        scores,
        ops.where(valid, ops.take_along_axis(classes, rows, axis=1) + 1, 0),
        ops.sum(ops.cast(valid, "int32"), axis=1),
    )


def to_original(boxes: Tensor, image_scale: Tensor) -> Tensor:
    """Boxes [B, N, 4] of the input in pixels of the original; `image_scale` [B, 2] is (y, x)."""
    return boxes * ops.concatenate([image_scale, image_scale], axis=1)[:, None]


def _candidates(
    logits: Tensor, codes: Tensor, anchors: Tensor, max_nms_inputs: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The best (anchor, class) pairs, or the best class of every anchor if `max_nms_inputs` is 0.

    Returns:
        logits [B, N], classes int32 [B, N] from 0, box codes [B, N, 4], anchors [B or 1, N, 4].
    """
    _, num_anchors, num_classes = logits.shape
    if max_nms_inputs == 0:
        classes = ops.cast(ops.argmax(logits, axis=2), "int32")
        return ops.max(logits, axis=2), classes, codes, anchors[None]
    pairs = ops.reshape(logits, (-1, num_anchors * num_classes))
    best, index = ops.top_k(pairs, min(max_nms_inputs, num_anchors * num_classes))
    index = ops.cast(index, "int32")
    rows = index // num_classes
    codes = ops.take_along_axis(codes, rows[..., None], axis=1)
    return best, index % num_classes, codes, ops.take(anchors, rows, axis=0)


def least_score(nms: NmsConfig) -> float:
    """A detection's score is above it."""
    return nms.score_thresh or (0.001 if nms.method == "gaussian" else -math.inf)


def _suppress(
    boxes: Tensor, scores: Tensor, groups: Tensor, nms: NmsConfig
) -> tuple[Tensor, Tensor]:
    """Greedy NMS: again and again takes the best candidate and lowers those of its group near it.

    Soft NMS (Bodla et al. 2017, eq. 4) multiplies a score by exp(-iou^2 / sigma); hard NMS strikes
    out whatever overlaps by more than `iou_thresh`. As scores only fall, one run over all groups
    gives the best `max_output_size` of what each group's own run would give.

    Args:
        boxes: float32 [B, N, 4].
        scores: float32 [B, N].
        groups: int32 [B, N]; only candidates of the same group suppress each other.

    Returns:
        Rows of the detections int32 [B, D], best first, -1 for none; their scores, 0 for none.
    """
    soft, threshold = nms.method == "gaussian", least_score(nms)
    ymin, xmin, ymax, xmax = (boxes[..., side] for side in range(4))
    area = (ymax - ymin) * (xmax - xmin)
    columns = ops.arange(boxes.shape[1], dtype="int32")
    slots = ops.arange(nms.max_output_size, dtype="int32")

    def of_best(values: Tensor, best: Tensor) -> Tensor:
        return ops.take_along_axis(values, best, axis=1)

    def body(step: Tensor, state: tuple) -> tuple:
        live, rows, kept = state
        # Not argmax: for -0.0, Keras' casts bits, which ONNX cannot.
        score, best = ops.top_k(live, 1)
        best = ops.cast(best, "int32")
        height = ops.minimum(ymax, of_best(ymax, best)) - ops.maximum(ymin, of_best(ymin, best))
        width = ops.minimum(xmax, of_best(xmax, best)) - ops.maximum(xmin, of_best(xmin, best))
        overlap = ops.relu(height) * ops.relu(width)
        overlap = ops.where(groups == of_best(groups, best), overlap, 0.0)
        union = area + of_best(area, best) - overlap
        iou = ops.where(overlap > 0, overlap / union, 0.0)
        if soft:
            live = live * ops.exp(-ops.square(iou) / (nms.sigma or 0.5))
        else:
            live = ops.where(iou > (nms.iou_thresh or 0.5), -math.inf, live)
        live = ops.where(columns == best, -math.inf, live)
        here = (slots == step) & (score > threshold)
        return live, ops.where(here, best, rows), ops.where(here, score, kept)

    shape = (ops.shape(scores)[0], nms.max_output_size)
    state = scores, -ops.ones(shape, "int32"), ops.zeros(shape, "float32")
    _, rows, kept = ops.fori_loop(0, nms.max_output_size, body, state)
    return rows, kept
