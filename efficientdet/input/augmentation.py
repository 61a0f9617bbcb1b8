"""Random changes of a training sample, one after the other; boxes follow the image.

Each is a pure function `op(sample, seed, ...) -> sample`: the same seed (int32 [2]) gives the same
result, in eager mode as inside tf.data, on any number of threads. What an op cannot do for a sample
it leaves undone.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import tensorflow as tf

from efficientdet.config import Config
from efficientdet.input import geometry
from efficientdet.input.chance import happens, uniform, uniform_int, with_probability
from efficientdet.input.donors import Patch
from efficientdet.input.geometry import Sample
from efficientdet.input.photometric import photometric
from efficientdet.model.roles import IGNORE

MIN_VISIBLE = 0.3  # an object with less of its whole area left is ignored


@dataclass(frozen=True)
class Operation:
    """One step of the augmentation.

    Attributes:
        name: its random numbers depend on it, and on no other operation.
        apply: (sample, seed) -> sample.
        probability: share of the samples that it is for.
        closes: it is left out in the last epochs, see `mosaic_close_epochs`.
    """

    name: str
    apply: Callable[[Sample, tf.Tensor], Sample]
    probability: float = 1.0
    closes: bool = False

    @property
    def is_certain(self) -> bool:
        """Whether it is for every sample."""
        return self.probability >= 1 and not self.closes


class OtherSamples(Protocol):
    """Where paste and mosaic take what they need of other records."""

    def draw_sample(self, seed: tf.Tensor) -> Sample:
        """Any record, its image uint8."""

    def draw_donor(self, seed: tf.Tensor) -> Patch:
        """An object to paste."""


def operations(config: Config, others: OtherSamples) -> list[Operation]:
    """All that the config asks for, in order; afterwards the image fits the input.

    A further one is a function `(sample, seed) -> sample` and a line here.
    """
    # Without ignore regions what is cut must stay an object: the rest would be background.
    visible = {"min_visible": MIN_VISIBLE if config.ignore_regions else 0.0}

    def paste(sample: Sample, seed: tf.Tensor) -> Sample:
        draw, seed = tf.unstack(tf.random.split(seed))
        return copy_paste(sample, seed, others.draw_donor(draw))

    def mix(sample: Sample, seed: tf.Tensor) -> Sample:
        *draws, seed = tf.unstack(tf.random.split(seed, 4))
        return mosaic([sample, *map(others.draw_sample, draws)], seed, **visible)

    scale = partial(
        random_scale,
        output_size=config.image_hw,
        scale_min=config.jitter_min,
        scale_max=config.jitter_max,
        **visible,
    )
    listed = [
        Operation("copy_paste", paste, config.copy_paste_prob),
        Operation("mosaic", mix, config.mosaic_prob, closes=True),
        Operation("crop", partial(random_crop, **visible), config.crop_prob),
        Operation("hflip", lambda sample, _: geometry.hflip(sample), 0.5 * config.input_rand_hflip),
        Operation("scale", scale),
        Operation(
            "photometric",
            partial(photometric, strength=config.photometric),
            float(config.photometric > 0),
        ),
    ]
    return [operation for operation in listed if operation.probability > 0]


def augment(
    sample: Sample, seed: tf.Tensor, todo: Sequence[Operation], *, closed: tf.Tensor
) -> Sample:
    """The sample after all operations, in their order.

    Args:
        seed: int32 [2].
        closed: bool scalar, whether those that close are left out.
    """
    for operation in todo:
        own, share = _chance(operation, seed, closed)
        if operation.is_certain:
            sample = operation.apply(sample, own)
        else:
            sample = with_probability(share, operation.apply, sample, own)
    return sample


def fallen(seed: tf.Tensor, todo: Sequence[Operation], *, closed: tf.Tensor) -> tf.Tensor:
    """bool [operations]: which of them `augment` applies with the same arguments."""
    chances = [_chance(operation, seed, closed) for operation in todo]
    falls = [
        tf.constant(True) if operation.is_certain else happens(share, own)
        for operation, (own, share) in zip(todo, chances, strict=True)
    ]
    return tf.reshape(tf.stack(falls), [len(todo)]) if falls else tf.zeros([0], tf.bool)


def _chance(
    operation: Operation, seed: tf.Tensor, closed: tf.Tensor
) -> tuple[tf.Tensor, float | tf.Tensor]:
    """The operation's own seed, and its probability now."""
    own = tf.random.experimental.stateless_fold_in(seed, zlib.crc32(operation.name.encode()))
    share = operation.probability
    return own, tf.where(closed, 0.0, share) if operation.closes else share


def random_scale(
    sample: Sample,
    seed: tf.Tensor,
    *,
    output_size: tuple[int, int],
    scale_min: float,
    scale_max: float,
    min_visible: float = MIN_VISIBLE,
) -> Sample:
    """Scale jitter: the letterboxed size times a random factor, then a random crop to the output.

    The crop is taken before the resize: but for a rounded pixel the same picture, with less work.

    Args:
        output_size: (height, width) of the network's input; the result may be smaller.
        scale_min, scale_max: 1.0 is the size at which the whole image just fits.

    Returns:
        The sample, float32, no larger than `output_size`.
    """
    scale_seed, crop_seed = tf.unstack(tf.random.split(seed))
    size = geometry.size_of(sample.image)
    scale = uniform(scale_seed, scale_min, scale_max) * geometry.fit_scale(size, output_size)
    resized = geometry.scaled_size(size, scale)
    target = tf.minimum(resized, output_size)
    # Of the source: all of a side that fits, else as many pixels as the output shows.
    shown = tf.cast(tf.round(tf.cast(target, tf.float32) / scale), tf.int32)
    window = tf.where(resized > output_size, tf.clip_by_value(shown, 1, size), size)
    corner = uniform_int(crop_seed, size - window)
    sample = geometry.crop(sample, corner, window, min_visible=min_visible)
    return geometry.resize(sample, target)


def random_crop(
    sample: Sample, seed: tf.Tensor, *, smallest: float = 0.5, min_visible: float = MIN_VISIBLE
) -> Sample:
    """A window of the image's shape with sides of `smallest` to 1 of its own, on an object.

    One object is drawn, small ones more often, and lies whole inside. Letterboxed to the input
    size, what the window shows grows: this is how small objects are seen large enough to learn.
    """
    size_seed, place_seed = tf.unstack(tf.random.split(seed))
    size = tf.cast(geometry.size_of(sample.image), tf.float32)
    window = tf.cast(tf.round(size * uniform(size_seed, smallest, 1.0)), tf.int32)
    corner = _corner_on_object(sample, window, place_seed)
    return geometry.crop(sample, corner, window, min_visible=min_visible)


def mosaic(
    samples: Sequence[Sample], seed: tf.Tensor, *, min_visible: float = MIN_VISIBLE
) -> Sample:
    """Four frames in one of the first one's size (YOLOv4, arXiv 2004.10934, section 3.3).

    For wide frames: each tile is a window on an object, shown at half to full scale, and not a
    whole frame squeezed into a quarter, in which small objects would vanish. A frame smaller than
    its tile is enlarged.

    Args:
        samples: four; top left, top right, bottom left, bottom right. Images uint8.

    Returns:
        The sample, uint8.
    """
    centre_seed, *seeds = tf.unstack(tf.random.split(seed, 5))
    size = geometry.size_of(samples[0].image)
    share = tf.random.stateless_uniform([2], centre_seed, 0.35, 0.65)
    centre = tf.cast(tf.cast(size, tf.float32) * share, tf.int32)
    rest = size - centre
    corners = [(0, 0), (0, centre[1]), (centre[0], 0), (centre[0], centre[1])]
    sizes = [(centre[0], centre[1]), (centre[0], rest[1]), (rest[0], centre[1]), (rest[0], rest[1])]
    tiles = []
    for sample, corner, tile_size, tile_seed in zip(samples, corners, sizes, seeds, strict=True):
        tile = _tile(sample, tf.stack(tile_size), tile_seed, min_visible)
        shift = tf.cast(tf.tile(tf.stack(corner), [2]), tf.float32)
        tiles.append(tile._replace(boxes=tile.boxes + shift))
    images, *parts, _ = zip(*tiles, strict=True)
    rows = [tf.concat(images[:2], 1), tf.concat(images[2:], 1)]
    return Sample(tf.concat(rows, 0), *(tf.concat(part, 0) for part in parts), tf.ones([2]))


def copy_paste(sample: Sample, seed: tf.Tensor, donor: Patch) -> Sample:
    """One object of another frame, mirrored at random, its border blended.

    It keeps its size and its rows, and takes a random column: with one camera at one height over
    the ground, an object's rows say how far it is, and so how large. A place where it would hide
    more than a tenth of another object (or of itself behind one) is not taken; after eight tries
    nothing is pasted.

    Args:
        sample: its image uint8.
        donor: of its patch, what is larger than the image is cut off.

    Returns:
        The sample, uint8; a pasted object is the last row.
    """
    flip_seed, place_seed = tf.unstack(tf.random.split(seed))
    image, boxes, classes, whole, _ = sample
    limit = geometry.size_of(image)
    patch, inner = donor.image[: limit[0], : limit[1]], geometry.clip(donor.box, limit)
    pasted_class = donor.class_id[tf.newaxis]
    patch = Sample.uncut(patch, inner[tf.newaxis], pasted_class)
    mirror = with_probability(0.5, lambda patch, _: geometry.hflip(patch), patch, flip_seed)
    patch, inner = mirror.image, mirror.boxes
    top = donor.top
    room = geometry.size_of(image) - geometry.size_of(patch)
    lefts = tf.random.stateless_uniform([8], place_seed, 0, room[1] + 1, tf.int32)
    shift = tf.stack([tf.zeros_like(lefts), lefts, tf.zeros_like(lefts), lefts], -1)
    places = inner + tf.cast(shift + [top, 0, top, 0], tf.float32)  # [8, 4]
    free = tf.reduce_all(_hidden(places, tf.boolean_mask(boxes, classes != IGNORE)) <= 0.1, -1)

    def paste() -> Sample:
        first = tf.argmax(free)
        blended = _blend(image, patch, inner[0], tf.stack([top, lefts[first]]))
        return Sample(
            blended,
            tf.concat([boxes, places[first][tf.newaxis]], 0),
            tf.concat([classes, pasted_class], 0),
            tf.concat([whole, geometry.area(inner)], 0),
            sample.scale,
        )

    fits = tf.reduce_any(free) & (top >= 0) & (top <= room[0])
    return tf.cond(fits, paste, lambda: sample)


def _corner_on_object(sample: Sample, window: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """The corner of a window inside the image that holds an object whole where it fits.

    The chance of an object falls with its side, 1 / sqrt(area). Without an object: anywhere.
    """
    object_seed, corner_seed = tf.unstack(tf.random.split(seed))
    size, boxes = geometry.size_of(sample.image), sample.boxes
    real = tf.boolean_mask(boxes, (sample.classes != IGNORE) & (geometry.area(boxes) > 0))

    def around_object() -> tf.Tensor:
        logits = -0.5 * tf.math.log(geometry.area(real))
        row = tf.random.stateless_categorical(logits[tf.newaxis], 1, object_seed)[0, 0]
        first = tf.cast(tf.floor(real[row, :2]), tf.int32)
        last = tf.cast(tf.math.ceil(real[row, 2:]), tf.int32) - window
        low = tf.maximum(tf.minimum(first, last), 0)
        high = tf.minimum(tf.maximum(first, last), size - window)
        low = tf.minimum(low, high)
        return low + uniform_int(corner_seed, high - low)

    return tf.cond(
        tf.size(real) > 0, around_object, lambda: uniform_int(corner_seed, size - window)
    )


def _tile(sample: Sample, tile: tf.Tensor, seed: tf.Tensor, min_visible: float) -> Sample:
    """A window of `sample` on an object, in the tile's shape, resized to it; uint8."""
    zoom_seed, place_seed = tf.unstack(tf.random.split(seed))
    size = geometry.size_of(sample.image)
    needed = tf.reduce_max(tf.cast(tile, tf.float32) / tf.cast(size, tf.float32))
    zoom = tf.maximum(uniform(zoom_seed, 0.5, 1.0), needed)
    window = tf.cast(tf.round(tf.cast(tile, tf.float32) / zoom), tf.int32)
    window = tf.clip_by_value(window, 1, size)
    corner = _corner_on_object(sample, window, place_seed)
    sample = geometry.crop(sample, corner, window, min_visible=min_visible)
    sample = geometry.resize(sample, tile)
    return sample._replace(image=tf.cast(tf.round(sample.image), tf.uint8))


def _hidden(places: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """[P, N]: the intersection over the smaller of place and box."""
    first = tf.maximum(places[:, tf.newaxis, :2], boxes[:, :2])
    last = tf.minimum(places[:, tf.newaxis, 2:], boxes[:, 2:])
    shared = geometry.area(tf.concat([first, last], -1))
    smaller = tf.minimum(geometry.area(places)[:, tf.newaxis], geometry.area(boxes))
    return tf.math.divide_no_nan(shared, smaller)


def _blend(image: tf.Tensor, patch: tf.Tensor, inner: tf.Tensor, corner: tf.Tensor) -> tf.Tensor:
    """`patch` over `image` at `corner`: opaque inside `inner`, fading to nothing at its edge."""
    size = geometry.size_of(patch)
    opacity = tf.minimum(
        _ramp(size[0], inner[0], inner[2])[:, tf.newaxis], _ramp(size[1], inner[1], inner[3])
    )[..., tf.newaxis]
    last = corner + size
    below = tf.cast(image[corner[0] : last[0], corner[1] : last[1]], tf.float32)
    mixed = tf.round(below + opacity * (tf.cast(patch, tf.float32) - below))
    middle = [
        image[corner[0] : last[0], : corner[1]],
        tf.cast(mixed, image.dtype),
        image[corner[0] : last[0], last[1] :],
    ]
    return tf.concat([image[: corner[0]], tf.concat(middle, 1), image[last[0] :]], 0)


def _ramp(length: tf.Tensor, first: tf.Tensor, last: tf.Tensor) -> tf.Tensor:
    """[length]: 1 from `first` to `last`, falling in a straight line to 0 just outside the ends."""
    end = tf.cast(length, tf.float32)
    at = tf.range(end) + 0.5
    rising = at / tf.maximum(first, 0.5)
    falling = (end - at) / tf.maximum(end - last, 0.5)
    return tf.minimum(1.0, tf.minimum(rising, falling))
