"""Rematerialisation: keep a block's inputs, recompute its activations in the backward pass.

Chen et al., "Training Deep Nets with Sublinear Memory Cost" (2016). The block runs as a pure
function of its inputs and trainable values; new BatchNorm statistics and seeds are outputs of it,
assigned outside, so that they move once although the block runs twice. (`keras.remat` around a
layer that assigns moves them twice on TensorFlow and leaks tracers on JAX.)
"""

from typing import Any

import keras

Tensor = Any


def apply(layer: keras.layers.Layer, inputs: Any, *, training: bool, remat: bool) -> Any:
    """`layer(inputs, training=training)`, rematerialised if `remat` and `training`.

    Args:
        layer: a built layer.
        inputs: a tensor or a list of tensors.
    """
    if not (remat and training):
        return layer(inputs, training=training)
    state = layer.non_trainable_variables
    before = [variable.value for variable in state]

    def pure(inputs: Any, trainables: list[Tensor]) -> tuple[Any, list[Tensor]]:
        mapping = [*zip(layer.trainable_variables, trainables, strict=True)]
        mapping += zip(state, before, strict=True)
        with keras.StatelessScope(state_mapping=mapping) as scope:
            outputs = layer(inputs, training=True)
            return outputs, [scope.get_current_value(variable) for variable in state]

    outputs, after = keras.remat(pure)(inputs, [v.value for v in layer.trainable_variables])
    for variable, value in zip(state, after, strict=True):
        variable.assign(value)
    return outputs
