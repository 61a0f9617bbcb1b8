"""Renders street scenes in KITTI's format, made up: to try the whole road without KITTI.

    python -m efficientdet.commands.synthetic --output_dir=quickstart_out/kitti

Cars, pedestrians and cyclists stand on a street in perspective and hide each other; labels follow
from the same geometry as the picture.
"""

import logging

from efficientdet.commands import runner  # isort: skip (says what is not installed)
from absl import flags

logger = logging.getLogger("efficientdet.synthetic")


def main() -> None:
    """Renders the set that the flags describe."""
    from efficientdet.synthetic.scenes import render_set

    values = flags.FLAGS
    render_set(values.output_dir, values.num_frames, values.seed)
    logger.info(f"{values.output_dir}: {values.num_frames} frames, every fifth for validation")


if __name__ == "__main__":
    flags.DEFINE_string("output_dir", None, "Folder for training/ and ImageSets/.", required=True)
    flags.DEFINE_integer("num_frames", 500, "Frames; every fifth is for validation.", 2)
    flags.DEFINE_integer("seed", 0, "The same seed draws the same frames.", 0)
    runner.run(main)
