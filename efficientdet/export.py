"""Writes a trained run as SavedModel, TFLite and ONNX, and runs each file again.

    python efficientdet/export.py --model_dir=savedmodel/exp \\
        --output_dir=exported --val_file_pattern=val.record

Each file is opened by its own runtime and scored on --val_file_pattern beside the network that it
was made of; one that differs by more than its tolerance makes exit code 1. predict.py and main.py
--mode=eval take the files, too. Needs pip install -e '.[export]', a SavedModel alone does not.
docs/export.md says how to use them on another machine.
"""

import logging
import os
import sys
from pathlib import Path

if not __package__:  # typed by path: the package is found where it lies, installed or not
    _here = Path(__file__).resolve().parent
    sys.path = [str(_here.parent), *(path for path in sys.path if Path(path).resolve() != _here)]

from efficientdet.commands import runner  # isort: skip (says what is not installed)
from absl import flags

from efficientdet.commands import run_flags
from efficientdet.errors import UsageError

FLAGS = flags.FLAGS
logger = logging.getLogger("efficientdet.export")
run_flags.define_flags()
flags.DEFINE_string("output_dir", None, "Folder for the files and export_report.json.")
flags.DEFINE_list("format", "saved_model,tflite,onnx", "Of saved_model, tflite and onnx.")
flags.DEFINE_list(
    "quantize", "fp32", "Of fp32, fp16 and int8: a TFLite file each; the others are float32."
)
flags.DEFINE_string(
    "calibration", None, "Records for int8, training ones say: 200 images of them are looked at."
)
flags.DEFINE_string("image_size", None, "Another input size than the run's, such as 1280x384.")
flags.DEFINE_enum(
    "nms", "on", ["on", "off"],
    "off: boxes and scores of all anchors come out, for a runtime with NMS of its own.",
)  # fmt: skip
flags.DEFINE_string(
    "val_file_pattern", None, "Records to run the files on; without, a few made-up images."
)
flags.DEFINE_integer(
    "eval_samples", None, "Only the first so many of these images; default: all.", lower_bound=1
)
flags.DEFINE_bool("overwrite", False, "Replace files that are there.")


def main() -> None:
    """Checks what the flags leave out and hands over."""
    from efficientdet.deploy.options import FORMATS, PRECISIONS, ExportOptions

    for name in ("model_dir", "output_dir"):
        if not FLAGS[name].value:
            raise UsageError(f"--{name} is missing: {FLAGS[name].help}")
    _check_list("format", FORMATS)
    _check_list("quantize", PRECISIONS)
    if "tflite" not in FLAGS.format and FLAGS["quantize"].present:
        raise UsageError("--quantize is for TFLite files: add tflite to --format")
    if "tflite" in FLAGS.format and "int8" in FLAGS.quantize and not FLAGS.calibration:
        raise UsageError("--quantize=int8 needs --calibration, records of the images it will see")
    which = run_flags.which()
    _check_files(which)
    # Export goes by TensorFlow on the CPU, whatever trained the model: this is read on import.
    if (backend := os.environ.get("KERAS_BACKEND", "tensorflow")) != "tensorflow":
        logger.info(f"KERAS_BACKEND={backend}: exporting with TensorFlow all the same")
    os.environ |= {"KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}
    # TensorFlow takes seconds to import: --help, bad flags and missing files should not.
    from efficientdet.commands import quiet_tensorflow  # isort: skip  # noqa: F401
    from efficientdet.deploy.export import export

    export(runner.options(ExportOptions, which=which, nms=FLAGS.nms == "on"))


def _check_list(name: str, known: tuple[str, ...]) -> None:
    values = FLAGS[name].value
    if not values or set(values) - set(known):
        raise UsageError(f"--{name}={','.join(values)}: expected one or more of {', '.join(known)}")


def _check_files(which: str | None) -> None:
    """Looks whether there are the run and the records."""
    from efficientdet.config import parse_image_size
    from efficientdet.dataset.tfrecord import expand_pattern
    from efficientdet.run.checkpoints import checkpoint_of

    if FLAGS.image_size:
        parse_image_size(FLAGS.image_size)
    if not FLAGS.ckpt:
        checkpoint_of(Path(FLAGS.model_dir), which, to="export")
    for pattern in (FLAGS.val_file_pattern, FLAGS.calibration):
        if pattern:
            expand_pattern(pattern)


if __name__ == "__main__":
    sys.exit(runner.run(main))
