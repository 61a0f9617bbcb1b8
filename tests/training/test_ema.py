import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from efficientdet.training.ema import MUCH, ema_update, slow_statistics


def test_first_updates_follow_quickly():
    (shadow,) = ema_update([np.float32([0.0])], [np.float32([1.0])], 6, 0.9998)
    assert float(shadow[0]) == pytest.approx(1 - 7 / 16)  # AutoML at its step 5 -> 6: 0.4375


def test_late_updates_use_the_decay():
    (shadow,) = ema_update([np.float32([2.0])], [np.float32([1.0])], 10**6, 0.9)
    assert float(shadow[0]) == pytest.approx(0.9 * 2 + 0.1)


def test_every_value_has_its_own_shadow():
    shadows = [np.zeros((2, 3), "float32"), np.float32(4.0)]
    values = [np.ones((2, 3), "float32"), np.float32(4.0)]
    first, second = ema_update(shadows, values, np.float32(0), 0.5)
    np.testing.assert_allclose(first, np.full((2, 3), 0.9), rtol=1e-6)
    assert float(second) == 4.0


@given(st.floats(0, 1))
def test_no_decay_keeps_the_start_beyond_four_updates(decay: float):
    shadows = [
        np.float32(1.0)
    ]  # of values that are 0 ever after: what is left is the start's share
    for step in range(1, 5):
        shadows = ema_update(shadows, [np.float32(0.0)], np.float32(step), decay)
    assert float(shadows[0]) < 0.01


def test_statistics_that_are_too_slow_for_a_run_are_named():
    assert slow_statistics(0.99, 1000) is None
    said = slow_statistics(0.99, 250)
    assert said.startswith("batch_norm_momentum=0.99: 8.1% of BatchNorm's statistics will be their")
    assert said.endswith("after 250 steps; with 0.98 it is 1% at most")


@given(st.floats(0.0, 0.9999), st.integers(1, 2000))
def test_the_momentum_that_is_proposed_forgets(momentum: float, steps: int):
    if said := slow_statistics(momentum, steps):
        proposed = float(said.split("with ")[1].split()[0])
        assert proposed < momentum and proposed**steps <= MUCH * (1 + 1e-9)
    else:
        assert math.isclose(momentum**steps, MUCH) or momentum**steps < MUCH
