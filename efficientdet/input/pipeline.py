"""Records -> batches of normalised, letterboxed images with their boxes.

Every sample of an epoch is a function of (seed, epoch, its position, its record number) alone.
So batches do not depend on the number of threads, a resumed run sees what an uninterrupted one
would have seen, and skipping batches reads nothing.
"""

import functools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from efficientdet.config import Config
from efficientdet.dataset.example import parse_example
from efficientdet.dataset.image import decode_tensor
from efficientdet.input import geometry
from efficientdet.input.augmentation import augment, operations
from efficientdet.input.balance import epoch_order, repeat_factors
from efficientdet.input.donors import Donors, Patch
from efficientdet.input.geometry import Sample
from efficientdet.input.record_index import RecordIndex, RecordObjects
from efficientdet.model.roles import IGNORE

logger = logging.getLogger(__name__)

_PREFETCH = 2  # batches: a batch of 64 at 1280x384 is 377 MB


def preprocess(image: tf.Tensor, config: Config) -> tuple[tf.Tensor, tf.Tensor]:
    """What evaluation feeds the network, of one uint8 [h, w, 3] image.

    Returns:
        float32 [H, W, 3]; float32 [2] `image_scale` (y, x): pixels of it times this are pixels of
        `image`.
    """
    empty = Sample.uncut(image, tf.zeros([0, 4]), tf.zeros([0], tf.int32))
    sample = geometry.letterbox(empty, config.image_hw)
    return finish(sample.image, config), sample.scale


def finish(image: tf.Tensor, config: Config, dtype: str = "float32") -> tf.Tensor:
    """(rgb - mean) / std, then zeros below and to the right up to the input size.

    uint8: whole pixels instead, and the rest is left to `model.pixels.normalise`.
    """
    if dtype == "uint8":
        return geometry.pad(tf.cast(tf.round(image), tf.uint8), config.image_hw)
    mean, std = np.float32(config.mean_rgb), np.float32(config.stddev_rgb)
    image = geometry.scale_channels(tf.cast(image, tf.float32), 1.0 / std, -mean / std)
    return geometry.pad(tf.cast(image, dtype), config.image_hw)


def to_pixels(image: np.ndarray, config: Config) -> np.ndarray:
    """uint8 [h, w, 3] of what `finish` made: the network's input, to look at."""
    if image.dtype == np.uint8:
        return image
    mean, std = np.float32(config.mean_rgb), np.float32(config.stddev_rgb)
    return np.clip(np.round(image.astype(np.float32) * std + mean), 0, 255).astype(np.uint8)


class InputPipeline:
    """Batches of a set of records. `len` is the number of batches in an epoch.

    A batch is a dict of tensors, B images of H x W pixels (`config.image_hw`), M instances:
        images: [B, H, W, 3] of `image_dtype`, (rgb - mean) / std, resized to fit, in the top left
            corner; the rest is 0. As uint8: 0..255, rounded.
        shown: int32 [B, 2], of uint8 images alone: height and width of that corner.
        boxes: float32 [B, M, 4], ymin xmin ymax xmax in pixels of `images`; 0 where there is none.
        classes: int32 [B, M], 1..K, or a role of `model.roles`: PADDING, IGNORE.
        source_id: string [B].
        image_scale: float32 [B, 2] (y, x): pixels of the original for a pixel of `images`.
        original_hw: int32 [B, 2].
        valid: bool [B], False in the rows that fill up the last batch of an evaluation.

    Args:
        files: from `dataset.tfrecord.expand_pattern`.
        config: sizes, colours, and in training the augmentations.
        batch_size: B.
        training: a new order, new augmentations and `floor(N / B)` batches in each epoch; else the
            records in their order, all of them.
        num_classes: K.
        max_instances: M, at least the objects of the fullest record. Ignore regions beyond it are
            dropped; so are objects beyond it that mosaic brought together.
        seed: of order and augmentations.
        examples_per_epoch: images in an epoch of `config.num_epochs`, by which mosaic closes; None
            means all records once. A pass of the pipeline is longer where frames are repeated. Of
            an evaluation: the first so many records, and no other is read.
        rows: which of each batch's samples are made, in this order; None: all. Several processes
            share one batch so, and no sample depends on how many there are.
        image_dtype: float32; the half precision in which the network computes, to which it would
            round them anyway; or uint8, a quarter of the bytes, for up to half a grey level.

    Raises:
        UserError: unreadable files.
    """

    def __init__(
        self,
        files: Sequence[Path],
        config: Config,
        *,
        batch_size: int,
        training: bool,
        num_classes: int,
        max_instances: int,
        seed: int = 0,
        examples_per_epoch: int | None = None,
        rows: np.ndarray | None = None,
        image_dtype: str = "float32",
    ):
        self._image_dtype = image_dtype
        self._rows = np.arange(batch_size) if rows is None else rows
        self.index = RecordIndex(files)
        self._config, self._training, self._seed = config, training, seed
        self._batch_size, self._num_classes = batch_size, num_classes
        self._max_instances = max_instances
        balanced = training and config.repeat_threshold > 0
        pasting = training and config.copy_paste_prob > 0
        self._factors = self._repeat_factors() if balanced else np.ones(len(self.index))
        self._donors = Donors(self._objects, config.copy_paste_classes) if pasting else None
        mixed_epochs = config.num_epochs - config.mosaic_close_epochs
        steps = (examples_per_epoch or len(self.index)) // batch_size
        self._num_examples = len(self.index)  # of an evaluation
        if examples_per_epoch and not training:
            self._num_examples = min(examples_per_epoch, len(self.index))
        self._open_images = mixed_epochs * steps * batch_size
        if training:
            for line in self._what_is_off(balanced, pasting):
                logger.warning(line)
        self._operations = [
            one for one in operations(config, self) if one.name != "copy_paste" or self._donors
        ]
        # Traced once, not in every epoch and for every frame of a mosaic.
        self._example = tf.function(self._make_example, autograph=False)
        self._load = tf.function(self._make_sample, autograph=False)

    def __len__(self) -> int:
        if self._training:
            return int(np.sum(self._factors) + 1e-6) // self._batch_size
        return -(-self._num_examples // self._batch_size)

    def dataset(self, *, epoch: int = 0, skip_batches: int = 0) -> tf.data.Dataset:
        """The batches of an epoch from `skip_batches` on, in a fixed order."""
        batches = (np.arange(skip_batches, len(self)) * self._batch_size)[:, np.newaxis]
        made = (batches + self._rows).ravel()
        plan = tuple(column[made] for column in self._plan(epoch))
        options = tf.data.Options()
        options.deterministic = True
        return (
            tf.data.Dataset.from_tensor_slices(plan)
            .map(self._example, tf.data.AUTOTUNE)
            .batch(len(self._rows), drop_remainder=True, num_parallel_calls=tf.data.AUTOTUNE)
            .prefetch(_PREFETCH)
            .with_options(options)
        )

    def batches(self, *, epoch: int = 0, skip_batches: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """`dataset` as numpy arrays; an unreadable record becomes a UserError."""
        with self.index.named_errors():
            yield from self.dataset(epoch=epoch, skip_batches=skip_batches).as_numpy_iterator()

    def _plan(self, epoch: int) -> tuple[np.ndarray, ...]:
        """What decides each sample of an epoch, in whole batches: columns of equal length.

        Record number int64, validity bool, seed int32 [2], whether mosaic is closed bool.
        """
        length = len(self) * self._batch_size
        numbers, valid = np.arange(length), np.ones(length, bool)
        if self._training:
            numbers = epoch_order(self._factors, self._seed, epoch)[:length]
        else:
            valid = numbers < self._num_examples
            numbers = np.where(valid, numbers, 0)
        state = np.random.SeedSequence((self._seed, epoch)).generate_state(2 * length)
        closed = epoch * length + np.arange(length) >= self._open_images
        return numbers, valid, state.view(np.int32).reshape(-1, 2), closed

    def _make_example(
        self, number: tf.Tensor, valid: tf.Tensor, seed: tf.Tensor, closed: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """One row of a batch."""
        sample, source_id = self._load(number)
        original_hw = geometry.size_of(sample.image)
        if self._training:
            sample = augment(sample, seed, self._operations, closed=closed)
        else:
            sample = geometry.letterbox(sample, self._config.image_hw)
        boxes, classes = self._instances(sample, valid)
        shown = {"shown": geometry.size_of(sample.image)} if self._image_dtype == "uint8" else {}
        return shown | {
            "images": finish(sample.image, self._config, self._image_dtype),
            "boxes": boxes,
            "classes": classes,
            "source_id": source_id,
            "image_scale": sample.scale,
            "original_hw": original_hw,
            "valid": valid,
        }

    def _make_sample(self, number: tf.Tensor) -> tuple[Sample, tf.Tensor]:
        """The sample of one record, its image uint8, and its source_id."""
        example = parse_example(self.index.read(number))
        image = decode_tensor(example["image"])
        size = tf.cast(geometry.size_of(image), tf.float32)
        classes, ignored = tf.cast(example["classes"], tf.int32), example["is_crowd"] > 0
        if self._training and not self._config.skip_crowd_during_training:
            ignored &= classes < 1  # DontCare has no class
        classes = tf.where(ignored, IGNORE, classes)
        known = (classes == IGNORE) | (classes > 0) & (classes <= self._num_classes)
        what = f"a class id is not in 1..{self._num_classes}; source_id and ids:"
        tf.debugging.Assert(tf.reduce_all(known), [what, example["source_id"], classes])
        sample = Sample.uncut(image, example["boxes"] * tf.tile(size, [2]), classes)
        if not self._config.ignore_regions:
            sample = geometry.select(sample, classes != IGNORE)
        return sample, example["source_id"]

    def draw_sample(self, seed: tf.Tensor) -> Sample:
        """Any record, for `augmentation.operations`."""
        number = tf.random.stateless_uniform([], seed, 0, len(self.index), tf.int64)
        return self._load(number)[0]

    def draw_donor(self, seed: tf.Tensor) -> Patch:
        """An object to paste, for `augmentation.operations`."""
        return self._donors.draw(seed, lambda number: self._load(number)[0].image)

    def _instances(self, sample: Sample, valid: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Exactly M rows: objects first, then ignore regions, then zeros; none if not valid.

        Boxes end where the input does. (AutoML's end a pixel before: at 512 pixels an object at
        the right edge of a KITTI frame would lose one and a half.)
        """
        boxes = geometry.clip(sample.boxes, tf.constant(self._config.image_hw))
        sample = sample._replace(boxes=boxes)
        _, boxes, classes, *_ = geometry.select(sample, (geometry.area(boxes) > 0) & valid)
        rows = tf.argsort(tf.cast(classes == IGNORE, tf.int32), stable=True)[: self._max_instances]
        missing = self._max_instances - tf.shape(rows)[0]
        boxes = tf.pad(tf.gather(boxes, rows), [[0, missing], [0, 0]])
        classes = tf.pad(tf.gather(classes, rows), [[0, missing]])
        return (
            tf.ensure_shape(boxes, [self._max_instances, 4]),
            tf.ensure_shape(classes, [self._max_instances]),
        )

    def _repeat_factors(self) -> np.ndarray:
        types = self._config.repeat_classes
        wanted = [record.wanted(types) for record in self._objects]
        return repeat_factors(wanted, self._config.repeat_threshold)

    def _what_is_off(self, balanced: bool, pasting: bool) -> Iterator[str]:
        """A line for each part of the recipe that these records, or so few epochs, turn off."""
        config = self._config
        parts = {"repeat_classes": balanced, "copy_paste_classes": pasting}
        named = {key: getattr(config, key) for key, used in parts.items() if used}
        types = list(dict.fromkeys(name for names in named.values() for name in names))
        seen = (
            {place for record in self._objects for place in record.wanted(types)} if types else {}
        )
        absent = [name for place, name in enumerate(types, start=1) if place not in seen]
        if absent:
            keys = [key for key, names in named.items() if {*names} & {*absent}]
            yield (
                f"the training records hold no {' and no '.join(absent)} to learn: left out of "
                f"{' and '.join(keys)}"
            )
        if pasting and not self._donors:
            yield (
                f"copy-paste is off: of {', '.join(config.copy_paste_classes) or 'no class'} these "
                "records hold no object that is whole and uncovered"
            )
        if config.mosaic_prob > 0 and config.num_epochs <= config.mosaic_close_epochs:
            yield (
                f"mosaic_prob={config.mosaic_prob} does nothing: the last mosaic_close_epochs="
                f"{config.mosaic_close_epochs} epochs are without mosaic, and num_epochs="
                f"{config.num_epochs}; lower the former"
            )

    @functools.cached_property
    def _objects(self) -> list[RecordObjects]:
        return self.index.objects()
