"""From a run to files: load, fold, write, and run each file again."""

import dataclasses
import logging
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import absl.logging
import numpy as np

from efficientdet.atomic import remove_stale, restore_folder
from efficientdet.checkpoint.identity import identify
from efficientdet.checkpoint.stored import require
from efficientdet.config import Config
from efficientdet.console import without_native_stderr
from efficientdet.dataset.example import Record
from efficientdet.dataset.image import decode
from efficientdet.dataset.tfrecord import expand_pattern
from efficientdet.deploy import onnx_file, saved_model, tflite, validate
from efficientdet.deploy.options import ExportOptions
from efficientdet.deploy.serving import Serving
from efficientdet.errors import UsageError
from efficientdet.inference.detector import load_detector
from efficientdet.inference.export_info import ExportInfo
from efficientdet.inference.exported import require_package
from efficientdet.input.pipeline import preprocess
from efficientdet.input.record_index import RecordIndex
from efficientdet.input.record_set import RecordSet
from efficientdet.model.detector import build_detector
from efficientdet.progress import track
from efficientdet.run.checkpoints import checkpoint_of
from efficientdet.run.directory import RunDirectory
from efficientdet.run.lock import require_writable
from efficientdet.run.thresholds import thresholds_of
from efficientdet.tensorflow_device import tf
from efficientdet.wording import counted

logger = logging.getLogger(__name__)

CALIBRATION_IMAGES = 200
_PACKAGES = {
    "saved_model": (),
    "tflite": ("ai_edge_litert.interpreter", "flatbuffers"),
    "onnx": ("tf2onnx", "onnx", "onnxruntime"),
}


class _Target(NamedTuple):
    """One file to write, and how; `precision` is that of its weights."""

    path: Path
    precision: str
    write: Callable[[Serving, ExportInfo], None]


def export(options: ExportOptions) -> None:
    """Writes each format into `output_dir`, runs it again, and says how well it agrees.

    Raises:
        UserError: nothing is written where a file is there already, a package is missing, or a run
            cannot be read. At the end, where a file differs by more than its tolerance: the files
            are there, and `export_report.json` says by how much.
    """
    run = RunDirectory(options.model_dir)
    path = options.ckpt or checkpoint_of(run.path, options.which, to="export")
    require(str(path))
    records = None
    if options.val_file_pattern:
        records = RecordSet.open(options.val_file_pattern, None, run.stored_label_map)
    label_map = run.label_map(records.label_map if records else None)
    config = _config(options, run, label_map)
    folder = Path(options.output_dir)
    targets = _targets(options, folder, config)
    _require_free([*(target.path for target in targets), folder / validate.REPORT], options)
    for name in dict.fromkeys(name for kind in options.format for name in _PACKAGES[kind]):
        require_package(name, f"--format={','.join(options.format)}")
    require_writable(folder)
    remove_stale(folder)
    thresholds, line = thresholds_of(path, run.path)
    logger.info(f"exporting {identify(path)}, {config.name} at {_size(config)}; {line}")
    reference = load_detector(config, path, label_map, options.ckpt_classes)
    model = build_detector(config)  # Serving folds it in place
    model.set_weights(reference.model.get_weights())
    info = ExportInfo(config, label_map, thresholds, identify(path), options.nms)
    serving = Serving(model, config, options.nms)
    absl.logging.set_verbosity(absl.logging.ERROR)  # where TensorFlow tells what it saves
    for target in track(targets, "exporting", len(targets)):
        with without_native_stderr():
            target.write(serving, info)
        logger.info(f"{target.path}: {validate.megabytes(target.path):.1f} MB")
    validate.validate(
        {target.path: target.precision for target in targets},
        reference,
        validate.frames_of(records, config, options.eval_samples),
        folder,
        info,
    )


def _config(options: ExportOptions, run: RunDirectory, label_map: object) -> Config:
    """The run's, at the size asked for; in float32 whatever it was trained in."""
    overrides = {"image_size": options.image_size} if options.image_size else {}
    config = run.config(options.model_name, overrides, label_map, options.ckpt)
    return dataclasses.replace(config, mixed_precision=False, grad_checkpoint=False)


def _targets(options: ExportOptions, folder: Path, config: Config) -> list[_Target]:
    """What is to be written, in the order of the formats."""
    targets = []
    for kind in dict.fromkeys(options.format):
        if kind == "saved_model":
            path = folder / "saved_model"
            targets.append(_Target(path, "fp32", lambda s, i, p=path: saved_model.write(s, i, p)))
        elif kind == "onnx":
            path = folder / "model.onnx"
            targets.append(_Target(path, "fp32", lambda s, i, p=path: onnx_file.write(s, i, p)))
        else:
            targets += [
                _tflite(options, folder, config, precision)
                for precision in dict.fromkeys(options.quantize)
            ]
    return targets


def _tflite(options: ExportOptions, folder: Path, config: Config, precision: str) -> _Target:
    path = folder / ("model.tflite" if precision == "fp32" else f"model_{precision}.tflite")

    def write(serving: Serving, info: ExportInfo) -> None:
        images = calibration(options.calibration, config) if precision == "int8" else []
        tflite.write(serving, info, path, precision, images)

    return _Target(path, precision, write)


def calibration(pattern: str, config: Config) -> list[np.ndarray]:
    """Images of records, spread evenly over them, as the network gets them.

    Returns:
        `CALIBRATION_IMAGES` or all there are, float32 [H, W, 3], letterboxed, colours of 0..255.
    """
    index = RecordIndex(expand_pattern(pattern))
    numbers = np.linspace(0, len(index) - 1, min(CALIBRATION_IMAGES, len(index))).astype(int)
    mean, std = np.float32(config.mean_rgb), np.float32(config.stddev_rgb)
    images = []
    for number in numbers:
        record = Record.parse(index.read(int(number)).numpy())
        pixels, _ = preprocess(tf.constant(decode(record.encoded)), config)
        images.append(pixels.numpy() * std + mean)
    logger.info(f"int8: calibrated on {counted(len(images), 'image')} of {pattern}")
    return images


def _require_free(paths: list[Path], options: ExportOptions) -> None:
    """Raises UsageError where something would be replaced that nobody said may be."""
    for path in paths:
        restore_folder(path)
        if path.exists() and not options.overwrite:
            raise UsageError(f"{path} is there already: say --overwrite, or another --output_dir")


def _size(config: Config) -> str:
    height, width = config.image_hw
    return f"{width}x{height}"
