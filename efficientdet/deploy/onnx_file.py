"""The graph as an ONNX file: images of any size, what it says of itself in metadata_props."""

import logging
from pathlib import Path

from efficientdet.atomic import atomic_open
from efficientdet.deploy.serving import Serving
from efficientdet.errors import UserError
from efficientdet.inference.export_info import KEY, ExportInfo
from efficientdet.inference.exported import require_package
from efficientdet.tensorflow_device import tf

OPSET = 18


def write(serving: Serving, info: ExportInfo, target: Path) -> None:
    """Writes the file `target`, of opset `OPSET`: input `images`, outputs as `Serving.detect`.

    Raises:
        UserError: an operation that ONNX does not have.
    """
    tf2onnx = require_package("tf2onnx", "--format=onnx")
    logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)
    spec = tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")
    function = tf.function(serving.detect, autograph=False)
    model, _ = tf2onnx.convert.from_function(function, [spec], opset=OPSET)
    domains = {node.domain for node in model.graph.node} - {"", "ai.onnx"}
    if domains or tf2onnx.optimizer is None:
        raise UserError(f"{target}: ONNX has no operations of {', '.join(domains)}")
    for value in (*model.graph.input, *model.graph.output):
        _name_sides(value.type.tensor_type.shape.dim)
    model.producer_version = info.checkpoint.digest
    said = {
        KEY: info.to_json(),
        "labels": "\n".join(info.label_map.names.values()),
        "input_size": f"{info.config.image_size}",
    }
    for key, value in said.items():
        model.metadata_props.add(key=key, value=value)
    with atomic_open(target, "wb") as file:
        file.write(model.SerializeToString())


def _name_sides(sides: list) -> None:
    """Says `N` and so on where the converter made up a name for an unknown side."""
    names = ("N", "height", "width", "channels") if len(sides) == 4 else ("N", "rows", "columns")
    for side, name in zip(sides, names, strict=False):
        if side.dim_param:
            side.dim_param = name
