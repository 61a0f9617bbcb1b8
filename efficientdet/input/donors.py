"""The objects that copy-paste may copy: rare classes, seen whole."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from efficientdet.input.records import RecordObjects

_EDGE = 0.004  # of the image: nearer to its border an object counts as cut (1.5 of 375 pixels)
_MAX_COVERED = 0.1  # a larger share under another box: it may be hidden


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

    def __len__(self) -> int:
        return len(self._numbers)

    def draw(self, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """One of them: record number, box float32 [4] in [0, 1] (ymin first), class id int32."""
        group_seed, row_seed = tf.unstack(tf.random.split(seed))
        group = tf.random.stateless_uniform([], group_seed, 0, len(self._counts), tf.int32)
        count = tf.gather(self._counts, group)
        row = tf.gather(np.cumsum(self._counts, dtype=np.int32), group) - 1
        row -= tf.random.stateless_uniform([], row_seed, 0, count, tf.int32)
        return tuple(tf.gather(x, row) for x in (self._numbers, self._boxes, self._classes))


def _whole(record: RecordObjects) -> np.ndarray:
    """Rows of the objects that touch neither the border nor much of another box."""
    boxes = record.boxes
    inside = (boxes[:, :2] > _EDGE).all(1) & (boxes[:, 2:] < 1 - _EDGE).all(1)
    first = np.maximum(boxes[:, None, :2], boxes[:, :2])
    last = np.minimum(boxes[:, None, 2:], boxes[:, 2:])
    shared = np.maximum(last - first, 0).prod(-1)
    np.fill_diagonal(shared, 0)
    area = np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(1), 1e-12)
    covered = (shared / area[:, None]).max(1, initial=0)
    return np.flatnonzero((record.classes > 0) & inside & (covered <= _MAX_COVERED))
