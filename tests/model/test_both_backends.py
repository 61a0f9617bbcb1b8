import os
import runpy
import subprocess
import sys

import numpy as np
import pytest


@pytest.fixture(scope="module")
def jax_numbers(root, tmp_path_factory):
    """What both_backends.py computes under JAX, with the golden checkpoint where it is at hand."""
    out = tmp_path_factory.mktemp("jax") / "numbers.npz"
    golden = root.parent / "shared/golden/automl"
    inputs = [golden / "efficientdet-d0", golden / "d0_small_outputs.npz"]
    # Compile fast rather than well.
    flags = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
    finished = subprocess.run(
        [sys.executable, root / "tests/model/both_backends.py", out]
        + (inputs if golden.is_dir() else []),
        env=os.environ | {"KERAS_BACKEND": "jax", "XLA_FLAGS": flags},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    return dict(np.load(out))


def test_rematerialised_step_on_jax_equals_the_plain_one_on_tensorflow(root, jax_numbers):
    script = runpy.run_path(str(root / "tests/model/both_backends.py"))
    numbers = script["tiny_numbers"](remat=False)
    assert numbers.keys() == {name for name in jax_numbers if not name.startswith("golden")}
    assert sum("moving_" in name for name in numbers) > 50
    for name, expected in numbers.items():
        # A bias before BatchNorm has no gradient but rounding.
        np.testing.assert_allclose(jax_numbers[name], expected, rtol=2e-3, atol=1e-4, err_msg=name)


def test_golden_outputs_on_jax(shared, jax_numbers):
    expected = np.load(shared / "golden/automl/d0_small_outputs.npz")
    names = [f"128x128_ema_{kind}_P{level}" for kind in ("cls", "box") for level in range(3, 8)]
    for i, name in enumerate(names):
        actual = jax_numbers[f"golden {i}"][: len(expected[name])]
        np.testing.assert_allclose(actual, expected[name], rtol=0, atol=1e-4)
