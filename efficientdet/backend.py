"""All that differs between the TensorFlow and the JAX backend in a training step."""

import logging
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from efficientdet.errors import UsageError

# How CUDA, cuDNN and XLA say it, where it is not an error of its own.
_RUNTIME_ERRORS = ("XlaRuntimeError", "JaxRuntimeError", "InternalError", "UnknownError")
_OUT_OF_MEMORY = ("resource exhausted", "out of memory", "alloc failed", "failed to allocate")

Tensors = Any  # a nest of tensors
IS_JAX = keras.backend.backend() == "jax"

if IS_JAX:
    import jax

    from efficientdet import mesh

    # TensorFlow is needed for records alone: whoever imports it leaves this one the GPU.
    os.environ["KERAS_BACKEND"] = "jax"
    if "tensorflow" in sys.modules:
        from efficientdet import tensorflow_device

        tensorflow_device.leave_gpu()
    logging.getLogger("jax").setLevel(logging.WARNING)  # it tells of every TPU that is not there
else:
    import tensorflow as tf


def value_and_grad(function: Callable[..., tuple[Any, Any]], values: list, *args: Any) -> tuple:
    """((value, aux), gradients) of `function(values, *args) -> (value, aux)` at `values`."""
    if IS_JAX:
        return jax.value_and_grad(function, has_aux=True)(values, *args)
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(values)
        value, aux = function(values, *args)
    gradients = tape.gradient(value, values, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return (value, aux), gradients


def repeat(times: int, body: Callable[[Any, Tensors], Tensors], start: Tensors) -> Tensors:
    """`carry = body(i, carry)` for i in 0..times-1, never two iterations at once.

    A plain Python loop would be unrolled, and TensorFlow would then run the micro-batches side by
    side, in as much memory as the whole batch needs.
    """
    if times == 1:
        return body(0, start)
    if IS_JAX:
        return jax.lax.fori_loop(0, times, body, start)
    flat = tf.nest.flatten(start)

    def flat_body(i: Any, *carry: Any) -> tuple:
        return i + 1, *tf.nest.flatten(body(i, tf.nest.pack_sequence_as(start, carry)))

    _, *result = tf.while_loop(
        lambda i, *_: i < times,
        flat_body,
        (tf.constant(0), *flat),
        parallel_iterations=1,
        maximum_iterations=times,
    )
    return tf.nest.pack_sequence_as(start, result)


def compile_update(
    pure: Callable[[Tensors, Mapping], tuple[Tensors, Tensors]],
    read: Callable[[], Tensors],
    write: Callable[[Tensors], None],
    micro_batches: int = 1,
) -> Callable[[Mapping[str, np.ndarray]], Tensors]:
    """Compiles `state, logs = pure(state, inputs)` around the stored state.

    Returns a function of the inputs that updates the state and returns the logs, which may still be
    under way on the device: it is `fetch` that waits. The inputs go up while the call before them
    runs.

    On TensorFlow nothing is written before the whole update is computed, so that a step that failed
    (out of memory) can be done again. On JAX the new state takes the memory of the old one, which a
    step that failed may leave deleted: `is_lost` tells.

    Args:
        micro_batches: into how many `cut` cuts the inputs inside it.
    """
    if IS_JAX and mesh.is_used():
        return mesh.compile_update(pure, read, write, micro_batches)
    if IS_JAX:
        compiled = jax.jit(pure, donate_argnums=0)

        def update(inputs: Mapping[str, np.ndarray]) -> Tensors:
            state, logs = compiled(read(), dict(inputs))
            write(state)
            return logs

        return update

    @tf.function(jit_compile=uses_xla(), autograph=False)
    def graph(inputs: Mapping[str, Any]) -> Tensors:
        state, logs = pure(read(), inputs)
        write(state)
        return logs

    def call(inputs: Mapping[str, np.ndarray]) -> Tensors:
        with tf.device("GPU:0" if has_gpu() else "CPU:0"):  # else arrays stay on the CPU
            uploaded = {key: tf.convert_to_tensor(x) for key, x in inputs.items()}
        return graph(uploaded)

    return call


def compile_pure(pure: Callable[..., Tensors]) -> Callable[..., Tensors]:
    """Compiles a function without state; what it returns may still be under way."""
    if IS_JAX:
        return jax.jit(pure)
    return tf.function(pure, jit_compile=uses_xla(), autograph=False)


def uses_xla() -> bool:
    """Whether XLA compiles; on a CPU TensorFlow's own kernels are an order of magnitude faster."""
    return IS_JAX or has_gpu()


def runs_ahead() -> bool:
    """Whether a compiled call returns before the device is done with it."""
    return IS_JAX or has_gpu()


def fetch(tensors: Sequence[Any]) -> np.ndarray:
    """Tensors of one shape as one array; here, and nowhere else in a step, the host waits."""
    if IS_JAX:
        return np.stack(jax.device_get(list(tensors)))  # all copies begin, then it waits once
    return ops.convert_to_numpy(ops.stack(tensors))


def is_lost(tensors: Tensors) -> bool:
    """Whether an update that failed took the state with it (JAX alone); waits for what runs."""
    if not IS_JAX:
        return False
    try:
        jax.block_until_ready(tensors)
    except RuntimeError:  # deleted, or made by what failed
        return True
    return any(tensor.is_deleted() for tensor in jax.tree.leaves(tensors))


def batch_norm(
    x: Any, scale: Any, offset: Any, mean: Any = None, variance: Any = None, *, epsilon: float
) -> tuple[Any, Any, Any]:
    """Normalises [..., C] with the statistics given, else with those of the batch.

    TensorFlow's fused kernel where there is one; else the same numbers in portable operations.

    Args:
        scale, offset, mean, variance: float32 [C].

    Returns:
        The result in `x`'s type; mean and unbiased variance, of the batch if none were given.
    """
    if not IS_JAX:
        result = tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=ops.convert_to_tensor(scale),
            offset=ops.convert_to_tensor(offset),
            mean=[] if mean is None else ops.convert_to_tensor(mean),
            variance=[] if variance is None else ops.convert_to_tensor(variance),
            epsilon=epsilon,
            is_training=mean is None,
        )
        return result.y, result.batch_mean, result.batch_variance
    x32 = ops.cast(x, "float32")
    unbiased = variance
    if mean is None:
        mean, variance = ops.moments(x32, axes=(0, 1, 2))
        count = ops.cast(ops.prod(ops.shape(x)[:-1]), "float32")
        unbiased = variance * count / ops.maximum(count - 1, 1)
    y = (x32 - mean) * (scale * ops.rsqrt(variance + epsilon)) + offset
    return ops.cast(y, x.dtype), mean, unbiased


def has_gpu() -> bool:
    """Whether the backend computes on a GPU."""
    if IS_JAX:
        return jax.default_backend() == "gpu"
    return bool(tf.config.list_physical_devices("GPU"))


def misses_a_gpu() -> bool:
    """Whether there is an NVIDIA driver, nobody chose the CPU, and yet no GPU is seen."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return shutil.which("nvidia-smi") is not None and not chosen and not has_gpu()


def has_bfloat16() -> bool:
    """Whether the GPU computes in bfloat16 (compute capability 8.0, Ampere, and newer)."""
    if IS_JAX:
        capability = jax.devices()[0].compute_capability
        return float(capability) >= 8.0
    details = tf.config.experimental.get_device_details(tf.config.list_physical_devices("GPU")[0])
    return details.get("compute_capability", (0, 0)) >= (8, 0)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether `error` is the device's report that memory ran out, on either backend."""
    if type(error).__name__ in ("ResourceExhaustedError", "MemoryError"):
        return True
    text = str(error).lower().replace("_", " ")
    return type(error).__name__ in _RUNTIME_ERRORS and any(sign in text for sign in _OUT_OF_MEMORY)


def use_all_devices() -> None:
    """Spreads every step over all devices, see `mesh`; call it before a step is compiled.

    Raises:
        UsageError: several GPUs, but the backend is TensorFlow, of which one is used.
    """
    if IS_JAX:
        mesh.use_all_devices()
    elif len(tf.config.list_physical_devices("GPU")) > 1:
        raise UsageError(
            "--strategy=gpus: several GPUs work with the JAX backend: pip install "
            '"jax[cuda12]", then KERAS_BACKEND=jax before the same command'
        )


def num_devices() -> int:
    """Over how many devices, of all processes, a micro-batch is spread: a multiple of them."""
    return mesh.size() if IS_JAX else 1


def rows_of_process(batch_size: int, micro_batches: int) -> np.ndarray | None:
    """Which rows of each batch are for this process, see `mesh`; None: all, in their order."""
    return mesh.rows_of_process(batch_size, micro_batches) if IS_JAX else None


def cut(batch: Any, micro_batches: int) -> Any:
    """[B, ...] -> [micro-batches, B / micro-batches, ...], inside a compiled update.

    What lies together; over several devices each one's part of every micro-batch: see `mesh`.
    """
    rest, devices = batch.shape[1:], num_devices()
    shape = (micro_batches, batch.shape[0] // micro_batches, *rest)
    if devices > 1:
        batch = ops.swapaxes(ops.reshape(batch, (devices, micro_batches, -1, *rest)), 0, 1)
    return ops.reshape(batch, shape)


def device() -> str:
    """The kind of the device that computes: `cpu` or the GPU's name."""
    if not has_gpu():
        return "cpu"
    if IS_JAX:
        return jax.devices()[0].device_kind
    gpu = tf.config.list_physical_devices("GPU")[0]
    return tf.config.experimental.get_device_details(gpu).get("device_name", "gpu")


def peak_memory() -> int:
    """Most bytes so far at once: on the GPU, or of this process where there is none."""
    if not has_gpu():
        import resource  # here and below: not on Windows

        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if IS_JAX:
        return jax.devices()[0].memory_stats()["peak_bytes_in_use"]
    return tf.config.experimental.get_memory_info("GPU:0")["peak"]


def resident_mb() -> float:
    """Memory of this process in MB: now, where /proc tells, else its peak so far."""
    import resource

    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def limit_memory(megabytes: int) -> None:
    """Caps what the first GPU may give; call it before anything uses the GPU.

    Raises:
        UsageError: there is no GPU, or the backend cannot.
    """
    if IS_JAX:
        raise UsageError(
            "--memory_limit_mb: with KERAS_BACKEND=jax say XLA_CLIENT_MEM_FRACTION=0.5 (a "
            "share of the card) in the environment instead"
        )
    if not has_gpu():
        raise UsageError("--memory_limit_mb: TensorFlow sees no GPU here")
    limit = tf.config.LogicalDeviceConfiguration(memory_limit=megabytes)
    tf.config.set_logical_device_configuration(tf.config.list_physical_devices("GPU")[0], [limit])


def make_deterministic() -> None:
    """Lets every operation give the same bits each time."""
    if not IS_JAX:
        tf.config.experimental.enable_op_determinism()
