"""KITTI's folders -> TFRecord with a manifest beside it.

  python create_kitti_tf_record.py --kitti_root=./KIT --subset=training \\
      --output_path=./finTfrecords/train.record --label_map_path=./label_map.txt
  python create_kitti_tf_record.py --kitti_root=./KIT --subset=validation \\
      --output_path=./finTfrecords/val.record --label_map_path=./label_map.txt

The default split keeps the drives of training and validation apart: 5985 and 1496 frames. Of images
that are not KITTI's, by name or size, contiguous blocks validate, and it is said. Boxes
are written in [0, 1] of each image's own size, images byte for byte, and every label line is kept.
What a filter (--min_box_height, --max_occlusion, --max_truncation) or the label map leaves out is
an ignore region in training, never background. --classes=Car,Pedestrian,Cyclist makes a detector of
these three: the record's label map has them alone.

Next:

  python inspect_tfrecord.py --input='./finTfrecords/*.record'
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from efficientdet.commands import runner  # isort: skip (says what is not installed)
from absl import flags

from efficientdet.dataset import options, splits
from efficientdet.errors import UsageError
from efficientdet.wording import counted

if TYPE_CHECKING:
    from efficientdet.dataset.label_map import LabelMap
    from efficientdet.dataset.manifest import Shard

logger = logging.getLogger("efficientdet.converter")  # __main__ is no child of the project
FLAGS = flags.FLAGS
flags.DEFINE_string("kitti_root", None, "Folder that holds training/image_2 and training/label_2.")
flags.DEFINE_string(
    "output_path", None, "Record to write, for example ./finTfrecords/train.record."
)
flags.DEFINE_string("image_dir", None, "Folder of images, in --kitti_root; default: image_2.")
flags.DEFINE_string("label_dir", None, "Folder of labels, in --kitti_root; default: label_2.")
flags.DEFINE_string(
    "label_map_path",
    None,
    "Classes and their ids; default: label_map.txt beside the record, or the classes found.",
)
flags.DEFINE_enum(
    "subset", "training", options.SUBSETS, "Side of the split; `all` training frames; or testing."
)
flags.DEFINE_enum(
    "split",
    "drive",
    splits.SPLITS,
    "drive: no drive on both sides; blocks of frames, where images are not KITTI's. chen: the "
    "3712/3769 lists of published results. sequence: recordings, told apart by --group_by. random: "
    "leaks drives. file: the frames of --split_file.",
)
flags.DEFINE_string(
    "group_by",
    "",
    "With --split=sequence: folder; time: gaps in times or numbers of file names; time:60: longer "
    "than 60 s; or a regular expression over the id, as '^(\\w+)/'. Default: folder or time.",
)
flags.DEFINE_string("split_file", None, "With --split=file: a list with one frame id a line.")
flags.DEFINE_float("val_fraction", 0.2, "Share of validation frames; not of chen, file.")
flags.DEFINE_integer("seed", 0, "Seed of the split.")
flags.DEFINE_integer("num_shards", 1, "Files to spread the record over.", lower_bound=1)
flags.DEFINE_integer(
    "shard_index",
    None,
    "Write this one of --num_shards alone: a call for each, on any machine, then --merge.",
    lower_bound=0,
)
flags.DEFINE_bool("merge", False, "All calls of --shard_index are done: write manifest and index.")
flags.DEFINE_integer("num_workers", None, "Reading threads; each holds four frames.", lower_bound=1)
flags.DEFINE_string("classes", "", "Detect these alone, e.g. Car,Pedestrian; default: all.")
flags.DEFINE_float("min_box_height", 0, "Ignore objects lower than this many pixels.")
flags.DEFINE_integer("max_occlusion", 3, "Ignore objects more occluded than this (0 to 3).")
flags.DEFINE_float("max_truncation", 1, "Ignore objects more truncated than this (0 to 1).")
flags.DEFINE_bool("missing_is_empty", False, "An image without a label file has no object.")
flags.DEFINE_bool("verify_images", False, "Decode every image, too (slower).")
flags.DEFINE_bool("skip_bad", False, "Leave bad frames out and list them in the manifest.")
flags.DEFINE_bool("overwrite", False, "Replace an output that is there already.")
flags.DEFINE_bool("verify", False, "Compare an output that is there with its input, byte by byte.")
flags.DEFINE_bool("dry_run", False, "Read and check everything, write nothing.")


def main() -> None:
    """Converts one subset."""
    for name in ("kitti_root", "output_path"):
        if not FLAGS[name].value and not (name == "kitti_root" and FLAGS.image_dir):
            raise UsageError(f"--{name} is missing: {FLAGS[name].help}")
    if FLAGS.verify and (FLAGS.overwrite or FLAGS.dry_run):
        raise UsageError("--verify excludes --overwrite and --dry_run: it compares what is there")
    is_shard = FLAGS.shard_index is not None
    if is_shard + FLAGS.merge + (FLAGS.verify or FLAGS.dry_run) > 1:
        raise UsageError("--shard_index, --merge, and --verify or --dry_run exclude one another")
    from efficientdet.dataset import convert, convert_shard
    from efficientdet.dataset.selection import select_frames

    chosen = options.Options(
        subset=FLAGS.subset,
        split=FLAGS.split,
        split_file=Path(FLAGS.split_file) if FLAGS.split_file else None,
        group_by=FLAGS.group_by,
        val_fraction=FLAGS.val_fraction,
        seed=FLAGS.seed,
        num_shards=FLAGS.num_shards,
        classes=options.parse_classes(FLAGS.classes),
        min_box_height=FLAGS.min_box_height,
        max_occlusion=FLAGS.max_occlusion,
        max_truncation=FLAGS.max_truncation,
        missing_is_empty=FLAGS.missing_is_empty,
        verify_images=FLAGS.verify_images,
        skip_bad=FLAGS.skip_bad,
    )
    output, folders = Path(FLAGS.output_path), [FLAGS.kitti_root, FLAGS.image_dir, FLAGS.label_dir]
    root, *named = (Path(folder) if folder else None for folder in folders)
    selection = select_frames(root, chosen, *named)
    for note in selection.notes:
        logger.info(f"note: {note}")
    label_map, found = _label_map(output, root, *named)
    label_map = label_map.only(chosen.classes) if chosen.classes else label_map
    if FLAGS.verify_images and not FLAGS.merge:  # else nothing here needs TensorFlow, the decoder
        from efficientdet.commands import quiet_tensorflow  # noqa: F401
    if FLAGS.dry_run:
        logger.info("dry run, nothing is written:")
        logger.info(convert.dry_run(selection, label_map, chosen, FLAGS.num_workers).summary())
        return
    what = (selection, output, label_map, chosen)
    how = {"num_workers": FLAGS.num_workers, "overwrite": FLAGS.overwrite}
    if is_shard:
        shard = convert_shard.convert_shard(*what, FLAGS.shard_index, **how)
        print(f"{output}: up to date" if shard is None else _said_of(shard))
        return
    if FLAGS.merge:
        manifest = convert_shard.merge(*what)
    else:
        manifest = convert.convert(*what, **how, verify=FLAGS.verify)
    if found:
        label_map.write(found)
        logger.info(f"{found}: these classes, which the next record of this folder takes")
    logger.info(f"{output}: up to date" if manifest is None else f"{output}: {manifest.summary()}")


def _said_of(shard: "Shard") -> str:
    return (
        f"{shard.name}: {counted(shard.num_examples, 'image')}; when all {FLAGS.num_shards} shards "
        "are there: the same command with --merge"
    )


def _label_map(
    output: Path, root: Path | None, *named: Path | None
) -> tuple["LabelMap", Path | None]:
    """The label map, and where to write it if it was found, in the labels of both sides."""
    from efficientdet.dataset import found_classes
    from efficientdet.dataset.kitti import find_frames
    from efficientdet.dataset.label_map import LabelMap

    if FLAGS.label_map_path:
        return LabelMap.read(FLAGS.label_map_path), None
    if known := found_classes.map_of_folder(output):
        logger.info(f"note: classes of {known[1]}: {known[0]}")
        return known[0], None
    if FLAGS.subset == "testing":
        raise UsageError("--label_map_path is missing: no class is found in images without labels")
    label_map, said = found_classes.find_classes(find_frames(root, "training", *named))
    path = output.parent / found_classes.FILE_NAME
    logger.info(f"note: no --label_map_path and no label map in {path.parent}; found {said}")
    return label_map, path


if __name__ == "__main__":
    runner.run(main)
