import numpy as np
import pytest

from efficientdet.training.ema import ema_update


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
