"""A training step beside the bare network's, and beside its convolutions at the matmul rate.

`bare network`: forward and backward of the network under a sum of its outputs, without targets,
losses, weight decay, clipping, optimizer and averages. `convolutions`: their multiplications and
additions, three times the forward ones, at the rate of a large matrix product on this machine.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.material import Material
from benchmarks.timing import Limit, Row, in_turns
from efficientdet.config import Config

MATRIX = 2048


def rows(material: Material, turns: int) -> Iterator[Row]:
    """Each size, against both limits."""
    for size in material.sizes:
        config = Config.for_model(material.model).override({"image_size": size})
        step, bare, flops = _works(config, material.batch_size)
        product = _matrix_product()
        names = (f"{material.model}, {size}, batch {material.batch_size}", "bare network", "matmul")
        whole, network, matmul = in_turns(
            dict(zip(names, (step, bare, product), strict=True)), turns
        ).values()
        convolutions = 3 * flops / (2 * MATRIX**3 / matmul)
        for limit in (Limit("bare network", network), Limit("convolutions", convolutions)):
            yield Row("train_step", names[0], whole, material.batch_size, "images", limit)


def _works(config: Config, batch_size: int) -> tuple[Callable, Callable, float]:
    """A step of training, forward and backward alone, and the forward FLOPs of a batch."""
    from keras import ops

    from efficientdet import backend
    from efficientdet.training.engine import TrainingEngine

    engine = TrainingEngine(config)
    batch = _batch(config, batch_size)
    images = ops.convert_to_tensor(batch["images"])
    trainables = [ops.convert_to_tensor(v.value) for v in engine.model.trainable_variables]
    others = [ops.convert_to_tensor(v.value) for v in engine.model.non_trainable_variables]

    def loss(trainables: list, others: list, images: Any) -> tuple[Any, Any]:
        outputs, others = engine.model.stateless_call(trainables, others, images, training=True)
        return sum(ops.sum(output) for output in (*outputs[0], *outputs[1])), others

    compiled = backend.compile_pure(
        lambda *values: backend.value_and_grad(loss, values[0], *values[1:])
    )

    def step() -> None:
        engine.update(batch, step=1, learning_rate=1e-4)

    def bare() -> None:
        ops.convert_to_numpy(compiled(trainables, others, images)[0][0])

    return step, bare, _forward_flops(engine.model, images.shape)


def _batch(config: Config, batch_size: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    height, width = config.image_hw
    corner = random.uniform(0, 0.8, (batch_size, 10, 2)) * (height, width)
    boxes = np.concatenate([corner, corner + random.uniform(16, 80, corner.shape)], axis=-1)
    return {
        "images": random.normal(size=(batch_size, height, width, 3)).astype(np.float32),
        "boxes": boxes.astype(np.float32),
        "classes": random.integers(1, config.num_classes + 1, (batch_size, 10)).astype(np.int32),
    }


def _forward_flops(model: Any, shape: tuple[int, ...]) -> float:
    """Multiplications and additions of the convolutions, read off TensorFlow's graph."""
    import tensorflow as tf

    graph = tf.function(model).get_concrete_function(tf.TensorSpec(shape, tf.float32)).graph
    total = 0.0
    for operation in graph.get_operations():
        if operation.type in ("Conv2D", "DepthwiseConv2dNative"):
            height, width, inputs, _ = operation.inputs[1].shape
            inputs = inputs if operation.type == "Conv2D" else 1
            total += 2 * math.prod(operation.outputs[0].shape) * height * width * inputs
    return total


def _matrix_product() -> Callable[[], None]:
    import tensorflow as tf

    matrix = tf.random.normal((MATRIX, MATRIX))
    multiply = tf.function(tf.matmul)
    return lambda: multiply(matrix, matrix).numpy()
