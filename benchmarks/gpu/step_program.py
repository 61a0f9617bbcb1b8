"""A training step as one program of JAX's: lowered, compiled, looked at and timed."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from efficientdet.config import Config
from efficientdet.training.engine import TrainingEngine

MAX_INSTANCES = 32  # as training.memory has it
OBJECTS = 10  # of an image


def made_up_batch(config: Config, batch_size: int, dtype: Any = np.float32) -> dict[str, Any]:
    """Noise with ten boxes of 16 to 80 pixels an image, in the shapes of the input pipeline."""
    random = np.random.default_rng(0)
    height, width = config.image_hw
    corner = random.uniform(0, 0.8, (batch_size, OBJECTS, 2)) * (height, width)
    boxes = np.zeros((batch_size, MAX_INSTANCES, 4), np.float32)
    boxes[:, :OBJECTS, :2] = corner
    boxes[:, :OBJECTS, 2:] = corner + random.uniform(16, min(80, height / 2), corner.shape)
    classes = np.zeros((batch_size, MAX_INSTANCES), np.int32)
    classes[:, :OBJECTS] = random.integers(1, config.num_classes + 1, (batch_size, OBJECTS))
    image = random.normal(size=(1, height, width, 3)).astype(dtype)
    return {
        "images": np.repeat(image, batch_size, axis=0),
        "boxes": np.minimum(boxes, np.float32([height, width] * 2)),
        "classes": classes,
    }


def lower(engine: TrainingEngine, batch: Mapping[str, np.ndarray]) -> tuple[Any, dict[str, Any]]:
    """(the step of that batch, lowered and not compiled; its inputs)."""
    import jax

    inputs = {**batch, "step": np.float32(0), "learning_rate": np.float32(1e-4)}
    step = jax.jit(engine.step._pure, donate_argnums=0)
    return step.lower(engine.state.read(), inputs), inputs


def program_bytes(compiled: Any) -> int:
    """Arguments (the state is given on to the result), temporaries and the program's results."""
    memory = compiled.memory_analysis()
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    return memory.argument_size_in_bytes + memory.temp_size_in_bytes + results


def seconds_a_step(
    compiled: Any, engine: TrainingEngine, inputs: Mapping[str, Any], seconds: float
) -> float:
    """Mean over some seconds of steps, each dispatched while the one before it runs."""
    import jax

    state = jax.tree.map(jax.numpy.copy, engine.state.read())

    def run(steps: int) -> float:
        nonlocal state
        before, start = None, time.perf_counter()
        for _ in range(steps):
            state, logs = compiled(state, inputs)
            if before is not None:
                before.block_until_ready()
            before = logs
        before.block_until_ready()
        return time.perf_counter() - start

    return mean_seconds(run, seconds)


def mean_seconds(run: Callable[[int], float], seconds: float) -> float:
    """Of `run(times)`, which tells its seconds: once to warm up, then for about `seconds`."""
    run(1)
    times = max(2, min(500, int(seconds / max(run(2) / 2, 1e-6))))
    return run(times) / times


def device_rates(dtype: str) -> tuple[float, float]:
    """(FLOP/s of a large matrix product in that format, bytes/s read and written by a copy).

    float32 is multiplied as JAX does it where nobody says otherwise: in TF32 on Ampere and newer.
    """
    import jax
    from jax import numpy as jnp

    from efficientdet import backend

    side, length = (8192, 2**28) if backend.has_gpu() else (512, 2**22)
    multiply = jax.jit(jnp.matmul)
    matrix = jax.random.normal(jax.random.key(0), (side, side), dtype)
    vector = jnp.ones(length, jnp.float32)
    product = mean_seconds(_repeated(multiply, matrix, matrix), 0.5)
    copy = mean_seconds(_repeated(jax.jit(lambda x: x + 1), vector), 0.5)
    return 2 * side**3 / product, 8 * length / copy


def _repeated(function: Callable[..., Any], *arguments: Any) -> Callable[[int], float]:
    def run(times: int) -> float:
        start = time.perf_counter()
        for _ in range(times):
            result = function(*arguments)
        result.block_until_ready()
        return time.perf_counter() - start

    return run
