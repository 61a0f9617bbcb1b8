"""A look at records, anchors and disk before the first step: seconds now, or a night later."""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path

import keras
import numpy as np

from efficientdet.config import Config
from efficientdet.errors import UserError
from efficientdet.input.pipeline import to_pixels
from efficientdet.input.record_set import RecordSet
from efficientdet.inspection import checks
from efficientdet.inspection.coverage import measure
from efficientdet.model import targets
from efficientdet.model.anchors import Anchors
from efficientdet.visualize.drawing import class_colour, draw_boxes, save_image, sheet

logger = logging.getLogger(__name__)

LOST_SHARE = 0.10
BYTES_A_WEIGHT = 4 * 3  # the weight, its average, its momentum
# Of a set on purpose the same as the other (overfitting a few images), only a word.
HARMLESS = (checks.LEAK, checks.DRIVES, checks.SAME_FILE)  # no result file of training images
PICTURED = 4


def check_records(records: RecordSet, validation: RecordSet | None, *, config: Config) -> None:
    """Looks at every record (not at its pixels), and at what the anchors can see of its objects.

    Raises:
        UserError: records that training would learn nonsense from.
    """
    files = [*records.files]
    if validation and {*validation.files} != {*files}:
        files += validation.files
    report = checks.check_records(
        files,
        records.label_map,
        max_instances=max(config.max_instances_per_image, records.max_objects),
        decode_images=False,
    )
    harmful = [problem for problem in report.problems if problem.kind not in HARMLESS]
    for problem in report.problems:
        if problem not in harmful:
            logger.warning(f"{problem.kind}: {problem.where}: {problem.what}")
    if harmful:
        report.problems = harmful
        raise UserError(
            "the records are not fit to train on (inspect_tfrecord.py tells more, "
            f"--skip_preflight trains all the same):\n{report.text()}"
        )
    objects = report.sets[0].statistics.objects
    objects = objects[objects.trained]
    coverage = measure(objects, Anchors(config).boxes, config.image_hw)
    _tell_coverage(coverage.missed, len(objects), config)


def check_disk(model: keras.Model, model_dir: Path, *, keep: int) -> None:
    """Raises UserError when the checkpoints of a run would not fit on the disk."""
    model_dir.mkdir(parents=True, exist_ok=True)
    weights = sum(int(np.prod(variable.shape)) for variable in model.weights)
    # Those kept, the best one, and the one that is being written.
    needed = weights * BYTES_A_WEIGHT * (keep + 2)
    free = shutil.disk_usage(model_dir).free
    if free < needed:
        raise UserError(
            f"{model_dir}: {free / 2**20:.0f} MB free, the checkpoints need "
            f"{needed / 2**20:.0f} MB; free some, or lower --keep_checkpoints"
        )


def draw_batch(batch: Mapping[str, np.ndarray], path: Path, *, config: Config) -> None:
    """Draws what the network is about to see: objects, ignore regions, positive anchors (thin).

    Args:
        batch: as the input pipeline makes it.
    """
    anchors = Anchors(config).boxes
    assigned = targets.assign(anchors, batch["boxes"], batch["classes"], config=config)
    matched = keras.ops.convert_to_numpy(assigned.classes)
    pictures, captions = [], []
    for image, boxes, classes, of_anchors, name in zip(
        batch["images"], batch["boxes"], batch["classes"], matched, batch["source_id"], strict=True
    ):
        picture = to_pixels(image, config)
        positive = np.flatnonzero(of_anchors >= 0)
        ids = of_anchors[positive] + 1
        for chosen, labels, width in (
            (anchors[positive], ids, 1),
            (boxes[classes != 0], classes[classes != 0], 2),
        ):
            colours = [class_colour(int(label)) for label in labels]
            picture = draw_boxes(
                picture, chosen[:, [1, 0, 3, 2]], colours=colours, line_width=width
            )
        pictures.append(picture)
        captions.append(f"{name.decode()}: {(classes > 0).sum()} objects, {len(positive)} anchors")
    save_image(sheet(pictures[:PICTURED], columns=2, captions=captions[:PICTURED]), path)


def _tell_coverage(missed: Mapping[str, float], count: int, config: Config) -> None:
    parts = ", ".join(f"{group} {share:.0%}" for group, share in missed.items() if group != "all")
    line = (
        f"{missed['all']:.1%} of {count} objects have no anchor of IoU 0.5 at {config.image_size} "
        f"with anchor_scale {config.anchor_scale} ({parts})"
    )
    if missed["all"] <= LOST_SHARE:
        logger.info(line)
        return
    logger.warning(
        f"{line}. They will hardly be learnt. --hparams=configs/kitti_d0.yaml "
        "(image_size=1280x384, anchor_scale=2) sees more; inspect_tfrecord.py "
        "--image_size=... compares sizes and proposes anchors"
    )
