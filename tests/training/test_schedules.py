import json

import numpy as np
import pytest

from efficientdet.config import Config
from efficientdet.training.schedules import learning_rate

RUNS = {
    "bs64_n120000_ep300": (64, 120000, 300),
    "bs8_n6000_ep50": (8, 6000, 50),
    "bs2_n16_ep2": (2, 16, 2),
}


def schedule(method: str, *, batch_size: int, num_examples: int, num_epochs: int, **overrides):
    """step -> learning rate, of a whole array of steps at once."""
    config = Config(lr_decay_method=method, num_epochs=num_epochs, **overrides)

    def rates(steps):
        return learning_rate(
            steps,
            config=config,
            batch_size=batch_size,
            steps_per_epoch=num_examples / batch_size,
        )

    return rates


def golden_rates(root, run: str, method: str) -> tuple[np.ndarray, np.ndarray]:
    table = json.loads((root / "tests/golden/learning_rates.json").read_text())
    rates = table[f"{run}_{method}"]["main_py"]
    return np.array([int(step) for step in rates]), np.array(list(rates.values()))


def of_run(method: str, run: str, **overrides):
    batch_size, num_examples, num_epochs = RUNS[run]
    return schedule(
        method, batch_size=batch_size, num_examples=num_examples, num_epochs=num_epochs, **overrides
    )


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("method", ["stepwise", "polynomial"])
def test_equals_automl(method, run, root):
    steps, golden = golden_rates(root, run, method)
    np.testing.assert_allclose(of_run(method, run)(steps), golden, rtol=2e-5, atol=1e-10)


@pytest.mark.parametrize("run", RUNS)
def test_cosine_equals_automl_shifted_by_the_warm_up(run, root):
    steps, golden = golden_rates(root, run, "cosine")
    batch_size, num_examples, num_epochs = RUNS[run]
    warmup, total = num_examples // batch_size, num_epochs * num_examples // batch_size
    rates = of_run("cosine", run)
    np.testing.assert_allclose(rates(steps[steps < warmup]), golden[steps < warmup], rtol=1e-6)
    # AutoML's phase at step s is ours at s + warmup; past its own end it turns up again.
    same = (steps >= warmup) & (steps <= total - warmup)
    np.testing.assert_allclose(
        rates(steps[same] + warmup), golden[same], rtol=1e-4, atol=1e-7 * golden.max()
    )
    assert golden[-1] > rates(total) == 0


@pytest.mark.parametrize("run", RUNS)
def test_constant_equals_automl_without_warm_up(run, root):
    steps, golden = golden_rates(root, run, "constant")
    np.testing.assert_allclose(
        of_run("constant", run, lr_warmup_epoch=0.0)(steps), golden, rtol=1e-6
    )


@pytest.mark.parametrize("num_epochs", [2, 3, 5, 300])
def test_cosine_only_falls_from_the_full_rate_to_zero(num_epochs):
    rates = schedule("cosine", batch_size=8, num_examples=80, num_epochs=num_epochs)
    curve = rates(np.arange(10, num_epochs * 10 + 5))
    assert curve[0] == pytest.approx(0.08 * 8 / 64)
    assert (np.diff(curve) <= 0).all()
    assert curve[-5:] == pytest.approx([0] * 5)


def test_restarts_begin_at_the_full_rate_and_double_their_period():
    rates = schedule(
        "cosine_restarts", batch_size=64, num_examples=640, num_epochs=80, restart_epochs=10.0
    )
    warmup, starts = 10, np.array([0, 100, 300, 700])
    np.testing.assert_allclose(rates(warmup + starts), 0.08)
    np.testing.assert_allclose(rates(warmup + np.array([50, 200, 500])), 0.04, rtol=1e-6)
    assert (rates(warmup + starts[1:] - 1) < 2e-5).all()


@pytest.mark.parametrize(
    "method", ["cosine", "cosine_restarts", "stepwise", "polynomial", "constant"]
)
def test_warm_up_is_linear_and_follows_the_effective_batch(method):
    rates = schedule(method, batch_size=16, num_examples=1600, num_epochs=10)
    np.testing.assert_allclose(
        rates([0, 50, 99]), np.array([0.008, 0.044, 0.07928]) * 16 / 64, rtol=1e-6
    )


def test_no_warm_up_and_a_run_as_short_as_its_warm_up():
    rates = schedule("cosine", batch_size=64, num_examples=640, num_epochs=1, lr_warmup_epoch=0.0)
    assert rates(0) == pytest.approx(0.08)
    rates = schedule("cosine", batch_size=64, num_examples=640, num_epochs=1)
    assert np.isfinite(rates(np.arange(12))).all()


@pytest.mark.parametrize("method", ["cosine", "polynomial"])
def test_an_end_before_the_last_epoch_is_where_the_rate_comes_down(method):
    def rates(num_epochs, **end):
        config = Config(lr_decay_method=method, num_epochs=num_epochs)
        steps = np.arange(80)
        return learning_rate(steps, config=config, batch_size=8, steps_per_epoch=10, **end)

    np.testing.assert_array_equal(rates(20, end_step=50), rates(5))
    np.testing.assert_array_equal(rates(5, end_step=60), rates(5))
    np.testing.assert_array_equal(rates(20, end_step=4)[:10], rates(20)[:10])  # the warm-up


@pytest.mark.parametrize("method", ["constant", "stepwise", "cosine_restarts"])
def test_what_is_counted_in_epochs_heeds_no_other_end(method):
    config = Config(lr_decay_method=method, first_lr_drop_epoch=3, second_lr_drop_epoch=5)
    at = {"config": config, "batch_size": 8, "steps_per_epoch": 10}
    for step in (0, 15, 35, 70):
        assert float(learning_rate(step, **at, end_step=40)) == float(learning_rate(step, **at))


@pytest.mark.parametrize(
    "method", ["cosine", "cosine_restarts", "stepwise", "polynomial", "constant"]
)
def test_a_number_gives_what_an_array_does_and_no_device_is_asked(method):
    at = {"config": Config(lr_decay_method=method), "batch_size": 8, "steps_per_epoch": 7.5}
    steps = np.array([0, 3, 7, 1000, 2249, 2250, 9000])
    rates = learning_rate(steps, **at)
    each = [learning_rate(int(step), **at) for step in steps]
    assert {type(rate) for rate in (rates, *each)} == {np.ndarray}
    assert {rate.dtype for rate in (rates, *each)} == {np.dtype("float32")}
    np.testing.assert_allclose(rates, each, rtol=1e-6)
