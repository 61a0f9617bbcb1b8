"""The estimate of a step's memory, against graphs small enough to count by hand."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from efficientdet.config import Config
from efficientdet.training.memory import Memory, _walk, measure

KB = 1000  # a tensor of 250 float32


def peak(function) -> int:
    """Most bytes alive at once in the graph of a function of one KB."""
    graph = tf.function(function, autograph=False).get_concrete_function(tf.TensorSpec([250]))
    return _walk(graph.graph.get_operations())


def test_the_total_grows_with_the_batch_alone() -> None:
    memory = Memory(state=100, fixed=10, image=3)
    assert [memory.total(size) for size in (1, 2, 16)] == [113, 116, 158]


@pytest.mark.parametrize(
    ("function", "kilobytes"),
    [
        (lambda x: tf.nn.relu(x), 1),
        (lambda x: tf.sin(tf.sin(tf.sin(tf.sin(x)))), 2),  # what is read and what is made
        (lambda x: (y := tf.sin(x)) + tf.sin(tf.sin(y)), 3),  # y waits for the sum
        (lambda x: tf.reshape(tf.sin(x), (25, 10)), 1),  # no memory of its own
        (lambda x: tf.sin(tf.reshape(tf.sin(x), (25, 10))), 2),
        (lambda x: tf.concat([tf.sin(x), tf.cos(x)], 0), 4),
        (lambda x: tf.cast(tf.sin(x), tf.float16), 1.5),
        (lambda x: tf.reduce_sum(tf.sin(x)), 1.004),
    ],
)
def test_each_tensor_lives_from_its_making_to_its_last_reading(function, kilobytes) -> None:
    assert peak(function) == pytest.approx(kilobytes * KB, abs=20)  # 20: shapes, axes


def test_gradients_keep_what_the_forward_pass_made() -> None:
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = x
            for _ in range(10):
                y = tf.sin(y)
        return tape.gradient(y, x)

    assert 10 * KB <= peak(gradient) <= 14 * KB


def test_measuring_ends_where_memory_does(monkeypatch: pytest.MonkeyPatch) -> None:
    class TrainingEngine:
        def __init__(self, config: Config):
            self.config = config

        def step(self, batch: dict, **arguments: float) -> np.ndarray:
            assert batch["images"].shape[1:] == (64, 128, 3)
            if len(batch["images"]) > 2:
                raise MemoryError("injected")
            return np.zeros(1)

    monkeypatch.setattr("efficientdet.training.memory.TrainingEngine", TrainingEngine)
    found = measure(Config(image_size="128x64"), [1, 2, 4, 8])
    assert found[2:] == [None, None]
    assert all(peak > 1e6 and rate > 0 for peak, rate in found[:2])


@pytest.mark.parametrize(
    ("flag", "line"),
    [
        ("--image_size=wide", "image_size='wide': expected pixels"),
        ("--model_name=d0", "unknown model 'd0'"),
        ("--hparams=seeed=1", "'seeed'; did you mean 'seed'?"),
        ("--batch_sizes=1,many", "--batch_sizes=1,many: expected numbers"),
    ],
)
def test_bad_flags_are_one_line(flag: str, line: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "efficientdet.commands.memory", flag],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and line in done.stderr and done.stderr.count("\n") == 1
