"""Training samples as the network gets them, with their boxes and what was done to them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from efficientdet.config import Config
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.manifest import Manifest
from efficientdet.input.augmentation import fallen
from efficientdet.input.donors import Patch
from efficientdet.input.pipeline import InputPipeline, to_pixels
from efficientdet.visualize.drawing import IGNORED, class_colour, draw_boxes, sheet
from efficientdet.visualize.legend import Key, add_legend

PASTED = 1 << 16  # above every class id


def draw_samples(
    files: Sequence[Path], config: Config, *, num_images: int, columns: int = 2
) -> np.ndarray:
    """A sheet of the first training samples of epoch 0, uint8 [H, W, 3].

    Raises:
        UserError: see `InputPipeline`; fewer records than `num_images` give fewer samples.
    """
    manifest = Manifest.read(files)
    label_map = manifest.label_map if manifest else LabelMap.kitti()
    pipeline = _TracedPipeline(
        files,
        config,
        batch_size=1,
        training=True,
        num_classes=label_map.num_classes,
        max_instances=4 * config.max_instances_per_image,
        seed=config.seed,
    )
    batches = [batch for batch, _ in zip(pipeline.batches(), range(num_images), strict=False)]
    pictures = [_picture(batch, config, label_map) for batch in batches]
    captions = [_caption(batch) for batch in batches]
    picture = sheet(pictures, columns, captions, cell_width=min(config.image_hw[1], 900))
    ids = sorted({i % PASTED for batch in batches for i in batch["classes"][batch["classes"] > 0]})
    keys = [Key(label_map.names[i], class_colour(i)) for i in ids]
    if config.copy_paste_prob:
        keys.append(
            Key("pasted, in its class's colour", class_colour(ids[0] if ids else 1), line_width=5)
        )
    return add_legend(picture, [*keys, Key("ignore region", IGNORED, dashed=True)])


class _TracedPipeline(InputPipeline):
    """The batches of an `InputPipeline`, which also tell what was done to them.

    `operations` string [B] names the operations that fell on a sample; `classes` of a pasted object
    is greater by `PASTED`, which no operation looks at.
    """

    def draw_donor(self, seed: tf.Tensor) -> Patch:
        patch = super().draw_donor(seed)
        return patch._replace(class_id=patch.class_id + PASTED)

    def _make_example(
        self, number: tf.Tensor, valid: tf.Tensor, seed: tf.Tensor, closed: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        row = super()._make_example(number, valid, seed, closed)
        names = tf.constant([operation.name for operation in self._operations], tf.string)
        fell = fallen(seed, self._operations, closed=closed)
        return row | {"operations": tf.strings.reduce_join(names[fell], separator=",")}


def _picture(batch: dict[str, np.ndarray], config: Config, label_map: LabelMap) -> np.ndarray:
    """The one image of a batch in its own colours, boxes drawn."""
    boxes, classes = batch["boxes"][0][:, [1, 0, 3, 2]], batch["classes"][0]
    boxes, classes = boxes[classes != 0], classes[classes != 0]
    ids, pasted = np.where(classes > 0, classes % PASTED, 0), classes > PASTED
    names = ["" if i < 1 else label_map.names[int(i)] for i in ids]
    width = max(1, round(config.image_hw[1] / 640))
    # Around the object, not over it: a small one would vanish under a thick frame.
    boxes = boxes + np.outer(pasted * 2 * width, [-1, -1, 1, 1])
    return draw_boxes(
        to_pixels(batch["images"][0], config),
        boxes,
        [f"{name}, pasted" if new else name for name, new in zip(names, pasted, strict=True)],
        [class_colour(int(i)) for i in ids],
        dashed=ids < 1,
        line_width=np.where(pasted, 3 * width, width),
    )


def _caption(batch: dict[str, np.ndarray]) -> str:
    """The frame, and what was done to it."""
    scale = f"scale {1 / batch['image_scale'][0].mean():.2f}"
    done = batch["operations"][0].decode().split(",")
    has_pasted = (batch["classes"] > PASTED).any()
    words = {
        "scale": scale,
        "copy_paste": "copy_paste" if has_pasted else "copy_paste (no place for it, or cut away)",
    }
    named = [words.get(name, name) for name in done if name]
    return f"{batch['source_id'][0].decode()}   {', '.join(named)}"
