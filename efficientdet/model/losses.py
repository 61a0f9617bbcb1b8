"""Training losses: focal for classes, Huber and the IoU family for boxes, L2 for kernels.

All in float32, and all sums divided by a normaliser that is passed in: the losses of micro-batches
add up to the loss of the whole batch.
"""

import math
import re
from collections.abc import Iterable
from typing import Any

from keras import ops

from efficientdet import cpu_kernels
from efficientdet.config import Config
from efficientdet.errors import UsageError
from efficientdet.model.anchors import decode
from efficientdet.model.roles import IGNORE
from efficientdet.model.targets import Targets

Tensor = Any


def flatten(outputs: list[Tensor], channels: int) -> Tensor:
    """Per-level maps [B, h, w, anchors * channels] as one [B, A, channels], in anchor order."""

    def flat(output: Tensor) -> Tensor:
        rows = math.prod(output.shape[1:]) // channels
        return ops.reshape(output, (-1, rows, channels))

    return ops.concatenate([flat(output) for output in outputs], axis=1)


def normaliser(
    num_positives: Tensor, config: Config, moving: Tensor = 0.0
) -> tuple[Tensor, Tensor]:
    """What the losses of a whole batch are divided by: its positive anchors, plus one.

    With `positives_momentum` the count is a moving average, so that a batch of one or two images
    with few objects does not make a huge step.

    Args:
        num_positives: float32 [B], of the whole effective batch (all micro-batches and replicas).
        moving: float32 scalar, the moving average so far; 0 at the start of a run.

    Returns:
        (normaliser, the new moving average), float32 scalars.
    """
    count = ops.sum(num_positives)
    momentum = config.positives_momentum or 0.0
    # The first count starts the average: from 0 the first losses would be a hundred times too big.
    average = ops.where(moving > 0, momentum * moving + (1 - momentum) * count, count)
    return average + 1.0, average


def loss_names(config: Config) -> tuple[str, ...]:
    """The keys of what `detection_loss` returns; they are known before anything is computed."""
    return (*_term_weights(config), "det_loss")


def detection_loss(
    outputs: tuple[list[Tensor], list[Tensor]],
    targets: Targets,
    anchors: Tensor,
    *,
    config: Config,
    normaliser: Tensor,
) -> dict[str, Tensor]:
    """Losses of one micro-batch, float32 scalars.

    An anchor's class loss counts by the `class_weights` of its target (Cui et al. 2019, section 4);
    background counts 1, an ignored anchor 0.

    Args:
        outputs: the network's, one [B, h, w, anchors * K] of logits and one [B, h, w, anchors * 4]
            of (ty, tx, th, tw) for each level.
        anchors: float32 [A, 4].
        normaliser: scalar of the whole batch, see `normaliser`.

    Returns:
        `cls_loss`, `box_loss`, `box_iou_loss` if configured, and `det_loss`, their weighted sum.
    """
    logits = ops.cast(flatten(outputs[0], config.num_classes), "float32")
    codes = ops.cast(flatten(outputs[1], 4), "float32")
    weights = ops.take(_class_weights(config), targets.classes - IGNORE, axis=0)
    focal = focal_loss(logits, targets.classes, config=config)
    huber = huber_loss(codes, targets.boxes, config.delta)
    losses = {
        "cls_loss": ops.sum(weights * focal) / normaliser,
        "box_loss": ops.sum(huber) / (4 * normaliser) if config.box_loss_weight else ops.zeros(()),
    }
    if config.iou_loss_type:
        positive = targets.positive
        # The code of a negative is 0 on both sides, so that no far-off box can make a NaN.
        predicted = decode(ops.where(positive[..., None], codes, 0.0), anchors)
        iou = iou_loss(predicted, decode(targets.boxes, anchors), config.iou_loss_type)
        losses["box_iou_loss"] = ops.sum(ops.where(positive, iou, 0.0)) / (4 * normaliser)
    terms = [weight * losses[name] for name, weight in _term_weights(config).items()]
    return losses | {"det_loss": sum(terms[1:], terms[0])}


def focal_loss(logits: Tensor, classes: Tensor, *, config: Config) -> Tensor:
    """Focal loss (Lin et al. 2017, eq. 5) of each logit, with alpha, gamma, label smoothing.

    Args:
        logits: float32 [..., K].
        classes: int [...], 0..K-1; a negative number is background.

    Returns:
        float32 [..., K]
    """

    def loss(logits: Tensor, classes: Tensor) -> Tensor:
        labels = ops.one_hot(classes, logits.shape[-1], dtype="float32")
        alpha = labels * config.alpha + (1 - labels) * (1 - config.alpha)
        # 1 - p_t is the probability of the other label; by its logarithm, it never underflows.
        other = ops.binary_crossentropy(1 - labels, logits, from_logits=True)
        smooth = labels * (1 - config.label_smoothing) + 0.5 * config.label_smoothing
        cross_entropy = ops.binary_crossentropy(smooth, logits, from_logits=True)
        return alpha * ops.exp(-config.gamma * other) * cross_entropy

    return cpu_kernels.one_loop(loss, logits, classes)


def huber_loss(codes: Tensor, targets: Tensor, delta: float) -> Tensor:
    """Huber loss of each element of a box code; as in AutoML, a target of exactly 0 has none."""
    error = ops.abs(codes - targets)
    near = ops.minimum(error, delta)
    return ops.where(targets != 0, near * (error - near / 2), 0.0)


def iou_loss(predicted: Tensor, target: Tensor, kind: str) -> Tensor:
    """1 - IoU, GIoU, DIoU or CIoU of each pair of boxes.

    Args:
        predicted: float32 [..., 4] ymin, xmin, ymax, xmax.
        target: float32 [..., 4], boxes of positive area.
        kind: `iou`, `giou` (Rezatofighi et al. 2019, algorithm 1), `diou` or `ciou`
            (Zheng et al. 2020, eq. 7 and 10).
    """
    predicted_size = ops.relu(predicted[..., 2:] - predicted[..., :2])
    target_size = target[..., 2:] - target[..., :2]
    top_left = ops.maximum(predicted[..., :2], target[..., :2])
    overlap = ops.minimum(predicted[..., 2:], target[..., 2:]) - top_left
    intersection = ops.prod(ops.relu(overlap), axis=-1)
    union = ops.prod(predicted_size, axis=-1) + ops.prod(target_size, axis=-1) - intersection
    iou = intersection / union
    if kind == "iou":
        return 1 - iou

    hull = ops.maximum(predicted[..., 2:], target[..., 2:])
    hull = hull - ops.minimum(predicted[..., :2], target[..., :2])
    if kind == "giou":
        hull_area = ops.prod(hull, axis=-1)
        return 1 - iou + (hull_area - union) / hull_area

    offset = (predicted[..., :2] + predicted[..., 2:] - target[..., :2] - target[..., 2:]) / 2
    diou = 1 - iou + ops.sum(offset**2, axis=-1) / ops.sum(hull**2, axis=-1)
    if kind == "diou":
        return diou

    angle = ops.arctan2(target_size[..., 1], target_size[..., 0])
    angle = angle - ops.arctan2(predicted_size[..., 1], predicted_size[..., 0])
    aspect = 4 / math.pi**2 * angle**2
    # A trade-off of two terms, not a term of its own: no gradient (eq. 11).
    trade_off = ops.stop_gradient(aspect / ops.maximum(1 - iou + aspect, 1e-7))
    return diou + trade_off * aspect


def l2_loss(named_variables: Iterable[tuple[str, Tensor]], config: Config) -> Tensor:
    """`reg_l2_loss`: weight_decay / 2 * sum of squares, over kernels and weights alone.

    Args:
        named_variables: (AutoML name, tensor) of the trainable variables. Names that end in
            `kernel` or `weight` count; biases, BatchNorm and fusion weights do not.
    """
    kernels = [tensor for name, tensor in named_variables if re.search("(kernel|weight)$", name)]
    squares = [ops.sum(ops.square(ops.cast(kernel, "float32"))) for kernel in kernels]
    return config.weight_decay / 2 * sum(squares)


def _term_weights(config: Config) -> dict[str, float]:
    """Name of each term of `det_loss` -> its weight; a new term is named here and nowhere else."""
    weights = {"cls_loss": 1.0, "box_loss": config.box_loss_weight}
    return weights | ({"box_iou_loss": config.iou_loss_weight} if config.iou_loss_type else {})


def _class_weights(config: Config) -> Tensor:
    """Weight [K + 2, 1] of an anchor by its target class - IGNORE: ignored, background, classes."""
    weights = config.class_weights or [1.0] * config.num_classes
    if len(weights) != config.num_classes:
        raise UsageError(
            f"class_weights={weights}: {len(weights)} values, expected one for each of the "
            f"{config.num_classes} classes"
        )
    return ops.convert_to_tensor([[0.0], [1.0], *([weight] for weight in weights)], "float32")
