"""Class and box heads: convolutions shared by all levels, BatchNorm for each level.

Lin et al., "Focal Loss for Dense Object Detection" (2017), section 4; separable as in EfficientDet.
"""

import math
from typing import Any

import keras
from keras import layers

from efficientdet.config import Config
from efficientdet.errors import UsageError
from efficientdet.model.layers import (
    ACTIVATIONS,
    BatchNormalization,
    SeparableConv2D,
    StochasticDepth,
    VarianceScaling,
)

Tensor = Any


class Head(layers.Layer):
    """`box_class_repeats` separable 3x3 convolutions, then one to `outputs` channels.

    With `survival_prob` every convolution but the first has a residual branch. The prediction is
    computed in float32 under every policy: bfloat16 has 129 numbers from 2 to 4, and scores that
    are tied cannot be ranked.

    Args:
        prefix: "class" or "box"; the layer is called `class_net` or `box_net`.
        outputs: channels of a prediction.
        bias: initial bias of the prediction, one or one a channel.
    """

    def __init__(self, config: Config, prefix: str, outputs: int, bias: Any = 0.0):
        super().__init__(name=f"{prefix}_net")
        self.filters, self.outputs = config.fpn_num_filters, outputs
        self.activation = ACTIVATIONS[config.act_type]
        repeats = range(config.box_class_repeats)
        self.convs = [_separable(self.filters, f"{prefix}-{index}") for index in repeats]
        self.bns = [
            [BatchNormalization(name=f"{prefix}-{index}-bn-{level}") for index in repeats]
            for level in config.levels
        ]
        self.drop = StochasticDepth(config.survival_prob) if config.survival_prob else None
        self.predict = _separable(outputs, f"{prefix}-predict", bias, dtype="float32")

    def build(self, input_shape: Any = None) -> None:
        """Builds every layer; all take F channels."""
        bns = [bn for level in self.bns for bn in level]
        for layer in (*self.convs, *bns, self.predict):
            layer.build((None, None, None, self.filters))

    def call(self, features: list[Tensor], training: bool = False) -> list[Tensor]:
        """[B, H_l, W_l, F] a level -> float32 [B, H_l, W_l, outputs] a level."""
        return [
            self.predict(self._tower(feature, bns, training), training=training)
            for feature, bns in zip(features, self.bns, strict=True)
        ]

    def _tower(self, x: Tensor, bns: list[BatchNormalization], training: bool) -> Tensor:
        for index, (conv, bn) in enumerate(zip(self.convs, bns, strict=True)):
            skip = x
            x = self.activation(bn(conv(x, training=training), training=training))
            if self.drop and index:
                x = self.drop(x, training=training) + skip
        return x


def class_head(config: Config) -> Head:
    """Logits of A * K channels, channel = anchor * K + class, each starting at `class_prior`."""
    priors = config.class_prior
    if isinstance(priors, float):
        priors = [priors] * config.num_classes
    if len(priors) != config.num_classes:
        raise UsageError(
            f"class_prior has {len(priors)} entries: expected one, or one for each class "
            f"(num_classes={config.num_classes})"
        )
    bias = [math.log(prior / (1 - prior)) for prior in priors] * config.num_anchors
    return Head(config, "class", config.num_anchors * config.num_classes, bias)


def box_head(config: Config) -> Head:
    """(ty, tx, th, tw) of A * 4 channels, channel = anchor * 4 + coordinate."""
    return Head(config, "box", config.num_anchors * 4)


def _separable(
    filters: int, name: str, bias: Any = 0.0, dtype: str | None = None
) -> SeparableConv2D:
    return SeparableConv2D(
        filters,
        3,
        padding="same",
        depthwise_initializer=VarianceScaling(),
        pointwise_initializer=VarianceScaling(),
        bias_initializer=keras.initializers.Constant(bias),
        name=name,
        dtype=dtype,
    )
