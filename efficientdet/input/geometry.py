"""Moves an image and its boxes together: crop, flip, resize, letterbox. No randomness here."""

from typing import NamedTuple

import tensorflow as tf

from efficientdet import tensorflow_device  # noqa: F401 (no GPU for it beside JAX)
from efficientdet.model.roles import IGNORE


class Sample(NamedTuple):
    """An image with what is known of it.

    Attributes:
        image: [H, W, 3] of any number type.
        boxes: float32 [N, 4], `ymin xmin ymax xmax` in pixels of the image; of an object that was
            cut, what is left of it.
        classes: int32 [N], 1..K, or `IGNORE` for a region in which nothing is learnt.
        whole: float32 [N], square pixels of the image that each object would cover uncut: however
            many crops follow each other, all of them ask how much of this is left.
        scale: float32 [2] (y, x), pixels of the original image for a pixel of this one; 1 in a
            mosaic, which has no one original.
    """

    image: tf.Tensor
    boxes: tf.Tensor
    classes: tf.Tensor
    whole: tf.Tensor
    scale: tf.Tensor

    @classmethod
    def uncut(cls, image: tf.Tensor, boxes: tf.Tensor, classes: tf.Tensor) -> "Sample":
        """Of boxes that hold their objects whole."""
        return cls(image, boxes, classes, area(boxes), tf.ones([2]))


def area(boxes: tf.Tensor) -> tf.Tensor:
    """Square pixels of [..., 4] boxes; 0 for inverted ones."""
    height, width = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    return tf.maximum(height, 0.0) * tf.maximum(width, 0.0)


def size_of(image: tf.Tensor) -> tf.Tensor:
    """int32 [2]: height and width."""
    return tf.shape(image)[:2]


def clip(boxes: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Boxes cut at an image of `size` (height, width)."""
    limit = tf.tile(tf.cast(size, tf.float32), [2])
    return tf.clip_by_value(boxes, 0.0, limit)


def crop(sample: Sample, corner: tf.Tensor, size: tf.Tensor, *, min_visible: float = 0.0) -> Sample:
    """The window of `size` (height, width) whose top left pixel is `corner` (y, x).

    Boxes are cut at its edges; those outside vanish. An object of which less than `min_visible` of
    its whole area is left, now and after all crops before, becomes an ignore region: too little to
    learn from, too much for background.
    """
    corner, size = tf.cast(corner, tf.int32), tf.cast(size, tf.int32)
    window = tf.slice(sample.image, tf.concat([corner, [0]], 0), tf.concat([size, [3]], 0))
    cut = clip(sample.boxes - tf.tile(tf.cast(corner, tf.float32), [2]), size)
    visible = tf.math.divide_no_nan(area(cut), sample.whole)
    classes = tf.where(visible < min_visible, IGNORE, sample.classes)
    sample = sample._replace(image=window, boxes=cut, classes=classes)
    return select(sample, area(cut) > 0)


def hflip(sample: Sample) -> Sample:
    """Left becomes right."""
    width = tf.cast(tf.shape(sample.image)[1], tf.float32)
    top, left, bottom, right = tf.unstack(sample.boxes, axis=-1)
    boxes = tf.stack([top, width - right, bottom, width - left], -1)
    return sample._replace(image=tf.reverse(sample.image, [1]), boxes=boxes)


def resize(sample: Sample, size: tf.Tensor) -> Sample:
    """Bilinear, half-pixel centres, no antialiasing, to `size` (height, width); float32 image."""
    factor = tf.cast(size, tf.float32) / tf.cast(size_of(sample.image), tf.float32)
    return sample._replace(
        image=tf.image.resize(sample.image, size),
        boxes=sample.boxes * tf.tile(factor, [2]),
        whole=sample.whole * tf.reduce_prod(factor),
        # Of the sides as they are: whole pixels, so that the axes differ by up to a pixel's share.
        scale=sample.scale / factor,
    )


def letterbox(sample: Sample, output_size: tuple[int, int]) -> Sample:
    """Resized to just fit `output_size`, not yet padded."""
    size = size_of(sample.image)
    return resize(sample, scaled_size(size, fit_scale(size, output_size)))


def scale_channels(image: tf.Tensor, factor: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
    """`image * factor + offset` with float32 [3] each, on a float32 image.

    On rows of W * 3 numbers: TensorFlow's broadcasting over a last axis of 3 takes 6 times longer.
    """
    width = tf.shape(image)[1]
    rows = tf.reshape(image, [-1, width * 3])
    rows = rows * tf.tile(factor, [width]) + tf.tile(offset, [width])
    return tf.reshape(rows, [-1, width, 3])


def pad(image: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Zeros below and to the right, up to the static `size` (height, width)."""
    missing = size - size_of(image)
    image = tf.pad(image, [[0, missing[0]], [0, missing[1]], [0, 0]])
    return tf.ensure_shape(image, (*size, 3))


def fit_scale(size: tf.Tensor, output_size: tuple[int, int]) -> tf.Tensor:
    """float32 scalar: the largest factor at which `size` lies inside `output_size`."""
    return tf.reduce_min(tf.constant(output_size, tf.float32) / tf.cast(size, tf.float32))


def scaled_size(size: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """int32 [2]: `size` times `scale`, truncated as AutoML does, at least one pixel."""
    return tf.maximum(tf.cast(tf.cast(size, tf.float32) * scale, tf.int32), 1)


def select(sample: Sample, keep: tf.Tensor) -> Sample:
    """The objects and regions where `keep` is true."""
    boxes, classes, whole = (tf.boolean_mask(rows, keep) for rows in sample[1:4])
    return sample._replace(boxes=boxes, classes=classes, whole=whole)
