import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from efficientdet import backend
from efficientdet.config import Config
from efficientdet.model.anchors import Anchors, decode
from efficientdet.model.losses import huber_loss
from efficientdet.model.roles import BACKGROUND, IGNORE, PADDING
from efficientdet.model.targets import Targets, assign

SMALL = Config(image_size=64, num_classes=8)


def assign_np(config: Config, boxes, classes) -> Targets:
    """One image's targets (or a batch's) as numpy arrays."""
    boxes = np.asarray(boxes, np.float32).reshape(-1, len(np.atleast_2d(classes)[0]), 4)
    targets = assign(Anchors(config).boxes, boxes, np.atleast_2d(classes), config=config)
    return Targets(*map(ops.convert_to_numpy, targets))


def iou_with_anchors(config: Config, box) -> np.ndarray:
    anchors = Anchors(config).boxes.astype(np.float64)
    low, high = np.maximum(anchors[:, :2], box[:2]), np.minimum(anchors[:, 2:], box[2:])
    overlap = np.prod(np.maximum(high - low, 0), axis=1)
    area = np.prod(anchors[:, 2:] - anchors[:, :2], axis=1)
    return overlap / (area + (box[2] - box[0]) * (box[3] - box[1]) - overlap)


def golden_inputs(golden, name: str, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Ground truth of one golden image, padded with zeros to `rows`."""
    boxes, classes = golden[f"{name}_gt_boxes_yxyx_pixels"], golden[f"{name}_gt_labels_1based"]
    padding = rows - len(boxes)
    return np.pad(boxes, ((0, padding), (0, 0))), np.pad(classes[:, 0], (0, padding)).astype(int)


def assert_equals_golden(targets: Targets, index: int, golden, name: str) -> None:
    classes = [golden[f"{name}_cls_P{level}"].ravel() for level in range(3, 8)]
    codes = [golden[f"{name}_box_P{level}"].reshape(-1, 4) for level in range(3, 8)]
    np.testing.assert_array_equal(targets.classes[index], np.concatenate(classes))
    np.testing.assert_allclose(targets.boxes[index], np.concatenate(codes), rtol=1e-6, atol=1e-6)
    assert targets.num_positives[index] == golden[f"{name}_num_positives"]


def test_a_batch_of_a_full_and_an_empty_image_equals_automl(root):
    golden = np.load(root / "tests/golden/targets.npz")
    images = [golden_inputs(golden, name, rows=9) for name in ("512", "512_empty")]
    boxes, classes = map(np.stack, zip(*images, strict=True))
    targets = assign_np(Config(image_size=512), boxes, classes)
    assert_equals_golden(targets, 0, golden, "512")
    assert_equals_golden(targets, 1, golden, "512_empty")


def test_a_wide_image_equals_automl(root):
    golden = np.load(root / "tests/golden/targets.npz")
    targets = assign_np(Config(image_size="1280x384"), *golden_inputs(golden, "h384_w1280", rows=4))
    assert_equals_golden(targets, 0, golden, "h384_w1280")


def test_every_object_has_an_anchor_however_small():
    boxes = [[3, 3, 5, 5], [40, 40, 60, 60]]
    targets = assign_np(SMALL, boxes, [2, 5])
    assert set(targets.classes[0]) == {BACKGROUND, 1, 4}
    assert np.sum(targets.classes == 1) == 1


def test_codes_of_positives_decode_to_their_objects():
    box = [8, 4, 40, 60]
    targets = assign_np(SMALL, box, [3])
    decoded = ops.convert_to_numpy(decode(targets.boxes[0], Anchors(SMALL).boxes))
    expected = np.float32([box] * int(targets.num_positives[0]))
    np.testing.assert_allclose(decoded[targets.positive[0]], expected, atol=1e-4)
    assert not np.any(targets.boxes[~targets.positive])


def test_two_objects_forced_on_one_anchor_leave_it_to_the_first():
    boxes = [[3, 3, 5, 5], [3, 3, 5, 5]]
    assert set(assign_np(SMALL, boxes, [2, 5]).classes[0]) == {BACKGROUND, 1}


class TestIgnoreRegions:
    region = (0, 0, 40, 64)

    def inside(self) -> np.ndarray:
        """bool [A]: more than half of the anchor's own area lies in `region`."""
        anchors = Anchors(SMALL).boxes.astype(np.float64)
        low = np.maximum(anchors[:, :2], self.region[:2])
        high = np.minimum(anchors[:, 2:], self.region[2:])
        area = np.prod(anchors[:, 2:] - anchors[:, :2], axis=1)
        return np.prod(np.maximum(high - low, 0), axis=1) > 0.5 * area

    def test_would_be_negatives_inside_are_ignored(self):
        targets = assign_np(SMALL, self.region, [IGNORE])
        expected = np.where(self.inside(), IGNORE, BACKGROUND)
        np.testing.assert_array_equal(targets.classes[0], expected)
        assert targets.num_positives[0] == 0
        assert 0 < self.inside().sum() < len(expected)

    def test_matched_and_forced_anchors_inside_stay_positive(self):
        small, big = [3, 3, 5, 5], [4, 4, 36, 36]
        alone = assign_np(SMALL, [small, big], [1, 2])
        targets = assign_np(SMALL, [small, self.region, big], [1, IGNORE, 2])
        np.testing.assert_array_equal(targets.positive, alone.positive)
        np.testing.assert_array_equal(targets.boxes, alone.boxes)
        assert targets.num_positives == alone.num_positives
        negative = ~alone.positive[0]
        np.testing.assert_array_equal(
            (targets.classes[0] == IGNORE)[negative], self.inside()[negative]
        )

    def test_a_marked_object_releases_its_anchor(self):
        targets = assign_np(SMALL, [[4, 4, 36, 36], [3, 3, 5, 5]], [IGNORE, IGNORE])
        assert not targets.positive.any()

    def test_the_area_is_the_anchors_own(self):
        # A region that is a small part of every anchor ignores none, whatever their IoU.
        targets = assign_np(SMALL, [3, 3, 13, 13], [IGNORE])
        assert set(targets.classes[0]) == {BACKGROUND}

    def test_without_ignore_regions_a_region_vanishes(self):
        config = SMALL.override({"ignore_regions": False})
        targets = assign_np(config, self.region, [IGNORE])
        assert set(targets.classes[0]) == {BACKGROUND}


@pytest.mark.parametrize("seed", range(3))
def test_positives_are_those_above_half_and_one_for_each_object(seed):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 40, (5, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(2, 24, (5, 2))], axis=1)
    iou = np.stack([iou_with_anchors(SMALL, box) for box in boxes])
    targets = assign_np(SMALL, boxes, [1, 2, 3, 4, 5])
    positive, near_best = targets.positive[0], iou >= iou.max(axis=1, keepdims=True) - 1e-5
    assert positive[iou.max(axis=0) > 0.5].all()
    assert near_best[:, positive & (iou.max(axis=0) < 0.499)].any(axis=0).all()
    free = positive & ~near_best.any(axis=0)
    np.testing.assert_array_equal(targets.classes[0][free], iou.argmax(axis=0)[free])


def test_the_same_inside_a_compiled_function():
    anchors = Anchors(SMALL).boxes
    boxes = np.float32([[[3, 3, 5, 5], [0, 0, 40, 64]], [[8, 4, 40, 60], [0, 0, 0, 0]]])
    classes = np.int32([[1, IGNORE], [2, PADDING]])

    def run(boxes, classes):
        return tuple(assign(anchors, boxes, classes, config=SMALL))

    if keras.backend.backend() == "jax":
        import jax as compiler

        compiled = compiler.jit(run)
    else:
        import tensorflow as compiler

        compiled = compiler.function(run)
    for one, other in zip(run(boxes, classes), compiled(boxes, classes), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("seed", range(3))
def test_compiled_with_the_loss_an_anchor_without_object_has_none(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """XLA joins targets and loss, and computes log(h / h) so that it is not exactly 0."""
    random = np.random.default_rng(seed)
    corner = random.uniform(0, 40, (2, 6, 2))
    boxes = np.concatenate([corner, corner + random.uniform(6, 24, (2, 6, 2))], axis=-1)
    boxes, classes = boxes.astype(np.float32), random.integers(-1, 4, (2, 6)).astype(np.int32)
    anchors = Anchors(SMALL).boxes
    codes = random.normal(size=(2, len(anchors), 4)).astype(np.float32)

    def box_loss(boxes: tf.Tensor, classes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        targets = assign(anchors, boxes, classes, config=SMALL)
        return ops.sum(huber_loss(codes, targets.boxes, 0.1)), targets.classes

    loss, assigned = box_loss(boxes, classes)
    monkeypatch.setattr(backend, "uses_xla", lambda: True)
    compiled = tf.function(box_loss, jit_compile=True, autograph=False)
    loss_of_xla, assigned_by_xla = compiled(tf.constant(boxes), tf.constant(classes))
    np.testing.assert_array_equal(assigned_by_xla, assigned)
    assert float(loss_of_xla) == pytest.approx(float(loss), rel=1e-5)
