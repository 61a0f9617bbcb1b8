import numpy as np
import pytest
from keras import ops

from efficientdet.config import Config
from efficientdet.training.optimizers import clip_by_global_norm, make_optimizer

SGD = make_optimizer(Config(momentum=0.9))
ADAM = make_optimizer(Config(optimizer="adam"))


def run(optimizer, gradients, rates):
    """The value of one variable that starts at 1, after each update, and its last slots."""
    values = [np.float32([1.0])]
    slots, history = optimizer.init(values), []
    for step, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        values, slots = optimizer.update(values, [np.float32([gradient])], slots, rate, step)
        history.append(float(values[0][0]))
    return history, [float(slot[0][0]) for slot in slots]


def test_momentum_does_not_hold_the_learning_rate():
    history, (velocity,) = run(SGD, gradients=[1, 1, 0], rates=[0.1, 0.2, 0.0])
    assert history == pytest.approx([0.9, 0.9 - 0.2 * 1.9, 0.9 - 0.2 * 1.9])
    assert velocity == pytest.approx(0.9 * 1.9)


def test_adam_equals_its_paper_with_uncorrected_epsilon():
    gradients, rates = [0.5, -0.1, 1e-6], [0.01, 0.02, 0.03]
    value, mean, square, expected = 1.0, 0.0, 0.0, []
    for t, (g, lr) in enumerate(zip(gradients, rates, strict=True), start=1):
        mean, square = 0.9 * mean + 0.1 * g, 0.999 * square + 0.001 * g * g
        lr_t = lr * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        value -= lr_t * mean / (np.sqrt(square) + 1e-8)
        expected.append(value)
    history, slots = run(ADAM, gradients, rates)
    assert history == pytest.approx(expected, abs=1e-6)
    assert slots == pytest.approx([mean, square], rel=1e-4)


@pytest.mark.parametrize("optimizer", [SGD, ADAM])
def test_every_element_can_have_its_own_rate(optimizer):
    values, gradients = [np.float32([1.0, 1.0, 1.0])], [np.float32([0.3, 0.3, 0.3])]
    rates = np.float32([0.0, 0.1, 0.2])
    (new,), _ = optimizer.update(values, gradients, optimizer.init(values), rates, 1)
    change = 1 - ops.convert_to_numpy(new)
    assert change[0] == 0 < change[1]
    assert change[2] == pytest.approx(2 * change[1], rel=1e-5)


def test_slots_have_automls_names_and_the_variables_shapes():
    values = [np.ones((2, 3), "float32"), np.float32(1.0)]
    assert SGD.slot_names == ("Momentum",)
    assert ADAM.slot_names == ("Adam", "Adam_1")
    for optimizer in (SGD, ADAM):
        slots = optimizer.init(values)
        assert len(slots) == len(optimizer.slot_names)
        assert all([tuple(s.shape) for s in slot] == [(2, 3), ()] for slot in slots)


def test_clipping_limits_each_gradient_and_then_all_together():
    gradients = [np.float32([30.0, 40.0]), np.float32([[3.0]])]
    clipped, norm = clip_by_global_norm(gradients, 4.0)
    assert float(norm) == pytest.approx(np.hypot(50, 3))
    expected = 4 / 5 * np.array([2.4, 3.2]), 4 / 5 * np.array([[3.0]])  # (4, 3) has norm 5
    for ours, value in zip(clipped, expected, strict=True):
        np.testing.assert_allclose(ops.convert_to_numpy(ours), value, rtol=1e-6)


@pytest.mark.parametrize("limit", [0.0, 5.0, 10.0])
def test_a_norm_within_the_limit_is_left_alone(limit):
    gradients = [np.float32([3.0, 4.0])]
    clipped, norm = clip_by_global_norm(gradients, limit)
    assert float(norm) == pytest.approx(5.0)
    np.testing.assert_allclose(ops.convert_to_numpy(clipped[0]), [3.0, 4.0], rtol=1e-6)
