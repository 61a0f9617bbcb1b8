import keras
import numpy as np
import pytest

from efficientdet.model.variance_scaling import VarianceScaling

SHAPE = (3, 3, 40, 90)


@pytest.mark.parametrize(
    ("scale", "mode", "distribution"),
    [
        (2.0, "fan_out", "untruncated_normal"),
        (1.0, "fan_in", "truncated_normal"),
        (1.0, "fan_avg", "uniform"),
    ],
)
def test_distributed_as_kerass(scale, mode, distribution):
    ours = VarianceScaling(scale, mode, distribution, seed=0)(SHAPE)
    theirs = keras.initializers.VarianceScaling(scale, mode, distribution, seed=0)(SHAPE).numpy()
    assert ours.dtype == np.float32
    quantiles = np.linspace(0.05, 0.95, 19)
    np.testing.assert_allclose(
        np.quantile(ours, quantiles), np.quantile(theirs, quantiles), atol=0.03 * theirs.std()
    )
    if distribution != "untruncated_normal":
        assert np.abs(ours).max() == pytest.approx(np.abs(theirs).max(), rel=1e-3)


def test_reproducible_and_different():
    values = []
    for seed in (1, 1, 2):
        keras.utils.set_random_seed(seed)
        values.append([VarianceScaling()(SHAPE) for _ in range(2)])
    np.testing.assert_array_equal(values[0], values[1])
    assert np.any(values[0][0] != values[0][1])
    assert np.any(values[0][0] != values[2][0])
