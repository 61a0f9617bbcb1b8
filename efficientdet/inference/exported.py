"""Exported files as detectors: each is run by its own runtime, not by this project's network."""

import importlib
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from efficientdet.console import without_native_stderr
from efficientdet.errors import UserError, one_line
from efficientdet.evaluation.frames import FrameDetections
from efficientdet.inference.detector import to_frames, with_evaluation_nms
from efficientdet.inference.export_info import FILE_NAME, KEY, ExportInfo
from efficientdet.model.postprocess import Detections, select
from efficientdet.tensorflow_device import tf

Batch = Mapping[str, np.ndarray]
Outputs = dict[str, np.ndarray]


class ExportedDetector(ABC):
    """One exported file; it takes the place of a `Detector`. See `open_export`.

    Attributes:
        path: of the file, or of the SavedModel's folder.
        info: what it says of itself.
    """

    def __init__(self, path: Path, info: ExportInfo):
        self.path, self.info = path, info

    @abstractmethod
    def run(self, batch: Batch, row: int) -> Outputs:
        """The file's outputs for one image of a batch, boxes in pixels of the original."""

    def detect(self, batch: Batch) -> list[FrameDetections]:
        """Detections of a batch as for `Detector.detect`, and with `originals`.

        Those are an array of objects: the images as they were, uint8 [h, w, 3] each.
        """
        frames = []
        for row in np.flatnonzero(batch.get("valid", np.ones(len(batch["images"]), bool))):
            keys = ("original_hw", "source_id")
            one = {key: batch[key][row : row + 1] for key in keys}
            frames += to_frames(self._detections(self.run(batch, row)), one)
        return frames

    def evaluate_each(
        self, batches: Iterable[Batch]
    ) -> Iterator[tuple[Batch, list[FrameDetections], dict[str, float]]]:
        """Batch by batch the detections; no losses, which are nothing that the file computes."""
        for batch in batches:
            yield batch, self.detect(batch), {"num_positives": 0.0}

    def _detections(self, outputs: Outputs) -> Detections:
        if self.info.nms:
            names = ("boxes", "scores", "classes", "count")
            return Detections(*(outputs[name] for name in names))
        found = select(
            outputs["boxes"], outputs["scores"], config=with_evaluation_nms(self.info.config)
        )
        return Detections(*map(np.asarray, found))


class SavedModel(ExportedDetector):
    """A SavedModel, run by TensorFlow."""

    def __init__(self, path: Path):
        file = path / "assets" / FILE_NAME
        if not (path / "saved_model.pb").is_file():
            raise UserError(f"{path}: no SavedModel (no saved_model.pb in it)")
        if not file.is_file():
            raise _foreign(path)
        super().__init__(path, ExportInfo.parse(file.read_bytes(), str(file)))
        try:
            self._model = tf.saved_model.load(str(path))
        except (OSError, ValueError, tf.errors.OpError) as error:
            raise _damaged(path, error) from None
        self._detect = self._model.signatures["serving_default"]

    def run(self, batch: Batch, row: int) -> Outputs:
        """See `ExportedDetector`."""
        return self.call(batch["originals"][row][None])

    def call(self, images: np.ndarray) -> Outputs:
        """The outputs for uint8 [N, h, w, 3]."""
        outputs = self._detect(images=tf.constant(images))
        return {name: value.numpy() for name, value in outputs.items()}


class OnnxFile(ExportedDetector):
    """An ONNX file, run by ONNX Runtime on the CPU."""

    def __init__(self, path: Path):
        runtime = require_package("onnxruntime", f"{path}: ONNX Runtime")
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        try:
            self._session = runtime.InferenceSession(
                path.read_bytes(), options, providers=["CPUExecutionProvider"]
            )
        except OSError:
            raise
        except Exception as error:  # its own types differ from release to release
            raise _damaged(path, error) from None
        stored = self._session.get_modelmeta().custom_metadata_map
        if KEY not in stored:
            raise _foreign(path)
        super().__init__(path, ExportInfo.parse(stored[KEY], str(path)))
        self._names = [output.name for output in self._session.get_outputs()]

    def run(self, batch: Batch, row: int) -> Outputs:
        """See `ExportedDetector`."""
        return self.call(batch["originals"][row][None])

    def call(self, images: np.ndarray) -> Outputs:
        """The outputs for uint8 [N, h, w, 3]."""
        values = self._session.run(self._names, {"images": images})
        return dict(zip(self._names, values, strict=True))


class TfliteFile(ExportedDetector):
    """A TFLite file, run by LiteRT; it takes what the network takes, in colours of 0..255."""

    def __init__(self, path: Path, threads: int | None = None):
        runtime = require_package("ai_edge_litert.interpreter", f"{path}: LiteRT")
        content = path.read_bytes()
        try:
            with zipfile.ZipFile(path) as packed:
                text = packed.read(FILE_NAME)
        except (zipfile.BadZipFile, KeyError):
            raise _foreign(path) from None
        super().__init__(path, ExportInfo.parse(text, str(path)))
        try:
            with without_native_stderr():
                self._interpreter = runtime.Interpreter(model_content=content, num_threads=threads)
                self._interpreter.allocate_tensors()
            self._detect = self._interpreter.get_signature_runner()
        except (ValueError, RuntimeError) as error:
            raise _damaged(path, error) from None
        self.inputs = self._interpreter.get_input_details()

    def run(self, batch: Batch, row: int) -> Outputs:
        """See `ExportedDetector`."""
        config = self.info.config
        pixels = batch["images"][row] * np.float32(config.stddev_rgb) + np.float32(config.mean_rgb)
        dtype = self.inputs[0]["dtype"]
        if dtype == np.uint8:
            pixels = np.clip(np.rint(pixels), 0, 255)
        outputs = self._detect(images=pixels[None].astype(dtype))
        # Of the input's sides, in 0..1; classes from 0.
        sides = np.float32(config.image_hw) * np.float32(batch["image_scale"][row])
        outputs = outputs | {"boxes": outputs["boxes"] * np.tile(sides, 2)}
        if self.info.nms:
            outputs["classes"] = outputs["classes"].astype(np.int32) + 1
            outputs["count"] = outputs["count"].astype(np.int32)
        return outputs


def open_export(path: str | Path) -> ExportedDetector:
    """The detector in an exported file: `.tflite`, `.onnx`, else the folder of a SavedModel.

    Raises:
        UserError: not there, damaged, or not written by this project; its runtime is missing.
    """
    path = Path(path)
    kind = {".tflite": TfliteFile, ".onnx": OnnxFile}.get(path.suffix, SavedModel)
    if not path.exists() or (kind is not SavedModel and not path.is_file()):
        raise UserError(f"{path}: no such {'folder' if kind is SavedModel else 'file'}")
    return kind(path)


def require_package(name: str, what: str) -> ModuleType:
    """The module `name` of the extra `export`, for `what`.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"{what} needs the package {error.name or name}: pip install -e '.[export]'"
        ) from None


def _foreign(path: Path) -> UserError:
    return UserError(f"{path}: not written by export.py, so nothing tells its classes and size")


def _damaged(path: Path, error: Any) -> UserError:
    return UserError(f"{path}: cannot be opened ({one_line(error)}); export it again")
