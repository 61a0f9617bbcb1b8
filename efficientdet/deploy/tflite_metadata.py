"""What a TFLite file says of itself, in the form that LiteRT's task tools read.

A table `ModelMetadata` (metadata_schema.fbs, "M001") lies in the buffer TFLITE_METADATA, and the
files that it names in a zip behind the model. The packages that write this bring 100 MB of other
things along; what is needed of it stands here.

Of a model with NMS: `boxes` float32 [1, D, 4], ymin, xmin, ymax, xmax as shares of the input's
sides, `classes` float32 [1, D], rows of labels.txt from 0, `scores` float32 [1, D], `count` float32
[1]: names, order and types of the operation TFLite_Detection_PostProcess.
"""

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import flatbuffers

from efficientdet.inference.export_info import FILE_NAME, ExportInfo
from efficientdet.inference.exported import require_package

OUTPUTS = ("boxes", "classes", "scores", "count")
LABELS = "labels.txt"
_BUFFER, _IDENTIFIER, _PARSER = "TFLITE_METADATA", b"M001", "1.0.0"

# Numbers of the schema: members of its unions and enumerations.
_FEATURE, _IMAGE, _BOUNDING_BOX = 1, 2, 3
_RGB, _BOUNDARIES, _RATIO = 1, 1, 0
_NORMALIZATION, _VALUE_LABELS = 1, 3
# What LiteRT's tools call the four outputs, and what they are.
_TASK_OUTPUTS = {
    "boxes": ("location", "boxes: ymin, xmin, ymax, xmax, of the image's sides"),
    "classes": ("category", f"classes: rows of {LABELS}, from 0"),
    "scores": ("score", "scores in 0..1, best first"),
    "count": ("number of detections", "how many there are"),
}


def packed(model: bytes, info: ExportInfo, *, is_float: bool) -> bytes:
    """`model` with its metadata, labels.txt and export.json."""
    tools = require_package("ai_edge_litert.tools.flatbuffer_utils", "--format=tflite")
    schema = require_package("ai_edge_litert.schema_py_generated", "--format=tflite")
    content = tools.read_model_from_bytearray(bytearray(model))
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = list(_model_metadata(info, is_float))
    content.buffers.append(buffer)
    entry.name, entry.buffer = _BUFFER, len(content.buffers) - 1
    content.metadata = [entry]
    file = io.BytesIO()
    file.write(tools.convert_object_to_bytearray(content))
    labels = "".join(f"{name}\n" for name in info.label_map.names.values())
    with zipfile.ZipFile(file, "a") as behind:  # not compressed: it is read where it lies
        for name, text in ((LABELS, labels), (FILE_NAME, info.to_json())):
            behind.writestr(zipfile.ZipInfo(name), text)
    return file.getvalue()


def _model_metadata(info: ExportInfo, is_float: bool) -> bytes:
    builder = _Builder()
    height, width = info.config.image_hw
    size = builder.table({0: UInt(width), 1: UInt(height)})
    properties = builder.table({0: Byte(_RGB), 1: size})
    content = builder.table({0: Byte(_IMAGE), 1: properties})
    # Values of 0..255 come in as they are.
    norm = builder.table({0: builder.floats([0.0]), 1: builder.floats([1.0])})
    unit = builder.table({0: Byte(_NORMALIZATION), 1: norm})
    limits = builder.table({0: builder.floats([255.0]), 1: builder.floats([0.0])})
    text = f"RGB image of {width}x{height}, {'float32' if is_float else 'uint8'} of 0..255"
    image = {0: "image", 1: text, 3: content, 4: [unit], 5: limits}
    graph = {2: [builder.table(image)], 3: _outputs(builder, info.nms)}
    if info.nms:
        names = [name for name, _ in _TASK_OUTPUTS.values()][:3]
        graph[8] = [builder.table({0: "detection_result", 1: names})]
    about = builder.table({0: FILE_NAME, 1: "classes, thresholds, configuration"})
    root = builder.table(
        {
            0: info.config.name,
            1: f"Objects in images; made of {info.checkpoint}",
            3: [builder.table(graph)],
            6: [about],
            7: _PARSER,
        }
    )
    return builder.finish(root)


def _outputs(builder: "_Builder", nms: bool) -> "list[_Offset]":
    """One TensorMetadata for each output, in the order of `OUTPUTS`."""
    if not nms:
        texts = {"boxes": _TASK_OUTPUTS["boxes"][1], "scores": f"of each row of {LABELS}, 0..1"}
        return [builder.table({0: name, 1: text}) for name, text in texts.items()]
    tensors = []
    for output, (name, text) in _TASK_OUTPUTS.items():
        kind, properties, files = _FEATURE, builder.table({}), []
        if output == "boxes":  # left, top, right, bottom stand at 1, 0, 3, 2
            order = builder.integers([1, 0, 3, 2])
            kind = _BOUNDING_BOX
            properties = builder.table({0: order, 1: Byte(_BOUNDARIES), 2: Byte(_RATIO)})
        if output == "classes":
            label = {0: LABELS, 1: "the classes", 2: Byte(_VALUE_LABELS)}
            files = [builder.table(label)]
        content = {0: Byte(kind), 1: properties}
        if output != "count":
            content[2] = builder.table({0: Int(2), 1: Int(2)})
        tensor = {0: name, 1: text, 3: builder.table(content)}
        tensors.append(builder.table(tensor | ({6: files} if files else {})))
    return tensors


@dataclass(frozen=True)
class _Offset:
    """Where something is that was written."""

    value: int


class Byte(int):
    """A number of one byte."""


class Int(int):
    """A number of four bytes."""


class UInt(int):
    """A number of four bytes without a sign."""


_Value = str | Byte | Int | UInt | _Offset | Sequence["str | _Offset"]


class _Builder:
    """Writes tables by the numbers of their fields."""

    def __init__(self) -> None:
        self._builder = flatbuffers.Builder(1024)

    def table(self, fields: Mapping[int, _Value]) -> _Offset:
        """A table; texts and lists in it are written before it."""
        builder = self._builder
        values = {slot: self._written(value) for slot, value in fields.items()}
        builder.StartObject(max(values, default=-1) + 1)
        for slot, value in values.items():
            if isinstance(value, _Offset):
                builder.PrependUOffsetTRelativeSlot(slot, value.value, 0)
            elif isinstance(value, Byte):
                builder.PrependInt8Slot(slot, value, 0)
            elif isinstance(value, Int):
                builder.PrependInt32Slot(slot, value, 0)
            else:
                builder.PrependUint32Slot(slot, value, 0)
        return _Offset(builder.EndObject())

    def floats(self, values: Sequence[float]) -> _Offset:
        """A vector of float32."""
        self._builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            self._builder.PrependFloat32(value)
        return _Offset(self._builder.EndVector())

    def integers(self, values: Sequence[int]) -> _Offset:
        """A vector of uint32."""
        self._builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            self._builder.PrependUint32(value)
        return _Offset(self._builder.EndVector())

    def finish(self, root: _Offset) -> bytes:
        """The whole buffer."""
        self._builder.Finish(root.value, file_identifier=_IDENTIFIER)
        return bytes(self._builder.Output())

    def _written(self, value: _Value) -> _Offset | Byte | Int | UInt:
        if isinstance(value, str):
            return _Offset(self._builder.CreateString(value))
        if isinstance(value, list):
            offsets = [self._written(one) for one in value]
            self._builder.StartVector(4, len(offsets), 4)
            for offset in reversed(offsets):
                self._builder.PrependUOffsetTRelative(offset.value)
            return _Offset(self._builder.EndVector())
        return value
