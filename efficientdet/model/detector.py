"""EfficientDet: backbone, BiFPN, class and box head. Tan, Pang and Le (2020), figure 3."""

import math
from typing import Any

import keras
from keras import layers, ops

from efficientdet.config import Config
from efficientdet.model import remat
from efficientdet.model.bifpn import BiFPN, Resample
from efficientdet.model.efficientnet import Backbone
from efficientdet.model.heads import Head, box_head, class_head
from efficientdet.model.layers import BatchNormalization

Tensor = Any
_PREFIXES = {
    "backbone": ("efficientnet-",),
    "fpn": ("fpn_cells/", "resample_p"),
    "class_head": ("class_net/",),
    "box_head": ("box_net/",),
}
PARTS = tuple(_PREFIXES)


def build_detector(config: Config) -> keras.Model:
    """The network of one configuration.

    Returns:
        A model of normalised images [B, H, W, 3] (H, W of `config.image_hw`) to two lists, one
        entry for each level from min_level: class logits [B, h, w, A*K] (channel = anchor * K +
        class) and boxes [B, h, w, A*4] (ty, tx, th, tw), float32 under every precision policy.
        h = ceil(H / 2**level).
    """
    images = keras.Input((*config.image_hw, 3), name="images")
    model = keras.Model(images, EfficientDet(config)(images), name=config.name)
    for layer in batch_norms(model):
        layer.momentum = config.batch_norm_momentum
    return model


class EfficientDet(layers.Layer):
    """The whole network as one layer; its parts are attributes.

    Attributes:
        frozen_parts: names of `PARTS` without a variable to train; no gradient is computed below
            the first part that has one.
    """

    def __init__(self, config: Config):
        super().__init__(name="detector")
        self.levels = config.levels
        self.remat = config.grad_checkpoint
        self.frozen_parts: frozenset[str] = frozenset()
        self.backbone = Backbone(
            config.backbone_name, config.act_type, config.survival_prob, config.grad_checkpoint
        )
        filters = self.backbone.endpoint_filters[config.min_level - 1 : config.max_level]
        self.coarser = []
        for level in range(config.min_level + len(filters), config.max_level + 1):
            name = f"resample_p{level}"
            self.coarser.append(Resample(name, filters[-1], config.fpn_num_filters, -1))
            filters.append(config.fpn_num_filters)
        self.fpn = BiFPN(config, filters)
        self.class_head = class_head(config)
        self.box_head = box_head(config)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Builds every part."""
        self.backbone.build(input_shape)
        for part in (*self.coarser, self.fpn, self.class_head, self.box_head):
            part.build()

    def compute_output_spec(self, images: Any, training: bool = False) -> tuple[list, list]:
        """Shapes of what `call` returns; Keras would trace the whole network to find them."""
        batch, height, width, _ = images.shape

        def maps(head: Head) -> list[keras.KerasTensor]:
            sizes = [
                (math.ceil(height / 2**level), math.ceil(width / 2**level)) for level in self.levels
            ]
            return [keras.KerasTensor((batch, *size, head.outputs), "float32") for size in sizes]

        return maps(self.class_head), maps(self.box_head)

    def pyramid(self, images: Tensor, training: bool = False) -> list[Tensor]:
        """The BiFPN's inputs, [B, H_l, W_l, C_l] a level: the backbone's maps, then pooled ones."""
        features = self.backbone(images, training=training)
        features = self._constant_if_frozen(features, {"backbone"})
        features = features[self.levels[0] - 1 : self.levels[-1]]
        for resample in self.coarser:
            features.append(resample(features[-1], training=training))
        return features

    def call(self, images: Tensor, training: bool = False) -> tuple[list[Tensor], list[Tensor]]:
        """[B, H, W, 3] -> class logits and boxes, see `build_detector`."""
        features = self.fpn(self.pyramid(images, training), training=training)
        features = self._constant_if_frozen(features, {"backbone", "fpn"})
        classes, boxes = (
            remat.apply(head, features, training=training, remat=self.remat)
            for head in (self.class_head, self.box_head)
        )
        return classes, boxes

    def _constant_if_frozen(self, features: list[Tensor], parts: set[str]) -> list[Tensor]:
        """Without a gradient, and so without activations kept for one, if `parts` are frozen."""
        if parts <= self.frozen_parts:
            return [ops.stop_gradient(feature) for feature in features]
        return features


def automl_names(model: keras.Model) -> dict[str, keras.Variable]:
    """Variables by the name they have in google/automl's checkpoints; seeds are not among them."""
    return {automl_name(variable): variable for variable in model.weights}


def automl_name(variable: keras.Variable) -> str:
    """`detector/<layers>/<weight>` without the first folder."""
    name = variable.path.removeprefix("detector/")
    return name.replace("depthwise_conv2d/kernel", "depthwise_conv2d/depthwise_kernel")


def batch_norms(model: keras.Model) -> list[BatchNormalization]:
    """Every BatchNorm of the network."""
    return [x for x in model._flatten_layers() if isinstance(x, BatchNormalization)]


def part_of(name: str) -> str:
    """The part of `PARTS` that an AutoML variable name belongs to; "other" for a foreign name."""
    for part, prefixes in _PREFIXES.items():
        if name.startswith(prefixes):
            return part
    return "other"
