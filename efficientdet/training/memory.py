"""What a training step needs: the graph of a step, walked through in its order; or real steps.

The step is traced, not run: each tensor lives from the operation that makes it to the last one that
reads it, and the most that lives at once is what the step needs. The workspace of cuDNN and the
CUDA context (0.3 to 1 GB) come on top.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np

from efficientdet import backend
from efficientdet.config import Config
from efficientdet.model import losses, targets
from efficientdet.model.anchors import Anchors
from efficientdet.model.detector import build_detector
from efficientdet.training.engine import TrainingEngine

MAX_INSTANCES = 32
TIMED_STEPS = 5
# These hand on the memory of what they read.
_ALIASES = frozenset(("Identity", "Reshape", "ReadVariableOp", "Const", "Placeholder", "Squeeze"))


@dataclass(frozen=True)
class Memory:
    """What one configuration needs, in bytes.

    Attributes:
        state: weights, their averages, optimizer slots; whatever the batch.
        fixed: gradients and other tensors of a step that do not grow with the batch.
        image: activations of each image of a micro-batch.
    """

    state: int
    fixed: int
    image: int

    def total(self, batch_size: int) -> int:
        """Bytes with `batch_size` images in a micro-batch."""
        return self.state + self.fixed + batch_size * self.image


def estimate(config: Config) -> Memory:
    """Traces a step with one and with two images and walks through both graphs.

    Args:
        config: `mixed_precision` counts as on a GPU with bfloat16, whatever there is here.
    """
    policy = "mixed_bfloat16" if config.mixed_precision else "float32"
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = build_detector(config)
        one, two = (_peak(model, config, batch_size) for batch_size in (1, 2))
    finally:
        keras.config.set_dtype_policy(before)
    weights = sum(variable.value.shape.num_elements() for variable in model.weights)
    slots = 2 if config.optimizer == "adam" else 1
    copies = 1 + slots + (config.moving_average_decay > 0)
    return Memory(4 * weights * copies, fixed=max(0, 2 * one - two), image=two - one)


def _peak(model, config: Config, batch_size: int) -> int:
    """Most bytes that live at once in the graph of losses and gradients."""
    import tensorflow as tf

    anchors = Anchors(config).boxes

    def loss(trainables: list, images, assigned):
        statistics = [tf.convert_to_tensor(v.value) for v in model.non_trainable_variables]
        outputs, _ = model.stateless_call(trainables, statistics, images, training=True)
        parts = losses.detection_loss(outputs, assigned, anchors, config=config, normaliser=1.0)
        return parts["det_loss"], None

    @tf.function(autograph=False)
    def step(images, boxes, classes):
        assigned = targets.assign(anchors, boxes, classes, config=config)
        trainables = [tf.convert_to_tensor(v.value) for v in model.trainable_variables]
        return backend.value_and_grad(loss, trainables, images, assigned)[1]

    graph = step.get_concrete_function(
        tf.TensorSpec((batch_size, *config.image_hw, 3)),
        tf.TensorSpec((batch_size, MAX_INSTANCES, 4)),
        tf.TensorSpec((batch_size, MAX_INSTANCES), tf.int32),
    ).graph
    return _walk(graph.get_operations())


def _walk(operations: list) -> int:
    """Most bytes of tensors between the operation that makes and the last one that reads them."""
    owner, last_read = {}, {}
    for position, operation in enumerate(operations):
        for tensor in operation.outputs:
            source = (
                operation.inputs[0] if operation.type in _ALIASES and operation.inputs else None
            )
            owner[tensor.ref()] = owner.get(source.ref()) if source is not None else tensor.ref()
        for tensor in operation.inputs:
            last_read[owner.get(tensor.ref())] = position
    freed: dict[int, int] = {}
    living = peak = 0
    for position, operation in enumerate(operations):
        for tensor in operation.outputs:
            if operation.type in _ALIASES or not tensor.shape.is_fully_defined():
                continue
            size = tensor.shape.num_elements() * tensor.dtype.size
            end = last_read.get(tensor.ref(), position)
            living += size
            freed[end] = freed.get(end, 0) + size
        peak = max(peak, living)
        living -= freed.pop(position, 0)
    return peak


def measure(config: Config, batch_sizes: Sequence[int]) -> list[tuple[int, float] | None]:
    """(peak bytes, images a second) of real steps; None from the first batch on that does not fit.

    The peak is that of the whole process until then: give it a fresh one, and ascending sizes.
    """
    engine, found = TrainingEngine(config), []
    for batch_size in batch_sizes:
        try:
            seconds = _median_step(engine, batch_size)
        except Exception as error:
            if not backend.is_out_of_memory(error):
                raise
            break
        found.append((backend.peak_memory(), batch_size / seconds))
    return found + [None] * (len(batch_sizes) - len(found))


def _median_step(engine, batch_size: int) -> float:
    """Seconds of a step, the first one left out."""
    height, width = engine.config.image_hw
    batch = {
        "images": np.zeros((batch_size, height, width, 3), np.float32),
        "boxes": np.tile(np.float32([[20, 30, 90, 160]]), (batch_size, MAX_INSTANCES, 1)),
        "classes": np.ones((batch_size, MAX_INSTANCES), np.int32),
    }
    seconds = []
    for step in range(TIMED_STEPS + 1):
        start = time.monotonic()
        backend.fetch([engine.step(batch, step=step, learning_rate=0.0)])
        seconds.append(time.monotonic() - start)
    return statistics.median(seconds[1:])
