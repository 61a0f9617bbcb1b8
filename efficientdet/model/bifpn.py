"""BiFPN: weighted bi-directional feature pyramid.

Tan, Pang and Le, "EfficientDet" (2020), section 3 and figure 2 (d).
"""

from typing import Any, NamedTuple

from keras import layers, ops

from efficientdet.config import Config
from efficientdet.model import remat
from efficientdet.model.layers import (
    ACTIVATIONS,
    BatchNormalization,
    SeparableConv2D,
    VarianceScaling,
)

Tensor = Any
FUSION_EPSILON = 1e-4


class Node(NamedTuple):
    """One fusion: its level and the maps it takes.

    Maps are numbered: 0.. are the cell's inputs from the finest level up, then the nodes in order.
    """

    level: int
    inputs: tuple[int, ...]


def bifpn_nodes(min_level: int, max_level: int) -> list[Node]:
    """Top-down nodes from max_level - 1 to min_level, then bottom-up ones to max_level."""
    maps = {level: [index] for index, level in enumerate(range(min_level, max_level + 1))}
    nodes = []

    def add(level: int, inputs: list[int]) -> None:
        maps[level].append(len(maps) + len(nodes))
        nodes.append(Node(level, tuple(inputs)))

    for level in range(max_level - 1, min_level - 1, -1):
        add(level, [maps[level][-1], maps[level + 1][-1]])
    for level in range(min_level + 1, max_level + 1):
        add(level, [*maps[level], maps[level - 1][-1]])
    return nodes


class BiFPN(layers.Layer):
    """The cells in a row: maps of the backbone -> maps of equal channels, one a level."""

    def __init__(self, config: Config, in_filters: list[int]):
        super().__init__(name="fpn_cells")
        self.grad_checkpoint = config.grad_checkpoint
        out_filters = [config.fpn_num_filters] * len(in_filters)
        self.cells = [
            BiFPNCell(config, out_filters if index else in_filters, f"cell_{index}")
            for index in range(config.fpn_cell_repeats)
        ]

    def build(self, input_shape: Any = None) -> None:
        """Builds every cell; the channels are known."""
        for cell in self.cells:
            cell.build()

    def call(self, features: list[Tensor], training: bool = False) -> list[Tensor]:
        """[B, H_l, W_l, C_l] a level -> [B, H_l, W_l, F] a level."""
        for cell in self.cells:
            features = remat.apply(cell, features, training=training, remat=self.grad_checkpoint)
        return features


class BiFPNCell(layers.Layer):
    """One top-down and bottom-up pass over all levels."""

    def __init__(self, config: Config, in_filters: list[int], name: str):
        super().__init__(name=name)
        self.levels = [*config.levels]
        nodes = bifpn_nodes(config.min_level, config.max_level)
        filters = in_filters + [config.fpn_num_filters] * len(nodes)
        map_levels = self.levels + [node.level for node in nodes]
        self.nodes = [
            FusionNode(config, index, node, map_levels, filters) for index, node in enumerate(nodes)
        ]

    def build(self, input_shape: Any = None) -> None:
        """Builds every node."""
        for node in self.nodes:
            node.build()

    def call(self, features: list[Tensor], training: bool = False) -> list[Tensor]:
        """[B, H_l, W_l, C_l] a level -> [B, H_l, W_l, F] a level."""
        maps = list(features)
        outputs = {}
        for node in self.nodes:
            size = maps[node.level - self.levels[0]].shape[1:3]
            maps.append(node([maps[index] for index in node.sources], size=size, training=training))
            outputs[node.level] = maps[-1]
        return [outputs[level] for level in self.levels]


class FusionNode(layers.Layer):
    """Resamples its inputs to one level, adds them weighted, then activation, 3x3 conv, BatchNorm.

    The weights are the paper's fast normalised fusion, w_i / (eps + sum w), w >= 0 by ReLU; with
    `fpn_weight_method="sum"` all are 1 and not normalised.
    """

    def __init__(
        self, config: Config, index: int, node: Node, map_levels: list[int], filters: list[int]
    ):
        super().__init__(name=f"fnode{index}")
        self.level, self.sources = node
        self.weighted = config.fpn_weight_method == "fastattn"
        self.activation = ACTIVATIONS[config.act_type]
        number = len(config.levels) + index
        self.resamples = [
            Resample(
                f"resample_{i}_{source}_{number}",
                filters[source],
                config.fpn_num_filters,
                levels_down=map_levels[source] - node.level,
            )
            for i, source in enumerate(self.sources)
        ]
        self.combine = SeparableConvBN(config.fpn_num_filters, f"op_after_combine{number}")

    def build(self, input_shape: Any = None) -> None:
        """Makes a scalar weight for each input and builds the layers."""
        names = [f"WSM_{index}" if index else "WSM" for index in range(len(self.sources))]
        self.fusion_weights = [
            self.add_weight(name=name, shape=(), initializer="ones")
            for name in (names if self.weighted else ())
        ]
        for layer in (*self.resamples, self.combine):
            layer.build()

    def call(self, features: list[Tensor], size: tuple[int, int], training: bool = False) -> Tensor:
        """Maps of this and neighbouring levels -> [B, *size, F]."""
        maps = [
            resample(feature, size=size, training=training)
            for resample, feature in zip(self.resamples, features, strict=True)
        ]
        if self.weighted:
            weights = [ops.relu(weight) for weight in self.fusion_weights]
            total = sum(weights) + FUSION_EPSILON
            maps = [x * (weight / total) for x, weight in zip(maps, weights, strict=True)]
        return self.combine(self.activation(sum(maps[1:], maps[0])), training=training)


class Resample(layers.Layer):
    """Brings a map to F channels (1x1 conv and BatchNorm, if it has others) and to a level's size.

    Args:
        levels_down: 1 doubles the size (nearest), -1 halves it (3x3 max-pool), 0 keeps it.
    """

    def __init__(self, name: str, in_filters: int, filters: int, levels_down: int):
        super().__init__(name=name)
        self.in_filters, self.filters = in_filters, filters
        self.levels_down = levels_down
        self.conv = self.bn = None
        if in_filters != filters:
            self.conv = layers.Conv2D(
                filters, 1, kernel_initializer=_glorot_uniform(), name="conv2d"
            )
            self.bn = BatchNormalization(name="bn")

    def build(self, input_shape: Any = None) -> None:
        """Builds the 1x1 convolution, if there is one."""
        if self.conv:
            self.conv.build((None, None, None, self.in_filters))
            self.bn.build((None, None, None, self.filters))

    def call(
        self, inputs: Tensor, size: tuple[int, int] | None = None, training: bool = False
    ) -> Tensor:
        """[B, h, w, C] -> [B, *size, F]; upsampling to an odd size drops the last row or column."""
        x = inputs
        if self.conv:
            x = self.bn(self.conv(x), training=training)
        if self.levels_down > 0:
            x = ops.repeat(ops.repeat(x, 2, axis=1), 2, axis=2)
            return x[:, : size[0], : size[1]]
        return ops.max_pool(x, 3, strides=2, padding="same") if self.levels_down < 0 else x


class SeparableConvBN(layers.Layer):
    """3x3 depthwise separable convolution, then BatchNorm."""

    def __init__(self, filters: int, name: str):
        super().__init__(name=name)
        self.filters = filters
        self.conv = SeparableConv2D(
            filters,
            3,
            padding="same",
            depthwise_initializer=_glorot_uniform(),
            pointwise_initializer=_glorot_uniform(),
            name="conv",
        )
        self.bn = BatchNormalization(name="bn")

    def build(self, input_shape: Any = None) -> None:
        """Builds both layers."""
        self.conv.build((None, None, None, self.filters))
        self.bn.build((None, None, None, self.filters))

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """[B, H, W, F] -> [B, H, W, F]."""
        return self.bn(self.conv(inputs, training=training), training=training)


def _glorot_uniform() -> VarianceScaling:
    return VarianceScaling(1.0, "fan_avg", "uniform")
