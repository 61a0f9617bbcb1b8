"""EfficientNet-B0..B7 and lite0..lite4 as feature extractors.

Tan and Le, "EfficientNet" (2019), table 1 and section 3.3 (compound scaling).
"""

import math
from typing import Any, NamedTuple

from keras import layers, ops

from efficientdet.config import near_name
from efficientdet.errors import UsageError
from efficientdet.model import remat
from efficientdet.model.layers import (
    ACTIVATIONS,
    BatchNormalization,
    DepthwiseConv2D,
    StochasticDepth,
    VarianceScaling,
)

Tensor = Any
SE_RATIO = 0.25
SURVIVAL_PROB = 0.8  # of the deepest block; B0 trains without stochastic depth


class Stage(NamedTuple):
    """One row of EfficientNet's table 1."""

    kernel: int
    repeats: int
    stride: int
    expand: int
    filters: int


STAGES = (
    Stage(3, 1, 1, 1, 16),
    Stage(3, 2, 2, 6, 24),
    Stage(5, 2, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(5, 3, 1, 6, 112),
    Stage(5, 4, 2, 6, 192),
    Stage(3, 1, 1, 6, 320),
)
STEM_FILTERS = 32

# (width, depth) coefficients.
SCALING = {
    "efficientnet-b0": (1.0, 1.0),
    "efficientnet-b1": (1.0, 1.1),
    "efficientnet-b2": (1.1, 1.2),
    "efficientnet-b3": (1.2, 1.4),
    "efficientnet-b4": (1.4, 1.8),
    "efficientnet-b5": (1.6, 2.2),
    "efficientnet-b6": (1.8, 2.6),
    "efficientnet-b7": (2.0, 3.1),
    "efficientnet-lite0": (1.0, 1.0),
    "efficientnet-lite1": (1.0, 1.1),
    "efficientnet-lite2": (1.1, 1.2),
    "efficientnet-lite3": (1.2, 1.4),
    "efficientnet-lite4": (1.4, 1.8),
    "efficientnet-tiny": (0.25, 0.3),  # of no paper: to rehearse a run, and for the tests
}


class Backbone(layers.Layer):
    """[B, H, W, 3] normalised images -> the last feature map of each stride, 2, 4, 8, 16 and 32.

    A lite backbone has no squeeze-and-excitation, and its stem, first and last stage are not
    scaled.
    """

    def __init__(
        self,
        name: str,
        act_type: str = "swish",
        survival_prob: float | None = None,
        grad_checkpoint: bool = False,
    ):
        if name not in SCALING:
            raise UsageError(f"backbone_name={name!r}: no such backbone{near_name(name, SCALING)}")
        super().__init__(name=name)
        self.grad_checkpoint = grad_checkpoint
        if not survival_prob:
            survival_prob = 1.0 if name == "efficientnet-b0" else SURVIVAL_PROB
        stages, stem_filters = scaled_stages(name)
        self.stem = Stem(stem_filters, act_type)
        self.blocks = _blocks(stages, stem_filters, act_type, "lite" not in name, survival_prob)
        strides = [block.stride for block in self.blocks[1:]] + [2]
        # The blocks before a stride, and the last one: reduction_1 .. reduction_5.
        self.endpoints = [index for index, stride in enumerate(strides) if stride > 1]
        self.endpoint_filters = [self.blocks[index].filters for index in self.endpoints]

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Builds the stem and every block."""
        self.stem.build(input_shape)
        for block in self.blocks:
            block.build()

    def call(self, inputs: Tensor, training: bool = False) -> list[Tensor]:
        """Feature maps of stride 2, 4, 8, 16, 32; sizes are rounded up."""
        x = self.stem(inputs, training=training)
        features = []
        for index, block in enumerate(self.blocks):
            x = remat.apply(block, x, training=training, remat=self.grad_checkpoint)
            if index in self.endpoints:
                features.append(x)
        return features


class Stem(layers.Layer):
    """3x3 convolution of stride 2, BatchNorm, activation."""

    def __init__(self, filters: int, act_type: str):
        super().__init__(name="stem")
        self.conv = _conv(filters, 3, "conv2d", strides=2)
        self.bn = BatchNormalization(name="tpu_batch_normalization")
        self.activation = ACTIVATIONS[act_type]
        self.filters = filters

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Builds both layers."""
        self.conv.build(input_shape)
        self.bn.build((None, None, None, self.filters))

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """[B, H, W, 3] -> [B, H/2, W/2, filters]."""
        return self.activation(self.bn(self.conv(inputs), training=training))


class MBConv(layers.Layer):
    """Mobile inverted bottleneck: expand, depthwise, squeeze-and-excite, project, residual.

    Sandler et al., "MobileNetV2" (2018), figure 3; Huang et al., "Deep Networks with Stochastic
    Depth" (2016) for `survival_prob`.
    """

    def __init__(
        self,
        stage: Stage,
        in_filters: int,
        act_type: str,
        squeeze: bool,
        survival_prob: float,
        name: str,
    ):
        super().__init__(name=name)
        self.stride, self.filters = stage.stride, stage.filters
        self.in_filters, self.expanded = in_filters, in_filters * stage.expand
        self.activation = ACTIVATIONS[act_type]
        self.residual = stage.stride == 1 and in_filters == stage.filters
        self.drop = StochasticDepth(survival_prob) if self.residual else None
        # Layers of one kind are numbered in their order, as in the published checkpoints.
        convs = iter(("conv2d", "conv2d_1"))
        bns = iter(f"tpu_batch_normalization{suffix}" for suffix in ("", "_1", "_2"))
        self.expand = self.expand_bn = None
        if stage.expand > 1:
            self.expand = _conv(self.expanded, 1, next(convs))
            self.expand_bn = BatchNormalization(name=next(bns))
        self.depthwise = DepthwiseConv2D(
            stage.kernel,
            stage.stride,
            padding="same",
            use_bias=False,
            depthwise_initializer=_he_normal(),
            name="depthwise_conv2d",
        )
        self.depthwise_bn = BatchNormalization(name=next(bns))
        squeezed = max(1, int(in_filters * SE_RATIO))
        self.se = SqueezeExcite(self.expanded, squeezed, act_type) if squeeze else None
        self.project = _conv(self.filters, 1, next(convs))
        self.project_bn = BatchNormalization(name=next(bns))

    def build(self, input_shape: Any = None) -> None:
        """Builds every layer; the channels are known."""
        expanded = (None, None, None, self.expanded)
        if self.expand:
            self.expand.build((None, None, None, self.in_filters))
            self.expand_bn.build(expanded)
        self.depthwise.build(expanded)
        self.depthwise_bn.build(expanded)
        if self.se:
            self.se.build(expanded)
        self.project.build(expanded)
        self.project_bn.build((None, None, None, self.filters))

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """[B, H, W, in_filters] -> [B, H/stride, W/stride, filters]."""
        x = inputs
        if self.expand:
            x = self.activation(self.expand_bn(self.expand(x), training=training))
        x = self.depthwise(x, training=training)
        x = self.activation(self.depthwise_bn(x, training=training))
        if self.se:
            x = self.se(x)
        x = self.project_bn(self.project(x), training=training)
        return self.drop(x, training=training) + inputs if self.residual else x


class SqueezeExcite(layers.Layer):
    """Channel gates from the map's mean. Hu et al., "Squeeze-and-Excitation Networks" (2018)."""

    def __init__(self, filters: int, squeezed: int, act_type: str):
        super().__init__(name="se")
        self.reduce = _conv(squeezed, 1, "conv2d", use_bias=True)
        self.expand = _conv(filters, 1, "conv2d_1", use_bias=True)
        self.activation = ACTIVATIONS[act_type]
        self.squeezed = squeezed

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Builds both 1x1 convolutions."""
        self.reduce.build(input_shape)
        self.expand.build((None, None, None, self.squeezed))

    def call(self, inputs: Tensor) -> Tensor:
        """[B, H, W, C] -> [B, H, W, C]."""
        mean = ops.mean(inputs, axis=(1, 2), keepdims=True)
        return ops.sigmoid(self.expand(self.activation(self.reduce(mean)))) * inputs


def scaled_stages(name: str) -> tuple[list[Stage], int]:
    """The stages of one backbone after compound scaling, and the stem's filters."""
    width, depth = SCALING[name]
    lite = "lite" in name

    def repeats(index: int, stage: Stage) -> int:
        if lite and index in (0, len(STAGES) - 1):
            return stage.repeats
        return math.ceil(depth * stage.repeats)

    stages = [
        stage._replace(filters=round_filters(stage.filters, width), repeats=repeats(index, stage))
        for index, stage in enumerate(STAGES)
    ]
    return stages, STEM_FILTERS if lite else round_filters(STEM_FILTERS, width)


def round_filters(filters: int, width: float) -> int:
    """`filters * width` to the nearest multiple of 8, never more than 10 % down."""
    scaled = filters * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


def _blocks(
    stages: list[Stage], in_filters: int, act_type: str, squeeze: bool, survival_prob: float
) -> list[MBConv]:
    """All blocks in order; the chance of a drop grows linearly with depth from 0."""
    rows = []
    for stage in stages:
        rows += [stage] + [stage._replace(stride=1)] * (stage.repeats - 1)
    blocks = []
    for index, row in enumerate(rows):
        survival = 1 - (1 - survival_prob) * index / len(rows)
        name = f"blocks_{index}"
        blocks.append(MBConv(row, in_filters, act_type, squeeze, survival, name))
        in_filters = row.filters
    return blocks


def _conv(
    filters: int, kernel: int, name: str, strides: int = 1, use_bias: bool = False
) -> layers.Conv2D:
    return layers.Conv2D(
        filters,
        kernel,
        strides,
        padding="same",
        use_bias=use_bias,
        kernel_initializer=_he_normal(),
        name=name,
    )


def _he_normal() -> VarianceScaling:
    """Normal with variance 2 / fan_out, as EfficientNet was trained."""
    return VarianceScaling(2.0, "fan_out", "untruncated_normal")
