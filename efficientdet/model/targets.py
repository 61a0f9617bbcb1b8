"""What each anchor should predict: classes and box codes, from the boxes of a batch.

Matching as in SSD and RetinaNet: an anchor takes the object with which its IoU is greatest, if that
is at least 0.5, and every object takes its best anchor, whatever the IoU.
"""

from typing import Any, NamedTuple

from keras import ops

from efficientdet import backend
from efficientdet.config import Config
from efficientdet.model.anchors import encode
from efficientdet.model.roles import BACKGROUND, IGNORE

Tensor = Any

MATCH_IOU = 0.5


class Targets(NamedTuple):
    """Targets of a batch; A anchors in the order of `Anchors.boxes`."""

    classes: Tensor  # int32 [B, A]: class id - 1, or BACKGROUND, or IGNORE
    boxes: Tensor  # float32 [B, A, 4]: (ty, tx, th, tw); 0 where not positive
    num_positives: Tensor  # float32 [B]

    @property
    def positive(self) -> Tensor:
        """bool [B, A]: the anchor has an object."""
        return self.classes >= 0


def assign(anchors: Tensor, boxes: Tensor, classes: Tensor, *, config: Config) -> Targets:
    """Targets of every anchor, one image after the other, so that only [M, A] is ever in memory.

    An anchor without an object, of which more than `ignore_overlap` of the area lies inside one
    ignore region, is IGNORE rather than BACKGROUND (`ignore_regions=False`: regions vanish).

    Args:
        anchors: float32 [A, 4] ymin, xmin, ymax, xmax in input pixels.
        boxes: float32 [B, M, 4], likewise; M >= 1.
        classes: int [B, M]: 1..K an object, PADDING, or IGNORE a region.
    """
    anchors = ops.convert_to_tensor(anchors, "float32")

    def assign_one(image: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        return _assign_image(anchors, *image, config)

    boxes = ops.convert_to_tensor(boxes, "float32")
    classes = ops.convert_to_tensor(classes, "int32")
    target_classes, target_boxes = ops.map(assign_one, (boxes, classes))
    positive = ops.cast(target_classes >= 0, "float32")
    return Targets(target_classes, target_boxes, ops.sum(positive, axis=1))


def _assign_image(
    anchors: Tensor, boxes: Tensor, classes: Tensor, config: Config
) -> tuple[Tensor, Tensor]:
    """(classes [A], box codes [A, 4]) of one image."""
    overlap = _intersection(boxes, anchors)
    anchor_area = _area(anchors)
    iou = overlap / (_area(boxes)[:, None] + anchor_area - overlap)
    iou = ops.where(classes[:, None] > 0, iou, 0.0)

    positive, matched = _match(iou)
    ignored = (classes == IGNORE)[:, None] & (overlap > config.ignore_overlap * anchor_area)
    ignored = ops.any(ignored, axis=0) & config.ignore_regions
    negative = ops.where(ignored, IGNORE, BACKGROUND)
    target_classes = ops.where(positive, ops.take(classes, matched) - 1, negative)

    # Exactly 0 without an object: the Huber loss goes by it, and XLA, which joins what is computed,
    # rounds the code of an anchor by itself to something else.
    codes = encode(ops.take(boxes, matched, axis=0), anchors)
    return ops.cast(target_classes, "int32"), ops.where(positive[:, None], codes, 0.0)


def _match(iou: Tensor) -> tuple[Tensor, Tensor]:
    """(has an object: bool [A], row of its object: int32 [A]) from IoU [M, A]; 0 where padding."""
    num_objects, num_anchors = iou.shape
    best_of_object = ops.max(iou, axis=1, keepdims=True)
    best_anchor = _argmax(iou, best_of_object, axis=1)
    forced = ops.arange(num_anchors) == best_anchor[:, None]
    by_force = _first(forced & (best_of_object > 0), axis=0)
    best_of_anchor = ops.max(iou, axis=0)
    by_iou = _argmax(iou, best_of_anchor[None], axis=0)
    is_forced = by_force < num_objects
    return is_forced | (best_of_anchor >= MATCH_IOU), ops.where(is_forced, by_force, by_iou)


def _argmax(values: Tensor, best: Tensor, axis: int) -> Tensor:
    """Index of the first value that is the `best` along an axis.

    XLA may compute `values` twice, and round them differently: then no value equals the best one.
    """
    if backend.uses_xla():
        return ops.cast(ops.argmax(values, axis=axis), "int32")
    return _first(values == best, axis)  # several times faster on a CPU


def _first(mask: Tensor, axis: int) -> Tensor:
    """Index of the first True along an axis of a matrix, its length if there is none."""
    length = mask.shape[axis]
    index = ops.expand_dims(ops.arange(length), 1 - axis)
    return ops.min(ops.where(mask, index, length), axis=axis)


def _intersection(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Overlapping area in pixels: [M, 4] and [A, 4] -> [M, A]."""
    b, a = ops.split(boxes, 4, axis=1), ops.transpose(anchors)
    height = ops.relu(ops.minimum(b[2], a[2]) - ops.maximum(b[0], a[0]))
    width = ops.relu(ops.minimum(b[3], a[3]) - ops.maximum(b[1], a[1]))
    return height * width


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
