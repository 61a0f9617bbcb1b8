"""Numbers of the network under whatever KERAS_BACKEND says; test_both_backends.py compares them.

KERAS_BACKEND=jax python both_backends.py OUT.npz [CHECKPOINT GOLDEN_INPUTS.npz]
"""

import sys
import zlib

import keras
import numpy as np
from keras import ops

from efficientdet.config import Config
from efficientdet.model.detector import automl_names, build_detector

TINY = {
    "backbone_name": "efficientnet-tiny",
    "image_size": "96x64",
    "max_level": 5,
    "num_classes": 3,
    "fpn_num_filters": 8,
    "fpn_cell_repeats": 1,
    "box_class_repeats": 1,
    "survival_prob": 1.0,  # backends draw different random numbers
}


def tiny_detector(**overrides) -> keras.Model:
    """A detector with one or two narrow blocks a stage; every weight is seeded by its name."""
    keras.utils.set_random_seed(0)
    model = build_detector(Config().override({**TINY, **overrides}))
    for name, variable in automl_names(model).items():
        random = np.random.default_rng(zlib.crc32(name.encode()))
        values = random.normal(size=variable.shape)
        if name.endswith("kernel"):
            values *= np.sqrt(2 / max(1, np.prod(variable.shape[:-1])))
        elif name.endswith(("gamma", "moving_variance", "WSM", "WSM_1", "WSM_2")):
            values = 1 + 0.2 * np.tanh(values)
        variable.assign(values)
    return model


def tiny_images() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(2, 64, 96, 3)).astype("float32")


def training_step(model: keras.Model, images: np.ndarray) -> tuple[list, list]:
    """(gradients of a loss, new non-trainable values), both compiled, as the trainer does it."""
    trainables = [ops.convert_to_tensor(v.value) for v in model.trainable_variables]
    state = [ops.convert_to_tensor(v.value) for v in model.non_trainable_variables]

    def loss_fn(trainables, state, images):
        (classes, boxes), state = model.stateless_call(trainables, state, images, training=True)
        return sum(ops.mean(x * x) for x in [*classes, *boxes]), state

    if keras.backend.backend() == "jax":
        import jax

        step = jax.jit(jax.value_and_grad(loss_fn, has_aux=True))
        (_, state), gradients = step(trainables, state, images)
    else:
        import tensorflow as tf

        @tf.function
        def step(trainables, state, images):
            with tf.GradientTape() as tape:
                tape.watch(trainables)
                loss, state = loss_fn(trainables, state, images)
            return tape.gradient(loss, trainables), state

        gradients, state = step(trainables, state, images)
    return [ops.convert_to_numpy(x) for x in gradients], [ops.convert_to_numpy(x) for x in state]


def outputs(model: keras.Model, images: np.ndarray) -> list[np.ndarray]:
    classes, boxes = model(images, training=False)
    return [ops.convert_to_numpy(x) for x in [*classes, *boxes]]


def tiny_numbers(*, remat: bool) -> dict[str, np.ndarray]:
    """Gradients and new statistics of a training step, by variable, and outputs of inference."""
    model, images = tiny_detector(grad_checkpoint=remat), tiny_images()
    names = {id(variable): name for name, variable in automl_names(model).items()}
    gradients, state = training_step(model, images)
    pairs = [
        *zip(model.trainable_variables, gradients, strict=True),
        *zip(model.non_trainable_variables, state, strict=True),
    ]
    numbers = {names[id(variable)]: value for variable, value in pairs}
    return numbers | {f"output {i}": x for i, x in enumerate(outputs(model, images))}


def golden_numbers(checkpoint: str, inputs: str) -> dict[str, np.ndarray]:
    """Outputs of D0 with the golden checkpoint at 128x128."""
    from efficientdet.checkpoint.restore import restore

    config = Config.for_model("efficientdet-d0").override({"image_size": 128})
    model = build_detector(config)
    restore(model, checkpoint, config)
    images = np.load(inputs)["input_128x128"]
    return {f"golden {i}": x for i, x in enumerate(outputs(model, images))}


def main(out: str, *golden: str) -> None:
    numbers = tiny_numbers(remat=True)
    if golden:
        numbers |= golden_numbers(*golden)
    np.savez(out, **numbers)


if __name__ == "__main__":
    main(*sys.argv[1:])
