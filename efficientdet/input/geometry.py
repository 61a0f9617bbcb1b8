"""Moves an image and its boxes together: crop, flip, resize, letterbox.

A sample is `(image, boxes, classes)`: image [H, W, 3] of any number type; boxes float32 [N, 4],
`ymin xmin ymax xmax` in pixels of the image; classes int32 [N], 1..K, or `IGNORE` for a region in
which nothing is learnt. No randomness here.
"""

import tensorflow as tf

from efficientdet import tensorflow_device  # noqa: F401 (no GPU for it beside JAX)

IGNORE = -1
Sample = tuple[tf.Tensor, tf.Tensor, tf.Tensor]


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


def crop(
    image: tf.Tensor,
    boxes: tf.Tensor,
    classes: tf.Tensor,
    corner: tf.Tensor,
    size: tf.Tensor,
    *,
    min_visible: float = 0.0,
) -> Sample:
    """The window of `size` (height, width) whose top left pixel is `corner` (y, x).

    Boxes are cut at its edges; those outside vanish. An object of which less than `min_visible` of
    its area is left becomes an ignore region: too little to learn from, too much for background.
    """
    corner, size = tf.cast(corner, tf.int32), tf.cast(size, tf.int32)
    window = tf.slice(image, tf.concat([corner, [0]], 0), tf.concat([size, [3]], 0))
    moved = boxes - tf.tile(tf.cast(corner, tf.float32), [2])
    cut = clip(moved, size)
    visible = tf.math.divide_no_nan(area(cut), area(moved))
    classes = tf.where(visible < min_visible, IGNORE, classes)
    return window, *select(cut, classes, area(cut) > 0)


def hflip(image: tf.Tensor, boxes: tf.Tensor, classes: tf.Tensor) -> Sample:
    """Left becomes right."""
    width = tf.cast(tf.shape(image)[1], tf.float32)
    top, left, bottom, right = tf.unstack(boxes, axis=-1)
    return tf.reverse(image, [1]), tf.stack([top, width - right, bottom, width - left], -1), classes


def resize(image: tf.Tensor, boxes: tf.Tensor, classes: tf.Tensor, size: tf.Tensor) -> Sample:
    """Bilinear, half-pixel centres, no antialiasing, to `size` (height, width); float32 image."""
    factor = tf.cast(size, tf.float32) / tf.cast(size_of(image), tf.float32)
    return tf.image.resize(image, size), boxes * tf.tile(factor, [2]), classes


def letterbox(
    image: tf.Tensor, boxes: tf.Tensor, classes: tf.Tensor, output_size: tuple[int, int]
) -> tuple[Sample, tf.Tensor]:
    """Resized to just fit `output_size`, not yet padded; and its `image_scale`."""
    size = size_of(image)
    resized = scaled_size(size, fit_scale(size, output_size))
    return resize(image, boxes, classes, resized), image_scale(size, resized)


def image_scale(size: tf.Tensor, resized: tf.Tensor) -> tf.Tensor:
    """float32 [2] (y, x): pixels of the resized image times this are pixels of the original.

    Of the sides as they are: whole pixels, so that the axes differ by up to a pixel's share.
    """
    return tf.cast(size, tf.float32) / tf.cast(resized, tf.float32)


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


def select(boxes: tf.Tensor, classes: tf.Tensor, keep: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The rows where `keep` is true."""
    return tf.boolean_mask(boxes, keep), tf.boolean_mask(classes, keep)
