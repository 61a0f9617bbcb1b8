"""A look at records, anchors and disk before the first step: seconds now, or a night later."""

import logging
import shutil
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path

import keras
import numpy as np

from efficientdet.config import Config
from efficientdet.console import console
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UserError
from efficientdet.input.pipeline import to_pixels
from efficientdet.input.record_set import RecordSet
from efficientdet.inspection import checks
from efficientdet.inspection.coverage import measure
from efficientdet.model import targets
from efficientdet.model.anchors import Anchors
from efficientdet.visualize.drawing import (
    IGNORED,
    WHITE,
    class_colour,
    draw_boxes,
    save_image,
    sheet,
)
from efficientdet.visualize.legend import Key, add_legend

logger = logging.getLogger(__name__)

LOST_SHARE = 0.10
BYTES_A_WEIGHT = 4 * 3  # the weight, its average, its momentum
# Of a set on purpose the same as the other (overfitting a few images), only a word.
HARMLESS = (checks.LEAK, checks.DRIVES, checks.SAME_FILE)  # no result file of training images
PICTURED = 4


def check_records(records: RecordSet, validation: RecordSet | None, *, config: Config) -> None:
    """Looks at every record, and at what the anchors can see of its objects; at no pixels.

    A record's index is read in its place, if it has one: what rotted in the record since shows
    when training reads it.

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
        indexed=True,
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


def draw_first(
    batches: Iterable[Mapping[str, np.ndarray]], path: Path, *, config: Config, label_map: LabelMap
) -> None:
    """`draw_batch` of the first of `batches`; without one, the trainer says so."""
    with console.status(f"drawing the first batch: {path.name}"):
        for first in islice(batches, 1):
            draw_batch(first, path, config=config, label_map=label_map)


def draw_batch(
    batch: Mapping[str, np.ndarray], path: Path, *, config: Config, label_map: LabelMap
) -> None:
    """Draws what the network is about to see, with a legend.

    Objects are thick and named, the anchors matched to them thin, ignore regions dashed.

    Args:
        batch: as the input pipeline makes it.
    """
    anchors = Anchors(config).boxes
    assigned = targets.assign(anchors, batch["boxes"], batch["classes"], config=config)
    matched = keras.ops.convert_to_numpy(assigned.classes)
    pictures, captions, seen = [], [], set()
    rows = zip(
        batch["images"], batch["boxes"], batch["classes"], matched, batch["source_id"], strict=True
    )
    for image, boxes, classes, of_anchors, name in islice(rows, PICTURED):
        positive = np.flatnonzero(of_anchors >= 0)
        pictures.append(
            _draw(to_pixels(image, config), boxes, classes, anchors[positive], label_map)
        )
        found = {"object": int((classes > 0).sum()), "matched anchor": len(positive)}
        counts = [f"{count} {noun}{'s' * (count != 1)}" for noun, count in found.items()]
        captions.append(f"{name.decode()}: {', '.join(counts)}")
        seen |= set(classes[classes > 0].tolist())
    keys = [
        Key(f"{label_map.names[i]} (object)", class_colour(i), line_width=3) for i in sorted(seen)
    ]
    keys += [
        Key("matched anchor, learns that object", WHITE, line_width=1),
        Key("ignore region, nothing is learnt", IGNORED, dashed=True),
    ]
    save_image(add_legend(sheet(pictures, columns=2, captions=captions), keys), path)


def _draw(
    image: np.ndarray,
    boxes: np.ndarray,
    classes: np.ndarray,
    anchors: np.ndarray,
    label_map: LabelMap,
) -> np.ndarray:
    """One picture of a batch; `anchors` are those that are matched."""
    ids = classes[classes != 0]
    drawn = np.concatenate([anchors, boxes[classes != 0]])[:, [1, 0, 3, 2]]
    counts = (len(anchors), len(ids))
    return draw_boxes(
        image,
        drawn,
        [""] * len(anchors) + [label_map.names.get(int(i), "") for i in ids],
        [WHITE] * len(anchors) + [class_colour(int(i)) for i in ids],
        dashed=np.concatenate([np.zeros(len(anchors), bool), ids < 0]),
        line_width=np.repeat([1, 2], counts),
    )


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
        "(image_size=1280x384, anchor_scale=3) sees more; inspect_tfrecord.py "
        "--image_size=... compares sizes and proposes anchors"
    )
