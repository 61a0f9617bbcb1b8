"""Draws training samples as the network gets them, with their boxes: look before you train.

    python -m efficientdet.commands.preview --input=train.record --hparams=configs/kitti_d0.yaml

Objects have the colour of their class; dashed grey boxes are regions in which nothing is learnt.
The samples are the first ones of the run that has the same seed.
"""

from collections.abc import Sequence
from pathlib import Path

from efficientdet.commands import runner  # isort: skip (says what is not installed)
import numpy as np
from absl import flags

from efficientdet.config import Config, parse_hparams
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.manifest import Manifest
from efficientdet.dataset.tfrecord import expand_pattern


def draw_samples(
    files: Sequence[Path], config: Config, *, num_images: int, columns: int = 2
) -> np.ndarray:
    """A sheet of the first training samples of epoch 0, uint8 [H, W, 3].

    Raises:
        UserError: see `InputPipeline`; fewer records than `num_images` give fewer samples.
    """
    from efficientdet.input.pipeline import InputPipeline
    from efficientdet.visualize.drawing import sheet

    manifest = Manifest.read(files)
    label_map = manifest.label_map if manifest else LabelMap.kitti()
    pipeline = InputPipeline(
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
    return sheet(pictures, columns, captions, cell_width=min(config.image_hw[1], 900))


def _picture(batch: dict[str, np.ndarray], config: Config, label_map: LabelMap) -> np.ndarray:
    """The one image of a batch in its own colours, boxes drawn."""
    from efficientdet.input.pipeline import to_pixels
    from efficientdet.visualize.drawing import IGNORED, class_colour, draw_boxes

    image = to_pixels(batch["images"][0], config)
    boxes, classes = batch["boxes"][0][:, [1, 0, 3, 2]], batch["classes"][0]
    image = draw_boxes(image, boxes[classes < 0], colours=IGNORED, dashed=True)
    ids = classes[classes > 0].tolist()
    labels = [label_map.names[i] for i in ids]
    return draw_boxes(image, boxes[classes > 0], labels, [class_colour(i) for i in ids])


def _caption(batch: dict[str, np.ndarray]) -> str:
    scale = 1 / batch["image_scale"][0].mean()
    return f"{batch['source_id'][0].decode()}   scale {scale:.2f}"


def main() -> None:
    """Draws what the flags ask for, and says where it is."""
    values = flags.FLAGS
    config = Config.for_model(values.model_name).override(parse_hparams(values.hparams))
    expand_pattern(values.input)
    # These take seconds to import: --help, bad flags and missing files should not.
    from efficientdet.commands import quiet_tensorflow  # isort: skip  # noqa: F401
    from efficientdet.input.record_set import RecordSet
    from efficientdet.visualize.drawing import save_image

    records = RecordSet.open(values.input)
    records.require_at_most(config.max_instances_per_image)
    save_image(draw_samples(records.files, config, num_images=values.num_images), values.output)
    print(f"{values.output}: training samples of {values.input}")


if __name__ == "__main__":
    flags.DEFINE_string("input", None, "TFRecord files: a path, globs, commas.", required=True)
    flags.DEFINE_string("output", "augmented.png", "Picture to write, .png or .jpg.")
    flags.DEFINE_string("model_name", "efficientdet-d0", "Its input size, unless --hparams says.")
    flags.DEFINE_multi_string("hparams", [], "As for main.py: yaml files and key=value, by commas.")
    flags.DEFINE_integer("num_images", 12, "Samples on the sheet.", lower_bound=1)
    runner.run(main)
