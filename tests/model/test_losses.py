import json

import numpy as np
import pytest
from keras import ops

from efficientdet.config import Config
from efficientdet.errors import UsageError
from efficientdet.model.anchors import Anchors, encode
from efficientdet.model.losses import (
    detection_loss,
    flatten,
    focal_loss,
    huber_loss,
    iou_loss,
    l2_loss,
    normaliser,
)
from efficientdet.model.targets import Targets

CONFIG = Config(image_size=128, num_classes=9)
ANCHORS = Anchors(CONFIG).boxes


@pytest.fixture(scope="module")
def golden(root):
    return json.loads((root / "tests/golden/losses.json").read_text())


@pytest.fixture(scope="module")
def batch(root):
    """(class logits, box codes, targets) of AutoML's batch of two."""
    arrays = np.load(root / "tests/golden/losses_inputs.npz")

    def levels(name, channels):
        return flatten([arrays[f"{name}_P{level}"] for level in range(3, 8)], channels)

    classes = ops.convert_to_numpy(levels("cls_targets", 1))[..., 0]
    targets = Targets(classes, levels("box_targets", 4), arrays["num_positives_each"])
    return levels("cls_logits", 9), levels("box_out", 4), targets


def losses_of(batch, config=CONFIG, divisor=None, anchors=ANCHORS) -> dict[str, float]:
    logits, codes, targets = batch
    if divisor is None:
        divisor, _ = normaliser(np.float32(targets.num_positives), config)
    losses = detection_loss(
        ([logits], [codes]), targets, anchors, config=config, normaliser=divisor
    )
    return {name: float(value) for name, value in losses.items()}


def random_batch(seed=0, num_images=2, num_classes=3, **overrides):
    """A small batch with every kind of anchor, and its configuration."""
    rng = np.random.default_rng(seed)
    num_anchors = len(Anchors(Config(image_size=32)).boxes)
    classes = rng.integers(-2, num_classes, (num_images, num_anchors))
    codes = np.where(classes[..., None] >= 0, rng.normal(size=(*classes.shape, 4)), 0)
    targets = Targets(np.int32(classes), np.float32(codes), np.float32((classes >= 0).sum(1)))
    logits = rng.normal(size=(*classes.shape, num_classes)).astype(np.float32)
    outputs = rng.normal(size=codes.shape).astype(np.float32)
    config = Config(image_size=32, num_classes=num_classes).override(overrides)
    return (logits, outputs, targets), config, Anchors(config).boxes


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("default", {}),
        ("label_smoothing_0.1", {"label_smoothing": 0.1}),
        ("gamma2_delta0.5", {"gamma": 2.0, "delta": 0.5}),
        ("box_loss_weight_0", {"box_loss_weight": 0.0}),
    ],
)
def test_losses_equal_automl(name, overrides, golden, batch):
    losses = losses_of(batch, CONFIG.override(overrides))
    assert losses["cls_loss"] == pytest.approx(golden[name]["cls_loss"], rel=1e-5)
    assert losses["box_loss"] == pytest.approx(golden[name]["box_loss"], rel=1e-5)
    assert losses["det_loss"] == pytest.approx(golden[name]["total_det_loss"], rel=1e-5)


def test_focal_loss_equals_automl_at_single_logits(golden):
    for spot in golden["focal_spot"]:
        config = CONFIG.override({k: spot[k] for k in ("alpha", "gamma", "label_smoothing")})
        loss = focal_loss(np.float32([spot["logit"]]), np.int32(spot["y"] - 1), config=config)
        assert float(loss[0]) == pytest.approx(spot["loss"], rel=1e-5)


@pytest.mark.parametrize("kind", ["iou", "giou", "diou", "ciou"])
def test_iou_losses_equal_automl(kind, golden):
    iou = golden["iou_losses"]  # the last target is no box; detection_loss leaves such ones out
    loss = iou_loss(np.float32(iou["pred"][:3]), np.float32(iou["target"][:3]), kind)
    np.testing.assert_allclose(loss, iou[kind][:3], rtol=1e-5)


@pytest.mark.parametrize("kind", ["iou", "giou", "diou", "ciou"])
def test_iou_loss_counts_positives_alone_and_has_finite_gradients(kind):
    config = Config(image_size=32, num_classes=1, iou_loss_type=kind, iou_loss_weight=2.0)
    anchors = Anchors(config).boxes
    box = np.float32([4, 4, 20, 24])
    classes = np.full((1, len(anchors)), -1, np.int32)
    classes[0, 7] = 0
    codes = np.zeros((1, len(anchors), 4), np.float32)
    codes[0, 7] = encode(box[None], anchors[7:8])[0]
    outputs = np.full_like(codes, 500.0)  # overflows wherever it is decoded
    outputs[0, 7] = 0
    batch = np.zeros((1, len(anchors), 1), np.float32), outputs, Targets(classes, codes, [1.0])
    losses = losses_of(batch, config, divisor=2.0, anchors=anchors)
    expected = float(iou_loss(anchors[7], box, kind)) / (4 * 2.0)
    assert losses["box_iou_loss"] == pytest.approx(expected, rel=1e-4)
    total = losses["cls_loss"] + 50 * losses["box_loss"] + 2 * losses["box_iou_loss"]
    assert losses["det_loss"] == pytest.approx(total, rel=1e-5)


def test_micro_batches_add_up_to_the_whole_batch():
    (logits, codes, targets), config, anchors = random_batch(num_images=4, iou_loss_type="ciou")
    divisor, _ = normaliser(targets.num_positives, config)
    whole = losses_of((logits, codes, targets), config, divisor, anchors)
    parts = [
        losses_of(
            (logits[rows], codes[rows], Targets(*(t[rows] for t in targets))),
            config, divisor, anchors,
        )
        for rows in (slice(0, 1), slice(1, 4))
    ]  # fmt: skip
    for name, value in whole.items():
        assert sum(part[name] for part in parts) == pytest.approx(value, rel=1e-5)


def test_ignored_anchors_have_no_loss():
    batch, config, anchors = random_batch()
    logits, codes, targets = batch
    ignored = targets.classes == -2
    wild = np.where(ignored[..., None], 30.0, logits).astype(np.float32)
    assert ignored.any()
    assert losses_of((wild, codes, targets), config, 1.0, anchors) == losses_of(
        batch, config, 1.0, anchors
    )


def test_a_class_weight_scales_the_anchors_of_that_class():
    batch, config, anchors = random_batch()
    logits, codes, targets = batch
    focal = ops.convert_to_numpy(focal_loss(logits, targets.classes, config=config))
    extra = focal[targets.classes == 1].sum() * 2.0
    weighted = config.override({"class_weights": [1.0, 3.0, 1.0]})
    plain = losses_of(batch, config, 1.0, anchors)["cls_loss"]
    assert losses_of(batch, weighted, 1.0, anchors)["cls_loss"] == pytest.approx(
        plain + extra, rel=1e-5
    )


def test_class_weights_must_be_one_a_class():
    batch, config, anchors = random_batch()
    with pytest.raises(UsageError, match="2 values, expected one for each of the 3 classes"):
        losses_of(batch, config.override({"class_weights": [1.0, 2.0]}), 1.0, anchors)


def test_huber_is_square_near_zero_and_linear_beyond_delta():
    codes, targets = np.float32([1.05, 3.0, 5.0]), np.float32([1.0, 1.0, 0.0])
    np.testing.assert_allclose(
        huber_loss(codes, targets, 0.1), [0.05**2 / 2, 0.1 * 2 - 0.1**2 / 2, 0], rtol=1e-4
    )


def test_extreme_logits_give_finite_losses():
    logits = np.float32([[200.0, -200.0], [-200.0, 200.0]])
    config = Config(gamma=0.5, num_classes=2)
    assert np.isfinite(focal_loss(logits, np.int32([0, -1]), config=config)).all()


def test_losses_of_half_precision_outputs_are_float32():
    (logits, codes, targets), config, anchors = random_batch()
    outputs = [logits.astype(np.float16)], [codes.astype(np.float16)]
    half = detection_loss(outputs, targets, anchors, config=config, normaliser=1.0)
    assert all(value.dtype in ("float32", np.float32) for value in half.values())


def test_normaliser_is_the_positives_of_the_batch_plus_one(golden):
    divisor, _ = normaliser(np.float32([69, 43]), Config())
    assert float(divisor) == golden["normaliser_num_positives_sum"]
    assert float(normaliser(np.float32([0, 0]), Config())[0]) == 1.0


def test_positives_momentum_smooths_the_normaliser():
    config = Config(positives_momentum=0.9)
    divisor, moving = normaliser(np.float32([60, 40]), config)
    assert (float(divisor), float(moving)) == (101.0, 100.0)
    divisor, moving = normaliser(np.float32([0, 0]), config, moving)
    assert (float(divisor), float(moving)) == pytest.approx((91.0, 90.0))


def test_l2_loss_takes_kernels_and_weights_alone():
    named = [
        ("a/kernel", np.float32([1, 2])),
        ("a/depthwise_kernel", np.float32([[3]])),
        ("a/weight", np.float32([4])),
        ("a/bias", np.float32([100])),
        ("a/gamma", np.float32([100])),
        ("a/WSM", np.float32(100)),
        ("kernel/beta", np.float32([100])),
    ]
    loss = l2_loss(named, Config(weight_decay=0.1))
    assert float(loss) == pytest.approx(0.1 * (1 + 4 + 9 + 16) / 2)
