"""A step over several devices, of this process or of several, on JAX.

Only the step knows of them: XLA cuts it up, losses are normalised and gradients added over all
devices, and BatchNorm sees the whole micro-batch. Outside of it everything, weights included, lies
on the first device of each process, the same in all processes. (Under `keras.distribution` each
variable that is made is sent around and compared.)

A batch is laid out so that each device holds its own part of every micro-batch, and no image goes
from one device to another: with K micro-batches and D devices, row r of micro-batch k belongs to
device r // (B / K / D).
"""

import logging
import operator
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from efficientdet import processes
from efficientdet.console import without_native_stderr
from efficientdet.links import Meeting

Tensors = Any  # a nest of tensors
_AXIS = "batch"
_mesh: Mesh | None = None


def use_all_devices() -> None:
    """Spreads every step that is compiled from here on over all devices of all processes."""
    global _mesh
    _mesh = Mesh(np.array(jax.devices()), (_AXIS,))


def join(meeting: Meeting, address: str) -> None:
    """Makes all devices of all processes those of one training; before anything is computed.

    Args:
        address: of JAX's coordinator, from `processes.joined`.
    """
    # It would warn of proxies, which are not asked: the address is this host's.
    logging.getLogger("jax._src.distributed").setLevel(logging.ERROR)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(
        address,
        meeting.count,
        meeting.number,
        cluster_detection_method="deactivate",  # under SLURM it would take one GPU a process
        coordinator_bind_address=address,
        initialization_timeout=int(meeting.seconds) + 1,
        shutdown_timeout_seconds=60,
    )
    processes.at_parting(jax.distributed.shutdown)
    use_all_devices()
    with processes.blamed(), without_native_stderr(1):  # Gloo tells of every connection
        ones = _upload(np.ones(len(_own()), np.float32), 1)
        float(jax.jit(jax.numpy.sum)(ones))  # here it fails where they do not reach each other


def is_used() -> bool:
    """Whether steps are spread."""
    return _mesh is not None


def size() -> int:
    """Over how many devices."""
    return 1 if _mesh is None else _mesh.size


def rows_of_process(batch_size: int, micro_batches: int) -> np.ndarray | None:
    """Which rows of each batch are for this process' devices, in the order of `compile_update`.

    None: all, in their order.
    """
    if processes.count() == 1:
        return None
    rows = np.arange(batch_size).reshape(micro_batches, size(), -1)
    return rows[:, np.flatnonzero([device in _own() for device in _mesh.devices])].ravel()


def compile_update(
    pure: Callable[[Tensors, Mapping], tuple[Tensors, Tensors]],
    read: Callable[[], Tensors],
    write: Callable[[Tensors], None],
    micro_batches: int,
) -> Callable[[Mapping[str, np.ndarray]], Tensors]:
    """`backend.compile_update` over all devices; what is read and written lies on the first.

    Its inputs are this process' rows of a batch, micro-batch after micro-batch, and scalars, the
    same in every process.
    """
    compiled = jax.jit(pure, donate_argnums=0, out_shardings=_everywhere())
    spread, known = None, []  # the state on all devices; the part of it that was written

    def update(inputs: Mapping[str, np.ndarray]) -> Tensors:
        nonlocal spread, known
        state = read()
        present = jax.tree.leaves(state)
        if len(present) != len(known) or any(map(operator.is_not, present, known)):
            spread = jax.tree.map(_copy, state)
        del state, present
        uploaded = {key: _upload(x, micro_batches) for key, x in inputs.items()}
        spread, logs = compiled(spread, uploaded)
        first = jax.tree.map(lambda x: x.addressable_data(0), spread)
        known = jax.tree.leaves(first)
        write(first)
        return logs.addressable_data(0)

    return update


def _own() -> list[jax.Device]:
    return [one for one in _mesh.devices if one.process_index == jax.process_index()]


def _everywhere() -> NamedSharding:
    return NamedSharding(_mesh, PartitionSpec())


def _copy(array: jax.Array) -> jax.Array:
    """`array` on each device of the mesh."""
    copies = [jax.device_put(array, device) for device in _own()]
    return jax.make_array_from_single_device_arrays(array.shape, _everywhere(), copies)


def _upload(array: np.ndarray, micro_batches: int) -> Any:
    if np.ndim(array) == 0:
        return array
    devices, rest = _own(), array.shape[1:]
    parts = array.reshape(micro_batches, len(devices), -1, *rest)
    shards = [
        jax.device_put(parts[:, i].reshape(-1, *rest), device) for i, device in enumerate(devices)
    ]
    shape = (len(shards[0]) * size(), *rest)
    sharding = NamedSharding(_mesh, PartitionSpec(_AXIS))
    return jax.make_array_from_single_device_arrays(shape, sharding, shards)
