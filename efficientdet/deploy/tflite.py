"""The graph as a TFLite file of LiteRT's builtin operations alone, in float32, float16 or int8.

The network and what comes after it are converted apart and joined: int8 is for convolutions, not
for boxes and scores. Nothing in it needs Flex, and NMS is the one that was evaluated.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from efficientdet.atomic import atomic_open
from efficientdet.deploy import tflite_join, tflite_metadata, tflite_nms
from efficientdet.deploy.serving import Outputs, Serving, trace
from efficientdet.inference.export_info import ExportInfo
from efficientdet.tensorflow_device import tf

Precision = Literal["fp32", "fp16", "int8"]


def write(
    serving: Serving,
    info: ExportInfo,
    target: Path,
    precision: Precision,
    calibration: list[np.ndarray] = (),
) -> None:
    """Writes the file `target`; what goes in and comes out, see `tflite_metadata`.

    Args:
        calibration: for int8, float32 [H, W, 3] images of 0..255, as they will come.
    """
    height, width = serving.config.image_hw
    image = tf.TensorSpec([1, height, width, 3], tf.float32, name="images")

    def network(images: tf.Tensor) -> Outputs:
        return _named(*serving.network(images))

    traced = trace(network, image)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced.function], traced.module)
    if precision != "fp32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "fp16":
        converter.target_spec.supported_types = [tf.float16]
    if precision == "int8":
        converter.representative_dataset = lambda: _samples(calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
    network_file = converter.convert()
    shapes = traced.function.structured_outputs
    joined = tflite_join.join(
        network_file, _after(serving, shapes, info.nms), tflite_metadata.OUTPUTS
    )
    content = tflite_metadata.packed(joined, info, is_float=precision != "int8")
    with atomic_open(target, "wb") as file:
        file.write(content)


def _after(serving: Serving, raw: Outputs, nms: bool) -> bytes:
    """The rest of the graph, always in float32: the network's outputs -> what comes out."""
    names = sorted(raw)
    specs = [tf.TensorSpec(raw[name].shape, tf.float32, name=name) for name in names]
    sides = np.float32([serving.config.image_hw])

    def after(*values: tf.Tensor) -> Outputs:
        half = len(values) // 2
        raw = list(values[:half]), list(values[half:])
        return tflite_nms.detect(serving, *raw, sides) if nms else serving.outputs(*raw, 1 / sides)

    traced = trace(after, *specs)
    return tf.lite.TFLiteConverter.from_concrete_functions(
        [traced.function], traced.module
    ).convert()


def _named(classes: list[tf.Tensor], boxes: list[tf.Tensor]) -> Outputs:
    """The outputs of all levels by names whose order is theirs."""
    return {f"raw_{index:02}": output for index, output in enumerate([*classes, *boxes])}


def _samples(images: list[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """The images, each with a black and a white pixel: so a step of uint8 is a step of colour."""
    for image in images:
        sample = image[None].copy()
        sample[0, 0, 0], sample[0, 0, 1] = 0, 255
        yield [sample]
