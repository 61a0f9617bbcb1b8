"""Draws training samples as the network gets them, with their boxes: look before you train.

    python -m efficientdet.commands.preview --input=train.record \\
        --hparams=configs/kitti_d0.yaml

Objects have the colour of their class, pasted ones a thick frame; dashed grey boxes are regions in
which nothing is learnt. Below each picture stands which operations fell on it.
The samples are the first ones of the run that has the same seed.
"""

import logging

from efficientdet.commands import runner  # isort: skip (says what is not installed)
from absl import flags

from efficientdet.config import Config, parse_hparams
from efficientdet.console import console
from efficientdet.dataset.tfrecord import expand_pattern
from efficientdet.wording import counted

logger = logging.getLogger("efficientdet.preview")


def main() -> None:
    """Draws what the flags ask for, and says where it is."""
    values = flags.FLAGS
    config = Config.for_model(values.model_name).override(parse_hparams(values.hparams))
    expand_pattern(values.input)
    # These take seconds to import: --help, bad flags and missing files should not.
    from efficientdet.commands import quiet_tensorflow  # isort: skip  # noqa: F401
    from efficientdet.input.record_set import RecordSet
    from efficientdet.inspection.samples import draw_samples
    from efficientdet.visualize.drawing import save_image

    records = RecordSet.open(values.input)
    records.require_at_most(config.max_instances_per_image)
    with console.status(f"drawing {counted(values.num_images, 'sample')}"):
        save_image(draw_samples(records.files, config, num_images=values.num_images), values.output)
    logger.info(f"{values.output}: training samples of {values.input}")


if __name__ == "__main__":
    flags.DEFINE_string("input", None, "TFRecord files: a path, globs, commas.", required=True)
    flags.DEFINE_string("output", "augmented.png", "Picture to write, .png or .jpg.")
    flags.DEFINE_string("model_name", "efficientdet-d0", "Its input size, unless --hparams says.")
    flags.DEFINE_multi_string("hparams", [], "As for main.py: yaml files and key=value, by commas.")
    flags.DEFINE_integer("num_images", 12, "Samples on the sheet.", lower_bound=1)
    runner.run(main)
