"""Size and latency of a detector in every format, beside Keras, in one process.

    python -m benchmarks.exports
    python -m benchmarks.exports --models=efficientdet-lite0 --sizes=512x512 --repeats=50

Weights are random, which neither size nor latency depends on; int8 is calibrated on made-up images.
A latency is the median over one image of KITTI's size, everything included from its pixels on: for
Keras and TFLite resizing by the input pipeline, for the others inside the file. All formats take
turns, so that whatever else the machine does meets all of them.
"""

from benchmarks import cpu_only  # isort: skip  # noqa: F401
from efficientdet.commands import runner  # isort: skip (says what is not installed)
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from absl import flags

from benchmarks.export_table import markdown
from efficientdet.atomic import atomic_open

MODELS = flags.DEFINE_list("models", "efficientdet-lite0,efficientdet-d0", "Which.")
SIZES = flags.DEFINE_list("sizes", "512x512,1280x384", "Input sizes, width x height.")
REPEATS = flags.DEFINE_integer("repeats", 30, "Calls of each, of which the median.", lower_bound=1)
CORES = flags.DEFINE_integer("cores", 2, "Cores and threads for each runtime.", lower_bound=1)
OUTPUT = flags.DEFINE_string("output", None, "File for the figures, JSON.")
PRECISIONS, WARM_UP, CALIBRATION = ("fp32", "fp16", "int8"), 3, 8


def main() -> None:
    from efficientdet.commands import quiet_tensorflow  # noqa: F401

    if hasattr(os, "sched_setaffinity"):  # runtimes count the cores that they may use
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: CORES.value])
    rows = []
    for name in MODELS.value:
        for size in SIZES.value:
            print(f"{name} at {size} ...", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory() as folder:
                rows += measure(name, size, Path(folder))
    print(f"{CORES.value} CPU cores, medians of {REPEATS.value}: ms (MB)\n\n{markdown(rows)}")
    if OUTPUT.value:
        with atomic_open(OUTPUT.value) as file:
            json.dump(
                {"cores": CORES.value, "repeats": REPEATS.value, "rows": rows}, file, indent=1
            )


def measure(name: str, size: str, folder: Path) -> list[dict]:
    """A row for Keras and for each format."""
    from efficientdet.checkpoint.identity import Identity
    from efficientdet.config import Config
    from efficientdet.console import without_native_stderr
    from efficientdet.dataset.label_map import LabelMap
    from efficientdet.deploy import onnx_file, saved_model, tflite
    from efficientdet.deploy.serving import Serving
    from efficientdet.deploy.validate import megabytes
    from efficientdet.inference.detector import Detector
    from efficientdet.inference.export_info import ExportInfo
    from efficientdet.inference.exported import TfliteFile, open_export
    from efficientdet.input.images import original_batch
    from efficientdet.model.detector import build_detector
    from efficientdet.synthetic.scenes import render_frame

    label_map = LabelMap.kitti()
    config = Config.for_model(name).override(
        {"image_size": size, "num_classes": label_map.num_classes}
    )
    frames = [np.asarray(render_frame(0, number)[0]) for number in range(CALIBRATION)]
    inputs = [original_batch(frame, "", config)["images"][0] for frame in frames]
    mean, std = np.float32(config.mean_rgb), np.float32(config.stddev_rgb)
    info = ExportInfo(config, label_map, {}, Identity("random weights", None, ""))
    detectors = {"Keras": Detector(build_detector(config), config)}
    sizes = {"Keras": None}
    serving = Serving(build_detector(config), config)
    with without_native_stderr():
        saved_model.write(serving, info, folder / "SavedModel")
        onnx_file.write(serving, info, folder / "model.onnx")
        for kind in PRECISIONS:
            images = [image * std + mean for image in inputs]
            tflite.write(serving, info, folder / f"{kind}.tflite", kind, images)
    for label, file in (
        ("SavedModel", "SavedModel"),
        *((f"TFLite {kind}", f"{kind}.tflite") for kind in PRECISIONS),
        ("ONNX", "model.onnx"),
    ):
        path = folder / file
        is_tflite = path.suffix == ".tflite"
        detectors[label] = TfliteFile(path, CORES.value) if is_tflite else open_export(path)
        sizes[label] = megabytes(path)
    times: dict[str, list[float]] = {label: [] for label in detectors}
    for _ in range(WARM_UP + REPEATS.value):
        for label, detector in detectors.items():
            start = time.perf_counter()
            detector.detect(original_batch(frames[0], "", config))
            times[label].append(1000 * (time.perf_counter() - start))
    return [
        {
            "model": name, "input": size, "format": label, "mb": sizes[label],
            "ms": statistics.median(values[WARM_UP:]),
        }
        for label, values in times.items()
    ]  # fmt: skip


if __name__ == "__main__":
    runner.run(main)
