"""The detector in evaluation: part-filled batches, and memory that runs out."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from rich.console import Console

from efficientdet import backend, processes
from efficientdet.config import Config
from efficientdet.dataset.example import Annotation, make_example
from efficientdet.dataset.image import ImageHeader
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.manifest import Manifest
from efficientdet.errors import UserError
from efficientdet.inference.detector import Detector
from efficientdet.inference.validation import EpochEvaluation, Validator
from efficientdet.input.record_set import RecordSet

CONFIG = Config().override(
    {"image_size": "96x64", "max_level": 4, "num_classes": 3, "iou_loss_type": "ciou"}
)
LABEL_MAP = LabelMap((("Car",), ("Pedestrian",), ("Cyclist",)))
HEIGHT, WIDTH = 64, 96


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> RecordSet:
    """Five frames of noise; the i-th has i + 1 cars."""
    path = tmp_path_factory.mktemp("records") / "val.record"
    rng, header = np.random.default_rng(0), ImageHeader("png", HEIGHT, WIDTH)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number in range(5):
            image = tf.io.encode_png(rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)).numpy()
            cars = [
                Annotation((15 * i, 10, 15 * i + 12 + number, 40), 1, "Car")
                for i in range(number + 1)
            ]
            writer.write(make_example(image, header, f"{number:06d}", cars))
    Manifest(5, LABEL_MAP, 5, class_counts={}).write(path)
    return RecordSet.open(str(path))


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """The outputs of a detector, from the mean colour of each cell."""
    keras.utils.set_random_seed(0)
    images = keras.Input((HEIGHT, WIDTH, 3))
    cells = [layers.AveragePooling2D(2**level)(images) for level in CONFIG.levels]
    channels = [CONFIG.num_anchors * CONFIG.num_classes, CONFIG.num_anchors * 4]
    return keras.Model(images, [[layers.Conv2D(n, 1)(cell) for cell in cells] for n in channels])


@pytest.fixture(scope="module")
def detector(model) -> Detector:
    """On a device with memory enough, compiled once for each batch size."""
    return Detector(model, CONFIG)


def validator(records: RecordSet, batch_size: int, num_images: int, console=None) -> Validator:
    console = console or Console(quiet=True)
    return Validator(records, CONFIG, batch_size, num_images=num_images, console=console)


def losses(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name.startswith("val_")}


def test_losses_do_not_depend_on_the_batch(records, detector):
    """Three of five frames: a part-filled batch holds a frame that has objects of its own."""
    each, filled = (
        losses(validator(records, size, num_images=3)(detector).metrics) for size in (1, 2)
    )
    assert each.keys() == {"val_det_loss", "val_cls_loss", "val_box_loss", "val_box_iou_loss"}
    assert filled == pytest.approx(each, rel=1e-4)


def test_processes_share_the_images_and_score_as_one(records, detector, monkeypatch):
    """Of five frames in three batches the first has two batches: to the bit, in the same order."""
    expected = validator(records, 2, num_images=5)(detector)
    told: list[bytes] = []
    helper = SimpleNamespace(number=1, count=2, collect=told.append)
    writer = SimpleNamespace(number=0, count=2, collect=lambda payload: [payload, *told])
    for company in (helper, writer):
        monkeypatch.setattr(processes, "_company", company)
        found = validator(records, 2, num_images=5)(detector)
        assert (found is None) == (company is helper)
    assert found.metrics == pytest.approx(expected.metrics, rel=0, abs=0, nan_ok=True)
    for one, other in zip(found.detections, expected.detections, strict=True):
        assert one.source_id == other.source_id
        for name in ("boxes", "scores", "classes"):
            assert np.array_equal(getattr(one, name), getattr(other, name))


def test_every_metric_is_known_before_the_first_evaluation(records, detector):
    one = validator(records, 1, num_images=1)
    assert {*one.metric_names, "num_images"} == one(detector).metrics.keys()
    plain = CONFIG.override({"iou_loss_type": None})
    one = Validator(records, plain, 1, num_images=1, console=Console(quiet=True))
    assert "val_box_iou_loss" not in one.metric_names


@pytest.fixture
def device(monkeypatch):
    """Its `most` images fit; notes the `sizes` of what it was given."""

    class Device:
        most = 2
        sizes: list[int] = []

    compile_pure = backend.compile_pure

    def compile_for_it(pure):
        compiled = compile_pure(pure)

        def limited(trainables, statistics, images, *rest):
            Device.sizes.append(len(images))
            if len(images) > Device.most:
                raise MemoryError("injected")
            return compiled(trainables, statistics, images, *rest)

        return limited

    monkeypatch.setattr(backend, "compile_pure", compile_for_it)
    return Device


def test_evaluation_out_of_memory_goes_on_with_half_the_batch(
    records, model, tmp_path, device, monkeypatch, said
):
    monkeypatch.setattr(Validator, "show", lambda *args: None)
    monkeypatch.setattr(Validator, "write", lambda *args: None)
    plain = validator(records, 2, num_images=4)(Detector(model, CONFIG))
    device.sizes.clear()
    monkeypatch.setattr("efficientdet.inference.validation.identify", lambda checkpoint: None)
    evaluation = EpochEvaluation(validator(records, 4, 4), tmp_path)
    detector = Detector(model, CONFIG)
    for sizes in ([4, 2, 2], [2, 2]):  # the second epoch knows
        evaluated = evaluation(detector, tmp_path)
        assert device.sizes == sizes
        device.sizes.clear()
        assert evaluated.metrics == pytest.approx(plain.metrics, rel=1e-4, nan_ok=True)
        for one, other in zip(evaluated.detections, plain.detections, strict=True):
            assert one.source_id == other.source_id
            np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
    assert said == ["out of memory with 4 images at once: going on with 2"]


def test_detection_halves_again_until_it_fits(records, model, device, said):
    device.most, device.sizes[:] = 1, []
    detector = Detector(model, CONFIG)
    frames = validator(records, 4, num_images=4).detect(detector)
    assert [frame.source_id for frame in frames] == [f"{i:06d}" for i in range(4)]
    assert device.sizes == [4, 2, 1, 1, 1, 1] and len(said) == 2


def test_one_image_too_many_is_one_clear_line(records, model, device):
    device.most = 0
    with pytest.raises(UserError, match="single image of 96x64.*smaller image_size") as caught:
        validator(records, 2, num_images=2)(Detector(model, CONFIG))
    assert "\n" not in str(caught.value)


def test_other_errors_are_not_taken_for_it(records, model, monkeypatch):
    def broken(*args):
        raise ValueError("shapes")

    detector = Detector(model, CONFIG)
    monkeypatch.setattr(detector, "_evaluate", broken)
    with pytest.raises(ValueError, match="shapes"):
        validator(records, 2, num_images=2)(detector)


@pytest.fixture
def runs_ahead(monkeypatch):
    monkeypatch.setattr(backend, "runs_ahead", lambda: True)


def test_the_next_batch_is_on_its_way_before_one_is_looked_at(
    records, model, device, runs_ahead, monkeypatch
):
    frames = {}
    for ahead in (False, True):
        monkeypatch.setattr(backend, "runs_ahead", lambda ahead=ahead: ahead)
        device.sizes.clear()
        one, seen = validator(records, 2, num_images=5), []
        detector = Detector(model, CONFIG)
        frames[ahead] = []
        for _, found in detector.detect_each(one.batches()):
            seen.append(len(device.sizes))
            frames[ahead] += found
        assert seen == ([2, 3, 3] if ahead else [1, 2, 3])
    for first, second in zip(frames[True], frames[False], strict=True):
        assert first.source_id == second.source_id
        np.testing.assert_array_equal(first.boxes, second.boxes)


def test_memory_that_runs_out_in_flight_costs_no_result(
    records, model, device, runs_ahead, monkeypatch, said
):
    """One does not fit beside the batch before; another fails where its results are read."""
    detector, calls, to_numpy = Detector(model, CONFIG), [], keras.ops.convert_to_numpy
    expected = validator(records, 1, num_images=5).detect(detector)
    detect = detector._detect

    def failing(*args):
        calls.append(len(args[2]))
        if len(calls) == 2:
            raise MemoryError("injected")
        return detect(*args)

    def reading(x):
        if len(calls) == 4 and len(x) == 2:  # the third batch was started, the second is read
            calls.append(0)
            raise MemoryError("injected")
        return to_numpy(x)

    monkeypatch.setattr(detector, "_detect", failing)
    monkeypatch.setattr("efficientdet.inference.detector.ops.convert_to_numpy", reading)
    found = validator(records, 2, num_images=5).detect(detector)
    assert [frame.source_id for frame in found] == [frame.source_id for frame in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
    assert said == ["out of memory with 2 images at once: going on with 1"]
    assert 0 in calls
