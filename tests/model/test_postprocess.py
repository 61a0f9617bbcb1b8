import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from efficientdet.checkpoint.bundle import read_bundle
from efficientdet.config import Config, NmsConfig
from efficientdet.model.anchors import Anchors
from efficientdet.model.detector import automl_names, build_detector
from efficientdet.model.postprocess import Detections, _suppress, postprocess

CONFIG = Config(image_size=128, num_classes=9)
ANCHORS = Anchors(CONFIG)
LEVELS = range(3, 8)


@pytest.fixture(scope="module")
def outputs(root):
    """(cls_outputs, box_outputs) from which AutoML's golden detections were made."""
    arrays = np.load(root / "tests/golden/losses_inputs.npz")
    scale = np.float32(1.5)
    cls_outputs = [arrays[f"cls_logits_P{level}"] * scale for level in LEVELS]
    return cls_outputs, [arrays[f"box_out_P{level}"] for level in LEVELS]


def detect(outputs, image_scale, mode="per_class", **nms) -> Detections:
    """With one scale an image, as AutoML has it, for both axes."""
    config = CONFIG.override({"nms_configs": nms})
    scale = np.repeat(np.float32(image_scale)[:, None], 2, axis=1)
    detections = postprocess(*outputs, ANCHORS.boxes, scale, config=config, mode=mode)
    return Detections(*map(ops.convert_to_numpy, detections))


@pytest.mark.parametrize("max_nms_inputs", [0, 5000])
@pytest.mark.parametrize("method", ["gaussian", "hard"])
@pytest.mark.parametrize("mode", ["per_class", "global"])
def test_detections_equal_automl(mode, method, max_nms_inputs, outputs, root):
    golden = np.load(root / "tests/golden/postprocess.npz")
    key = f"{mode}_{method}_max{max_nms_inputs}"
    detections = detect(
        outputs, golden["image_scales"], mode, method=method, max_nms_inputs=max_nms_inputs
    )
    np.testing.assert_array_equal(detections.num_valid, golden[f"{key}_valid_len"])
    np.testing.assert_allclose(detections.scores, golden[f"{key}_scores"], atol=1e-6)
    np.testing.assert_array_equal(detections.classes, golden[f"{key}_classes"])
    np.testing.assert_allclose(detections.boxes, golden[f"{key}_boxes"], rtol=1e-5, atol=1e-3)


@pytest.fixture(scope="module")
def d0_outputs(shared):
    """Outputs of AutoML's D0 checkpoint, EMA weights, for a noise image and a smooth one."""
    folder = shared / "golden/automl"
    config = Config.for_model("efficientdet-d0")
    model = build_detector(config)
    arrays = read_bundle(folder / "efficientdet-d0/model")
    for name, variable in automl_names(model).items():
        variable.assign(arrays[f"{name}/ExponentialMovingAverage"])
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    smooth = np.load(folder / "d0_512_inputs.npz")["image_smooth_uint8"]
    images = (np.stack([noise, smooth]) - config.mean_rgb) / config.stddev_rgb
    return model(images.astype("float32"), training=False)


@pytest.mark.parametrize("method", ["gaussian", "hard"])
@pytest.mark.parametrize("mode", ["per_class", "global"])
def test_detections_of_the_d0_checkpoint_equal_automl(mode, method, d0_outputs, shared):
    golden = np.load(shared / "golden/automl/d0_512_detections.npz")
    config = Config.for_model("efficientdet-d0").override({"nms_configs.method": method})
    anchors = Anchors(config).boxes
    scale = np.ones((2, 2), "float32")
    detections = postprocess(*d0_outputs, anchors, scale, config=config, mode=mode)
    boxes, scores, classes, num_valid = map(ops.convert_to_numpy, detections)
    np.testing.assert_array_equal(num_valid, golden[f"{mode}_{method}_valid_len"])
    for i in range(2):  # as sets: some scores lie closer together than float32 noise
        rows = np.column_stack([boxes[i], classes[i], scores[i]])
        key = f"{mode}_{method}"
        expected = [golden[f"{key}_{part}"][i] for part in ("boxes", "classes", "scores")]
        expected = np.column_stack(expected)
        near = np.abs(rows[:, None] - expected) < [0.05] * 4 + [0.5, 1e-4]
        assert near.all(axis=2).any(axis=0).all()


@pytest.mark.parametrize("mode", ["per_class", "global"])
def test_an_image_has_the_same_detections_alone_and_in_a_batch(mode, outputs):
    nms = {"max_nms_inputs": 200, "max_output_size": 20}
    together = detect(outputs, [2.0, 1.0], mode, **nms)
    for i, scale in enumerate([2.0, 1.0]):
        one_image = [[level[i : i + 1] for level in part] for part in outputs]
        alone = detect(one_image, [scale], mode, **nms)
        for one, other in zip(alone, together, strict=True):
            np.testing.assert_array_equal(one[0], other[i])


def test_few_candidates_leave_zero_rows(outputs):
    detections = detect(
        outputs, [1.0, 1.0], score_thresh=0.97, max_nms_inputs=50, max_output_size=50
    )
    for i, count in enumerate(detections.num_valid):
        assert 0 < count < 50
        assert (detections.scores[i, :count] > 0.97).all()
        assert (detections.classes[i, :count] > 0).all()
        assert not detections.boxes[i, count:].any()
        assert not detections.scores[i, count:].any()
        assert not detections.classes[i, count:].any()


def test_an_image_without_any_detection(outputs):
    cls_outputs, box_outputs = outputs
    detections = detect(
        ([x - 100 for x in cls_outputs], box_outputs), [1.0, 1.0], max_output_size=5
    )
    assert not detections.num_valid.any()
    assert not detections.boxes.any()


def test_output_size_is_obeyed(outputs):
    whole, few = (detect(outputs, [1.0, 1.0], max_output_size=n) for n in (12, 7))
    assert few.boxes.shape == (2, 7, 4)
    np.testing.assert_array_equal(few.scores, whole.scores[:, :7])


def reference_nms(boxes, scores, soft: bool, limit: int) -> list[tuple[int, float]]:
    """Greedy NMS of one group, one candidate at a time, in float64."""
    live, picked = {i: float(score) for i, score in enumerate(scores)}, []
    while live and len(picked) < limit:
        best = max(live, key=lambda i: (live[i], -i))
        score = live.pop(best)
        if score <= (0.001 if soft else 0):
            break
        picked.append((best, score))
        for i in list(live):
            low, high = np.maximum(boxes[i], boxes[best])[:2], np.minimum(boxes[i], boxes[best])[2:]
            overlap = np.prod(np.maximum(high - low, 0))
            areas = [np.prod(boxes[j][2:] - boxes[j][:2]) for j in (i, best)]
            iou = overlap / (sum(areas) - overlap) if overlap else 0.0
            if soft:
                live[i] *= np.exp(-(iou**2) / 0.5)
            elif iou > 0.5:
                del live[i]
    return picked


@settings(deadline=None, max_examples=12)
@given(seed=st.integers(0, 2**32 - 1), soft=st.booleans(), limit=st.sampled_from([1, 5, 20]))
def test_one_run_over_all_groups_is_the_best_of_the_runs_of_each(seed, soft, limit):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 50, (20, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0, 50, (20, 2))], axis=1).astype("float32")
    scores = rng.permutation(np.linspace(0.01, 0.99, 20)).astype("float32")
    groups = rng.integers(0, 3, 20).astype("int32")
    expected = []
    for group in range(3):
        members = np.flatnonzero(groups == group)
        picked = reference_nms(boxes[members].astype("float64"), scores[members], soft, limit)
        expected += [(members[i], score) for i, score in picked]
    expected = sorted(expected, key=lambda pair: -pair[1])[:limit]

    nms = NmsConfig(method="gaussian" if soft else "hard", max_output_size=limit)
    rows, kept = _suppress(boxes[None], scores[None], groups[None], nms)
    rows = ops.convert_to_numpy(rows)[0]
    kept = ops.convert_to_numpy(kept)[0][rows >= 0]
    np.testing.assert_allclose(kept, [score for _, score in expected], atol=1e-5)
    np.testing.assert_allclose(
        sorted(zip(rows[rows >= 0], kept, strict=True)), sorted(expected), atol=1e-5
    )


def test_the_same_inside_a_compiled_function(outputs):
    cls_outputs, box_outputs = outputs
    config = CONFIG.override({"nms_configs.max_output_size": 10})

    def run(cls_outputs, box_outputs):
        return tuple(
            postprocess(
                cls_outputs, box_outputs, ANCHORS.boxes, np.ones((2, 2), "float32"), config=config
            )
        )

    if keras.backend.backend() == "jax":
        import jax as compiler

        compiled = compiler.jit(run)
    else:
        import tensorflow as compiler

        compiled = compiler.function(run)
    eager, graph = run(cls_outputs, box_outputs), compiled(cls_outputs, box_outputs)
    np.testing.assert_array_equal(eager[2], graph[2])
    np.testing.assert_allclose(eager[0], graph[0], rtol=1e-5, atol=1e-3)
    np.testing.assert_allclose(eager[1], graph[1], atol=1e-6)
