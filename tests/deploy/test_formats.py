"""Every format gives what Keras gives, raw and as detections, for both kinds of network."""

import zipfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
import tensorflow as tf
from ai_edge_litert.tools import flatbuffer_utils
from tiny_exports import HEIGHT, MODELS, NAMES, WIDTH, info_of, noise, tiny

from efficientdet.dataset.label_map import LabelMap
from efficientdet.deploy import onnx_file, saved_model, tflite
from efficientdet.deploy.folding import fold
from efficientdet.deploy.serving import Serving, trace
from efficientdet.evaluation.frames import FrameDetections
from efficientdet.inference.detector import Detector, load_detector
from efficientdet.inference.exported import open_export
from efficientdet.input.images import find_images, image_batches, original_batch
from efficientdet.model.anchors import Anchors, decode
from efficientdet.model.detector import batch_norms
from efficientdet.model.postprocess import flat_outputs

FILES = ("saved_model", "model.onnx", "model.tflite")
Exports = Callable[[str, bool], Path]


@pytest.fixture(scope="module")
def exports_of(run_of, tmp_path_factory) -> Exports:
    """A folder with all formats of one of `MODELS`, with NMS or without."""

    @cache
    def exports_of(name: str, nms: bool) -> Path:
        folder, config = tmp_path_factory.mktemp("exports"), tiny(name)
        serving = Serving(load_detector(config, run_of(name), NAMES).model, config, nms)
        info = info_of(config, nms=nms)
        saved_model.write(serving, info, folder / "saved_model")
        tflite.write(serving, info, folder / "model.tflite", "fp32")
        if nms or name == MODELS[0]:  # the slowest converter
            onnx_file.write(serving, info, folder / "model.onnx")
        return folder

    return exports_of


def batches(name: str, shared: Path | None = None) -> list[dict[str, np.ndarray]]:
    """Images that are enlarged, shrunk and left alone; with `shared`, the 20 real frames."""
    config = tiny(name)
    if shared is not None:
        paths = find_images(str(shared / "kitti/png"))[:20]
        return [batch for batch, _ in image_batches(paths, config, 1)]
    sizes = ((HEIGHT, WIDTH), (30, 50), (375, 1242), (100, 40))
    return [original_batch(noise(*size), str(size), config) for size in sizes]


def assert_equal(expected: Sequence[FrameDetections], found: Sequence[FrameDetections]) -> None:
    for one, other in zip(expected, found, strict=True):
        assert len(one.scores) and one.source_id == other.source_id
        np.testing.assert_allclose(other.scores, one.scores, atol=1e-4)
        np.testing.assert_array_equal(other.classes, one.classes)
        np.testing.assert_allclose(other.boxes, one.boxes, rtol=1e-4, atol=0.02)


@pytest.mark.parametrize("name", MODELS)
def test_no_batch_norm_is_left_and_the_network_is_the_same(name, run_of) -> None:
    config = tiny(name)
    model = load_detector(config, run_of(name), NAMES).model
    images = np.random.default_rng(0).normal(size=(2, HEIGHT, WIDTH, 3)).astype(np.float32)
    before = tf.nest.flatten(model(images, training=False))
    assert fold(model) == len(batch_norms(model))
    for one, other in zip(before, tf.nest.flatten(model(images, training=False)), strict=True):
        np.testing.assert_allclose(other, one, atol=1e-4)
    spec = tf.TensorSpec(images.shape, tf.float32)
    traced = trace(lambda x: model(x, training=False), spec)
    kinds = {operation.type for operation in traced.function.graph.get_operations()}
    assert not any("BatchNorm" in kind for kind in kinds)
    assert not any("moving" in variable.name for variable in traced.module.weights)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("name", MODELS)
def test_raw_outputs_are_those_of_keras(name, file, exports_of, detector_of) -> None:
    path = exports_of(name, False) / file
    if not path.exists():
        pytest.skip("of one network alone, for it takes long")
    detector = open_export(path)
    keras, config = detector_of(name), tiny(name)
    (batch, *_) = batches(name)  # which is not resized
    outputs = flat_outputs(*keras.model(batch["images"], training=False), config)
    logits, codes = (np.asarray(output) for output in outputs)
    found = detector.run(batch, 0)
    np.testing.assert_allclose(np.log(1 / found["scores"] - 1), -logits, atol=1e-4)
    expected = decode(codes, Anchors(config).boxes)
    np.testing.assert_allclose(found["boxes"], expected, rtol=1e-4, atol=1e-2)
    assert_equal(keras.detect(batch), detector.detect(batch))  # by NMS of the reader's own


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("name", MODELS)
def test_detections_are_those_of_keras(name, file, exports_of, detector_of) -> None:
    keras: Detector = detector_of(name)
    detector = open_export(exports_of(name, True) / file)
    expected = [keras.detect(batch)[0] for batch in batches(name)]
    assert_equal(expected, [detector.detect(batch)[0] for batch in batches(name)])
    assert detector.info == info_of(tiny(name))


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("name", MODELS)
def test_detections_of_real_frames_are_those_of_keras(
    name, file, exports_of, detector_of, shared
) -> None:
    frames, keras = batches(name, shared), detector_of(name)
    assert len(frames) == 20
    detector = open_export(exports_of(name, True) / file)
    expected = [keras.detect(batch)[0] for batch in frames]
    assert_equal(expected, [detector.detect(batch)[0] for batch in frames])


@pytest.mark.parametrize("file", FILES[:2])
def test_several_images_at_once(file, exports_of) -> None:
    """Of one size; each comes out as by itself."""
    detector = open_export(exports_of(MODELS[0], True) / file)
    images = np.stack([noise(50, 70, seed) for seed in range(3)])
    one_by_one = [detector.call(image[None]) for image in images]
    together = detector.call(images)
    assert together["boxes"].shape == (3, 20, 4) and together["count"].shape == (3,)
    for row, alone in enumerate(one_by_one):
        for key, value in alone.items():
            np.testing.assert_allclose(together[key][row], value[0], atol=1e-3)


def test_onnx_says_what_it_is(exports_of) -> None:
    model = onnx.load(exports_of(MODELS[1], True) / "model.onnx")
    onnx.checker.check_model(model)
    assert model.opset_import[0].version == onnx_file.OPSET
    said = {entry.key: entry.value for entry in model.metadata_props}
    assert said["labels"] == "Car\nPedestrian\nCyclist" and said["input_size"] == "128x64"
    (image,) = model.graph.input
    sides = [side.dim_param or side.dim_value for side in image.type.tensor_type.shape.dim]
    assert (image.name, sides) == ("images", ["N", "height", "width", 3])
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}


def test_a_saved_model_brings_map_and_configuration(exports_of) -> None:
    assets = exports_of(MODELS[0], True) / "saved_model/assets"
    assert LabelMap.read(assets / "label_map.txt") == NAMES
    names = {path.name for path in assets.iterdir()}
    assert names == {"label_map.txt", "config.yaml", "export.json"}


@pytest.mark.parametrize("nms", [True, False])
def test_a_tflite_file_is_one_graph_of_builtin_operations(exports_of, nms) -> None:
    """As LiteRT's task tools want it, and as runs without Flex."""
    path = exports_of(MODELS[0], nms) / "model.tflite"
    model = flatbuffer_utils.read_model(str(path))
    assert len(model.subgraphs) == 1
    assert not [code.customCode for code in model.operatorCodes if code.customCode]
    (entry,) = model.metadata
    about = bytes(model.buffers[entry.buffer].data)
    assert entry.name == b"TFLITE_METADATA" and about[4:8] == b"M001"
    for text in (b"labels.txt", b"export.json", b"RGB image of 128x64"):
        assert text in about
    assert (b"number of detections" in about) == nms
    with zipfile.ZipFile(path) as packed:
        assert packed.read("labels.txt") == b"Car\nPedestrian\nCyclist\n"
        assert {one.compress_type for one in packed.infolist()} == {zipfile.ZIP_STORED}


def test_int8_takes_bytes_as_they_are(run_of, tmp_path, detector_of) -> None:
    """One class with a Korean name; hard NMS."""
    name, path = MODELS[0], tmp_path / "모형.tflite"
    config = tiny(name, **{"nms_configs.method": "hard"})
    serving = Serving(load_detector(config, run_of(name), NAMES).model, config)
    label_map = LabelMap((("자동차",), ("보행자",), ("자전거",)))
    images = [noise(seed=seed).astype(np.float32) for seed in range(4)]
    tflite.write(serving, info_of(config, label_map), path, "int8", images)
    detector = open_export(path)
    assert detector.info.label_map.names == {1: "자동차", 2: "보행자", 3: "자전거"}
    (given,) = detector.inputs
    assert given["dtype"] == np.uint8 and given["quantization"] == (pytest.approx(1.0), 0)
    model = flatbuffer_utils.read_model(str(path))
    kinds = {flatbuffer_utils.opcode_to_name(model, i) for i in range(len(model.operatorCodes))}
    assert not kinds & {"WHILE", "CUSTOM"} and {"DEQUANTIZE", "NON_MAX_SUPPRESSION_V5"} <= kinds
    batch = original_batch(noise(), "0", config)
    keras = load_detector(config, run_of(name), NAMES)
    ((found,), (expected,)) = detector.detect(batch), keras.detect(batch)
    np.testing.assert_allclose(found.scores[:5], expected.scores[:5], atol=0.1)
