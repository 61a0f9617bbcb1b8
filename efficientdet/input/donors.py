"""The objects that copy-paste may copy: rare classes, seen whole."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from efficientdet.dataset.boxes import coverage
from efficientdet.input import geometry
from efficientdet.input.record_index import RecordObjects

_EDGE = 0.004  # of the image: nearer to its border an object counts as cut (1.5 of 375 pixels)
_MAX_COVERED = 0.1  # a larger share under another box: it may be hidden
# Patches that are kept, and bytes of one: of KITTI's about 100 MB, never more than 512 MB.
_MOST_KEPT = 4096
_LARGEST_KEPT = 2**17
_KINDS = (tf.uint8, tf.float32, tf.int32)


class Patch(NamedTuple):
    """An object with what lies around it, cut out of its image.

    Attributes:
        image: uint8 [h, w, 3].
        box: float32 [4], `ymin xmin ymax xmax` in pixels of the patch.
        top: int32 scalar, the row of the image that was the patch's first.
        class_id: int32 scalar, 1..K.
    """

    image: tf.Tensor
    box: tf.Tensor
    top: tf.Tensor
    class_id: tf.Tensor


def cut_out(image: tf.Tensor, box: tf.Tensor, class_id: tf.Tensor) -> Patch:
    """The patch around a box, in pixels of `image`, with a margin of an eighth."""
    margin = tf.math.ceil(tf.reduce_max(box[2:] - box[:2]) / 8)
    first = tf.cast(tf.floor(tf.maximum(box[:2] - margin, 0.0)), tf.int32)
    last = tf.cast(tf.math.ceil(box[2:] + margin), tf.int32)
    last = tf.minimum(last, geometry.size_of(image))
    inner = geometry.clip(box - tf.tile(tf.cast(first, tf.float32), [2]), last - first)
    return Patch(image[first[0] : last[0], first[1] : last[1]], inner, first[0], class_id)


class Donors:
    """All objects of the wanted classes that nothing hides and no image border cuts.

    Each class is drawn equally often, whatever the number of its objects.

    Args:
        records: from `RecordIndex.objects`.
        types: KITTI types, in any letter case.
    """

    def __init__(self, records: Sequence[RecordObjects], types: Sequence[str]):
        rows = []
        for number, record in enumerate(records):
            group = record.wanted(types)
            rows += [
                (number, *record.boxes[i], record.classes[i], group[i])
                for i in _whole(record)
                if group[i]
            ]
        rows.sort(key=lambda row: row[-1])
        table = np.asarray(rows, np.float64).reshape(-1, 7)
        # numpy: tensors made here would lie on the GPU, and tf.data works on the CPU.
        self._numbers = table[:, 0].astype(np.int64)
        self._boxes = table[:, 1:5].astype(np.float32)
        self._classes = table[:, 5].astype(np.int32)
        self._counts = np.unique(table[:, 6], return_counts=True)[1].astype(np.int32)
        with tf.device("CPU"):  # its resource is where tf.data looks for it
            self._patches = tf.lookup.experimental.MutableHashTable(
                tf.int64, tf.string, default_value=["", "", ""]
            )

    def __len__(self) -> int:
        return len(self._numbers)

    def draw(self, seed: tf.Tensor, decode: Callable[[tf.Tensor], tf.Tensor]) -> Patch:
        """One of them. The first to draw it cuts it out; afterwards no image is read for it.

        Args:
            seed: int32 [2].
            decode: record number -> its image, uint8.
        """
        group_seed, row_seed = tf.unstack(tf.random.split(seed))
        group = tf.random.stateless_uniform([], group_seed, 0, len(self._counts), tf.int32)
        count = tf.gather(self._counts, group)
        row = tf.gather(np.cumsum(self._counts, dtype=np.int32), group) - 1
        row -= tf.random.stateless_uniform([], row_seed, 0, count, tf.int32)
        row = tf.cast(row, tf.int64)
        kept = self._patches.lookup(row)
        image, box, top = tf.cond(
            tf.strings.length(kept[0]) > 0,
            lambda: tuple(map(tf.io.parse_tensor, tf.unstack(kept, 3), _KINDS)),
            lambda: self._cut(row, decode),
        )
        image, box = tf.ensure_shape(image, [None, None, 3]), tf.ensure_shape(box, [4])
        return Patch(image, box, tf.ensure_shape(top, []), tf.gather(self._classes, row))

    def _cut(
        self, row: tf.Tensor, decode: Callable[[tf.Tensor], tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Image, box and top of a patch, which is kept where there is room."""
        image = decode(tf.gather(self._numbers, row))
        size = tf.tile(tf.cast(geometry.size_of(image), tf.float32), [2])
        *parts, _ = cut_out(image, tf.gather(self._boxes, row) * size, tf.constant(0))

        def keep() -> tf.Tensor:
            packed = tf.stack([tf.io.serialize_tensor(part) for part in parts])
            with tf.control_dependencies([self._patches.insert(row, packed)]):
                return tf.constant(True)

        room = (tf.size(parts[0]) <= _LARGEST_KEPT) & (self._patches.size() < _MOST_KEPT)
        with tf.control_dependencies([tf.cond(room, keep, lambda: tf.constant(False))]):
            return tuple(map(tf.identity, parts))


def _whole(record: RecordObjects) -> np.ndarray:
    """Rows of the objects that touch neither the border nor much of another box."""
    boxes = record.boxes
    inside = (boxes[:, :2] > _EDGE).all(1) & (boxes[:, 2:] < 1 - _EDGE).all(1)
    covered = coverage(boxes, boxes)
    np.fill_diagonal(covered, 0)
    hidden = covered.max(1, initial=0) > _MAX_COVERED
    return np.flatnonzero((record.classes > 0) & inside & ~hidden)
