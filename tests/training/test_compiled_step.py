"""What XLA makes of a whole step, on a CPU; and that a step needs no TensorFlow."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

# Compile fast rather than well.
FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


@pytest.fixture(scope="module")
def compiled(root: Path) -> Mapping[str, Any]:
    """What tests/compiled_steps.py prints on each backend."""
    env = os.environ | {"XLA_FLAGS": FLAGS, "PYTHONPATH": str(root)}
    running = {
        backend: subprocess.Popen(
            [sys.executable, "tests/compiled_steps.py"], cwd=root,
            env=env | {"KERAS_BACKEND": backend},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for backend in ("jax", "tensorflow")
    }  # fmt: skip
    said = {backend: process.communicate() for backend, process in running.items()}
    for backend, process in running.items():
        assert process.returncode == 0, said[backend][1][-2000:]
    return {backend: json.loads(out.splitlines()[-1]) for backend, (out, _) in said.items()}


@pytest.fixture(scope="module", params=["jax", "tensorflow"])
def found(request: pytest.FixtureRequest, compiled: Mapping[str, Any]) -> Mapping[str, Any]:
    return compiled[request.param]


def test_every_arithmetic_learns_and_skips_a_nan(found: Mapping[str, Any]) -> None:
    for row in found["rows"]:
        *logs, bad = row["logs"]
        fine = [log for log in logs if log["finite"]]
        assert fine and not bad["finite"] and row["kept"], row["row"]
        # While float16 looks for its loss scale, a step may overflow.
        assert all(log["loss_scale"] > 1 for log in logs if not log["finite"]), row["row"]
        assert all(math.isfinite(log["loss"]) for log in logs), row["row"]


def test_both_backends_compute_the_same(compiled: Mapping[str, Any]) -> None:
    jax, tensorflow = compiled["jax"]["recovery"]["logs"][0], compiled["tensorflow"]["logs"][0]
    assert jax == pytest.approx(tensorflow, rel=1e-3)


def test_detections_are_compiled_too(found: Mapping[str, Any]) -> None:
    counts, sums = found["detections"]
    assert len(counts) == 2 and sums["num_positives"] > 0 and math.isfinite(sums["det_loss"])


def test_a_step_is_done_again_after_the_memory_ran_out(compiled: Mapping[str, Any]) -> None:
    """On JAX the new state lies in the memory of the old one, and arrays read before stay."""
    found = compiled["jax"]["recovery"]
    assert found["given"] and found["untouched"] and found["lost"]
    assert found["config"] == [True, 2]
    assert found["difference"] < 2e-5
    _, first, again = found["logs"]
    assert again == pytest.approx(first, rel=1e-4)


def test_the_host_waits_once_a_step_or_less(found: Mapping[str, Any]) -> None:
    """Fetches of the loop in eight steps; the other looks are at what one fetch brought."""
    fetches = {steps: waits for steps, (waits, _) in found["host_syncs"].items()}
    assert fetches == {"0": 8, "1": 8, "4": 2}
    assert all(looks <= 8 for _, looks in found["host_syncs"].values())


def test_network_step_and_detections_need_no_tensorflow(compiled: Mapping[str, Any]) -> None:
    assert not compiled["jax"]["tensorflow"]
