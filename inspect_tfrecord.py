"""Checks TFRecords and shows what is in them, before a night of GPU time is spent on them.

  python inspect_tfrecord.py --input=train.record,val.record
  python inspect_tfrecord.py --input='./finTfrecords/*.record' --report=a.html
  python inspect_tfrecord.py --input=train.record --image_size=512,1280x384 \\
      --hparams=anchor_scale=3
  python inspect_tfrecord.py --input=train.record --memory_gb=6 \\
      --recommend_yaml=own.yaml

Exit code 0: fit to train on. 1: something is wrong; every kind of problem is named, with record
numbers and source ids. Warnings, such as a class that validation has no object of, leave it at 0.
The last line is the verdict. Given several sets, it also looks for frames, drives and classes that
they share or do not and for frames that look alike, and anchors are reported for the first set that
is not for validation. Reads the records of the TF Object Detection API's and of AutoML's scripts,
too.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from efficientdet.commands import runner  # isort: skip (says what is not installed)
from absl import flags

from efficientdet.atomic import atomic_open
from efficientdet.config import Config, parse_hparams
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.tfrecord import expand_pattern
from efficientdet.errors import UsageError, UserError

if TYPE_CHECKING:
    from rich.console import Console

    from efficientdet.dataset.statistics import Objects
    from efficientdet.inspection.checks import Report
    from efficientdet.inspection.recommend import Recommendation

_TRACED = 512  # pixels of a side: what a step needs grows with them
FLAGS = flags.FLAGS
flags.DEFINE_string("input", None, "Records: paths or globs, with commas; shards are found.")
flags.DEFINE_string("label_map_path", None, "Classes to check against; default: the manifest's.")
flags.DEFINE_string("report", None, "HTML file to write: tables, plots and pictures in one page.")
flags.DEFINE_list("image_size", ["512", "768", "1280x384"], "Inputs of the anchor report, WxH.")
flags.DEFINE_string("model_name", "efficientdet-d0", "Model whose anchors are reported.")
flags.DEFINE_multi_string("hparams", [], "k=v pairs or a .yaml, for example anchor_scale=3.")
flags.DEFINE_bool("fit_anchors", True, "Propose anchors that fit these objects.")
flags.DEFINE_bool(
    "recommend", False, "Instead of the anchor report: an input size and anchors for these objects."
)
flags.DEFINE_string(
    "recommend_yaml", None, "File to write --recommend's choice to, for main.py's --hparams."
)
flags.DEFINE_float("memory_gb", 6, "With --recommend: memory of the GPU.", lower_bound=1)
flags.DEFINE_integer("batch_size", 4, "With --recommend: images that it must hold.", lower_bound=1)
flags.DEFINE_integer("sample", None, "Look at the first N records of each file.", lower_bound=1)
flags.DEFINE_bool("no_decode", False, "Do not decode images: as quick as the disk is.")
flags.DEFINE_integer(
    "max_instances", None, "Limit of objects on an image; default: the config's.", lower_bound=1
)
flags.DEFINE_bool(
    "near_duplicates", True, "Look for frames of one set that look like frames of another."
)
flags.DEFINE_bool("allow_shared_drives", False, "Accept a split that parts drives.")
flags.DEFINE_integer("num_workers", None, "Threads; default: one a core.", lower_bound=1)


def main() -> None:
    """Checks, prints, and writes the report."""
    if not FLAGS.input:
        raise UsageError("--input is missing: the records to look at, e.g. train.record")
    if FLAGS.recommend_yaml and not FLAGS.recommend_yaml.endswith(".yaml"):
        raise UsageError(
            f"--recommend_yaml={FLAGS.recommend_yaml}: --hparams reads it as NAME.yaml"
        )
    config = Config.for_model(FLAGS.model_name).override(parse_hparams(FLAGS.hparams))
    for size in FLAGS.image_size:  # not after the minutes that the records take
        config.override({"image_size": size})
    files = expand_pattern(FLAGS.input)
    label_map = LabelMap.read(FLAGS.label_map_path) if FLAGS.label_map_path else None
    # These take seconds to import: --help, bad flags and missing files should not.
    from efficientdet.commands import quiet_tensorflow  # isort: skip  # noqa: F401
    from rich.console import Console

    from efficientdet.inspection import checks, near_duplicates, shortages, terminal
    from efficientdet.inspection import report as data_report
    from efficientdet.inspection.anchor_report import anchor_rows

    report = checks.check_records(
        files,
        label_map,
        max_instances=FLAGS.max_instances or config.max_instances_per_image,
        decode_images=not FLAGS.no_decode,
        sample=FLAGS.sample,
        allow_shared_drives=FLAGS.allow_shared_drives,
        num_workers=FLAGS.num_workers,
    )
    console = Console(markup=False)  # class names may hold brackets
    alike = []
    if FLAGS.near_duplicates and not FLAGS.no_decode:
        alike = near_duplicates.find(report, FLAGS.num_workers)
        report.warnings += near_duplicates.warnings(alike)
    for one in report.sets:
        terminal.print_statistics(console, one, report.class_ids)
    terminal.print_near_duplicates(console, alike)
    anchored = report.training or report.sets[0]
    objects = anchored.statistics.objects
    anchors, choice = [], None
    if FLAGS.recommend or FLAGS.recommend_yaml:
        choice = _recommend(console, report, objects[objects.trained], config, anchored.path.name)
        anchors = [one.row for one in choice.candidates]
    elif objects.trained.any():
        trained = objects[objects.trained]
        with console.status("Looking at anchors"):
            anchors = anchor_rows(trained, config, FLAGS.image_size, FLAGS.fit_anchors)
        terminal.print_anchors(console, anchors)
        report.warnings += shortages.fit_warnings(anchors, anchored.path.name)
    if FLAGS.sample is None:  # a part of the records says little about classes
        report.warnings += shortages.class_warnings(report)
    if FLAGS.report:
        with console.status(f"Writing {FLAGS.report}"):
            data_report.write_html(Path(FLAGS.report), report, anchors, alike, choice)
        console.print(f"Report: {FLAGS.report}", soft_wrap=True, highlight=False)
    terminal.print_findings(console, "warning", report.warnings)
    if not report.ok:
        terminal.print_findings(Console(stderr=True, markup=False), "problem", report.problems)
        raise UserError(terminal.verdict(report, FLAGS.sample))
    console.print(terminal.verdict(report, FLAGS.sample), soft_wrap=True, highlight=False)


def _recommend(
    console: "Console", report: "Report", objects: "Objects", config: Config, name: str
) -> "Recommendation":
    """Chooses, prints, and writes the YAML; the estimate of the memory is training's."""
    import keras

    from efficientdet.inspection import terminal
    from efficientdet.inspection.recommend import recommend
    from efficientdet.training.memory import estimate

    if not len(objects):
        raise UserError(f"--recommend: {name} has no object to learn from, so nothing to fit to")
    if keras.backend.backend() != "tensorflow":
        raise UsageError("--recommend walks through TensorFlow's graph: unset KERAS_BACKEND")
    if report.label_map:
        config = config.override({"num_classes": report.label_map.num_classes})

    def costs(one: Config) -> tuple[float, float]:
        memory = estimate(one.override({"image_size": _TRACED}))
        return memory.state + memory.fixed, memory.image / _TRACED**2

    with console.status("Fitting input and anchors"):
        found = recommend(
            objects,
            config,
            costs,
            memory_gb=FLAGS.memory_gb,
            batch_size=FLAGS.batch_size,
            sizes=FLAGS.image_size if FLAGS["image_size"].present else (),
        )
    text = found.yaml(name)
    terminal.print_recommendation(console, found, text)
    if path := FLAGS.recommend_yaml:
        with atomic_open(path) as file:
            file.write(text)
        console.print(f"Written: {path}", soft_wrap=True, highlight=False)
    return found


if __name__ == "__main__":
    runner.run(main)
