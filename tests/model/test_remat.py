import runpy

import keras
import numpy as np
import pytest
import tensorflow as tf

from efficientdet.config import Config
from efficientdet.model import remat
from efficientdet.model.bifpn import BiFPNCell
from efficientdet.model.layers import BatchNormalization


@pytest.fixture(scope="module")
def backends(root):
    return runpy.run_path(str(root / "tests/model/both_backends.py"))


def test_same_gradients_and_statistics_as_without(backends):
    runs = []
    for remat_on in (False, True):
        changes = {"survival_prob": 0.5, "box_class_repeats": 2, "grad_checkpoint": remat_on}
        model = backends["tiny_detector"](**changes)
        before = [variable.numpy() for variable in model.non_trainable_variables]
        runs.append(backends["training_step"](model, backends["tiny_images"]()))
    (plain, state), (again, state_again) = runs
    largest = max(np.abs(gradient).max() for gradient in plain)
    for a, b in zip(plain, again, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * largest)
    for old, new, new_again in zip(before, state, state_again, strict=True):
        assert np.any(old != new) or new.dtype == np.uint32
        np.testing.assert_allclose(new, new_again, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_half_precision(policy):
    """The backward pass runs the block outside the scope that casts its variables."""
    config = Config().override({"max_level": 5, "fpn_num_filters": 8})
    keras.config.set_dtype_policy(policy)
    try:
        cell = BiFPNCell(config, [8, 8, 8], "cell_0")
    finally:
        keras.config.set_dtype_policy("float32")
    cell.build()
    random = np.random.default_rng(0)
    dtype = cell.compute_dtype
    features = [tf.constant(random.normal(size=(2, n, n, 8)), dtype) for n in (8, 4, 2)]
    values = [variable.value for variable in cell.trainable_variables]
    results = []
    for remat_on in (False, True):
        with tf.GradientTape() as tape:
            outputs = remat.apply(cell, features, training=True, remat=remat_on)
            loss = sum(tf.reduce_sum(tf.cast(x, "float32") ** 2) for x in outputs)
        results.append(tape.gradient(loss, values))
    for plain, again in zip(*results, strict=True):
        assert again.dtype == tf.float32
        np.testing.assert_allclose(again, plain, rtol=0.02, atol=0.02 * np.abs(plain).max())


def test_statistics_move_once_outside_a_stateless_scope():
    layer = BatchNormalization()
    layer.build((None, None, None, 1))
    x = tf.constant(np.arange(4.0).reshape(1, 2, 2, 1), "float32")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(remat.apply(layer, x, training=True, remat=True) ** 2)
    assert tape.gradient(loss, layer.gamma.value) is not None
    np.testing.assert_allclose(layer.moving_mean, [0.015], rtol=1e-5)


def test_blocks_are_computed_again_in_the_backward_pass(backends):
    def num_fused_norms(**changes):
        model = backends["tiny_detector"](**changes)

        @tf.function(autograph=False)
        def gradients(values, state, images):
            with tf.GradientTape() as tape:
                tape.watch(values)
                (classes, _), _ = model.stateless_call(values, state, images, training=True)
            return tape.gradient(classes[0], values)

        values = [
            [v.value for v in vs]
            for vs in (model.trainable_variables, model.non_trainable_variables)
        ]
        graph = gradients.get_concrete_function(*values, backends["tiny_images"]()).graph
        return sum(op.type == "FusedBatchNormV3" for op in graph.get_operations())

    plain, again = num_fused_norms(), num_fused_norms(grad_checkpoint=True)
    # Blocks, BiFPN cell and class head run twice; the stem and the box head (no gradient) once.
    assert again >= 1.5 * plain


def test_inference_is_not_rematerialised(backends):
    images = backends["tiny_images"]()
    runs = [
        backends["outputs"](backends["tiny_detector"](grad_checkpoint=remat_on), images)
        for remat_on in (False, True)
    ]
    for a, b in zip(*runs, strict=True):
        np.testing.assert_array_equal(a, b)
