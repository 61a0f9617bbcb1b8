"""The same training on one device, on two, and by two processes of which one is killed."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from efficientdet.checkpoint.bundle import read_bundle

# Compile fast rather than well, and once for all starts.
FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
TOLERANCE = 2e-5  # sums of gradients in another order, over twelve steps; 3e-6 was seen


@pytest.fixture(scope="module")
def runs(root: Path, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The folder of all runs, and how each process ended: (exit code, stdout, stderr)."""
    folder = tmp_path_factory.mktemp("runs")

    def start(*words: object, devices: int = 1) -> subprocess.Popen:
        flags = f"{FLAGS} --xla_force_host_platform_device_count={devices}"
        return subprocess.Popen(
            [sys.executable, str(root / "tests/several_devices.py"), str(folder), *map(str, words)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {
                "KERAS_BACKEND": "jax", "XLA_FLAGS": flags, "PYTHONPATH": str(root),
                "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            },
        )  # fmt: skip

    def pair(part: str) -> list[tuple[int, str, str]]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        started = [start(part, port, number) for number in range(2)]
        said = [process.communicate() for process in started]
        return [(p.returncode, *one) for p, one in zip(started, said, strict=True)]

    alone = start("alone", devices=2)
    _, error = alone.communicate()
    assert alone.returncode == 0, error
    return SimpleNamespace(folder=folder, begun=pair("begin"), resumed=pair("resume"))


def _weights(runs: SimpleNamespace, name: str, step: int) -> Mapping[str, np.ndarray]:
    arrays = read_bundle(runs.folder / name / f"model.ckpt-{step}")
    arrays.pop("state/progress")
    return arrays


@pytest.mark.parametrize("name", ["two_devices", "straight"])
@pytest.mark.parametrize("step", [5, 12])
def test_the_weights_are_those_of_one_device(runs: SimpleNamespace, name: str, step: int) -> None:
    """Statistics of BatchNorm, momenta and averages too; the way back from NaN is the same."""
    expected, found = _weights(runs, "one", step), _weights(runs, name, step)
    assert expected.keys() == found.keys()
    other = _weights(runs, "one", 17 - step)
    assert max(np.abs(expected[key] - other[key]).max() for key in expected) > 0.01
    for key, array in expected.items():
        np.testing.assert_allclose(found[key], array, rtol=0, atol=TOLERANCE, err_msg=key)


def test_after_a_kill_the_other_ends_with_one_line(runs: SimpleNamespace) -> None:
    (code, _, error), (killed, _, _) = runs.begun
    assert killed == -signal.SIGKILL and code == 1
    assert error.count("\n") == 1 and error.startswith("error: process 1 on "), error
    assert "start the same command again in every process" in error


def test_they_go_on_where_they_were_to_the_bit(runs: SimpleNamespace) -> None:
    """Ten steps are five, a kill, and five."""
    assert (runs.folder / "resumed").read_text() == "True"
    expected, found = _weights(runs, "straight", 10), _weights(runs, "disturbed", 10)
    assert expected.keys() == found.keys()
    for key, array in expected.items():
        assert np.array_equal(array, found[key]), key


def test_a_signal_to_one_ends_both_in_the_same_step(runs: SimpleNamespace) -> None:
    for code, _, error in runs.resumed:
        assert code == 128 + signal.SIGTERM
        line = "stopped by SIGTERM, everything is saved; the same command goes on from here"
        assert error.splitlines()[-1] == line, error


def test_the_bad_images_of_all_are_named_by_the_writer(runs: SimpleNamespace) -> None:
    (folder,) = runs.folder.glob("straight/bad_batches")
    assert sorted(path.name for path in folder.iterdir()) == [
        f"step-{step}.npz" for step in (3, 4, 5)
    ]
    with np.load(folder / "step-3.npz") as kept:
        assert np.isfinite(kept["images"]).all()  # the bad one was in the other's share
