"""A compiled update over four devices: what one device computes, and no image goes around."""

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = """
import json, re
import jax, numpy as np
from efficientdet import backend, mesh

def pure(state, inputs):
    parts, (w,) = backend.cut(inputs["x"], 3), state["w"]
    squares = lambda i, sums: sums + inputs["scale"] * ((parts[i] @ w) ** 2).sum() ** (i + 1)
    total = backend.repeat(3, squares, 0.0 * w.sum())
    return {"w": [w * 2]}, total

x = np.random.default_rng(0).normal(size=(24, 7, 5)).astype(np.float32)
inputs = {"x": x, "scale": np.float32(0.5)}
found = []
for spread in (False, True):
    if spread:
        backend.use_all_devices()
    held = {"w": [jax.numpy.ones((5, 2)) / 50]}
    update = backend.compile_update(pure, lambda: held, held.update, 3)
    found.append([float(update(inputs)) for _ in range(2)])
    held["w"] = [held["w"][0] * 0.5]  # changed outside, as by a checkpoint
    found[-1] += [float(update(inputs)), len(held["w"][0].devices())]
state = jax.tree.map(mesh._copy, held)
uploaded = {key: mesh._upload(value, 3) for key, value in inputs.items()}
text = jax.jit(pure).lower(state, uploaded).compile().as_text()
kinds = "all-to-all|all-gather|collective-permute|all-reduce|reduce-scatter"
print(json.dumps([found, sorted({*re.findall(kinds, text)}), backend.num_devices()]))
"""


def test_a_spread_update_adds_up_and_sends_no_rows_around(root: Path) -> None:
    env = os.environ | {
        "KERAS_BACKEND": "jax", "PYTHONPATH": str(root),
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", DRIVER], capture_output=True, text=True, check=False, env=env
    )
    assert done.returncode == 0, done.stderr
    (alone, spread), collectives, devices = json.loads(done.stdout.splitlines()[-1])
    assert devices == 4
    assert spread == pytest.approx(alone, rel=1e-5)  # also that all lies on one device again
    assert alone[0] != pytest.approx(alone[1], rel=0.1)
    assert alone[2] == pytest.approx(alone[1], rel=1e-5)
    assert collectives == ["all-reduce"]


JOINED = """
import os, signal, sys
import jax, numpy as np
from efficientdet import mesh, processes
from efficientdet.commands import ending
from efficientdet.links import Meeting

meeting = Meeting("127.0.0.1", int(sys.argv[1]), 2, int(sys.argv[2]), 300.0)

def main():
    with processes.joined(meeting) as address:
        mesh.join(meeting, address)
        held = {"w": [jax.numpy.ones(3)]}
        pure = lambda state, inputs: (state, (state["w"][0] * inputs["x"]).sum())
        update = mesh.compile_update(pure, lambda: held, held.update, 1)
        rows = mesh.rows_of_process(4, 1)
        for step in range(3):
            if step == 2 and sys.argv[3] == "kill" and meeting.number == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            with processes.blamed():
                print(float(update({"x": np.float32([[1], [2], [3], [4]])[rows]})))
        processes.part()

ending.run(main)
"""


@pytest.mark.parametrize("how", ["part", "kill"])
def test_process_0_is_lost_without_a_word_of_cpp(root: Path, how: str) -> None:
    """JAX's coordinator goes with it; the other ends by our line, not by JAX's."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", JOINED, str(port), str(number), how],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": str(root)},
        )
        for number in range(2)
    ]  # fmt: skip
    said = [process.communicate() for process in started]
    _, (out, error) = said
    sums = [line for line in out.splitlines() if "tells of" not in line]
    if how == "part":
        assert [process.returncode for process in started] == [0, 0] and not error
        assert sums == ["30.0"] * 3
        return
    assert [process.returncode for process in started] == [-signal.SIGKILL, 1]
    assert sums == ["30.0"] * 2
    assert error.startswith("error: process 0 on ") and error.count("\n") == 1, error
