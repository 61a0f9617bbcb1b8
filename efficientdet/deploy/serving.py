"""The graph that is exported: image in, detections out, as pure TensorFlow functions.

A SavedModel and an ONNX file take images of any size, and give boxes in their pixels. A TFLite file
takes an image of the network's size: LiteRT's delegates and task tools want one.
"""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

from efficientdet.config import Config
from efficientdet.deploy.folding import fold
from efficientdet.inference.detector import with_evaluation_nms
from efficientdet.input import geometry
from efficientdet.model.anchors import Anchors, decode
from efficientdet.model.postprocess import flat_outputs, postprocess, to_original
from efficientdet.tensorflow_device import tf

Outputs = dict[str, tf.Tensor]


class Serving:
    """A trained network as functions to export.

    Args:
        model: from `build_detector`, with its weights; its BatchNorms are folded, in place.
        config: as it was built with.
        nms: False: leave NMS to whoever runs the file.
    """

    def __init__(self, model: keras.Model, config: Config, nms: bool = True):
        fold(model)
        self._model, self.config, self._nms = model, with_evaluation_nms(config), nms
        self.anchors = Anchors(config).boxes

    def detect(self, images: tf.Tensor) -> Outputs:
        """Detections in images of one size.

        Args:
            images: uint8 [N, h, w, 3], RGB.

        Returns:
            With NMS, D = `nms_configs.max_output_size`: `boxes` float32 [N, D, 4], ymin, xmin,
            ymax, xmax in pixels of `images`, `scores` float32 [N, D], best first, `classes` int32
            [N, D], 1..K, `count` int32 [N]; rows from there on are 0. Without NMS, of all A
            anchors: `boxes` float32 [N, A, 4] and `scores` float32 [N, A, K].
        """
        inputs, scale = letterbox(images, self.config)
        return self.outputs(*self._model(inputs, training=False), scale)

    def network(self, pixels: tf.Tensor) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
        """Logits and box codes of each level, of float32 [N, H, W, 3] RGB in 0..255."""
        return self._model(normalised(pixels, self.config), training=False)

    def outputs(
        self, classes: list[tf.Tensor], boxes: list[tf.Tensor], scale: tf.Tensor
    ) -> Outputs:
        """What `detect` returns, from what `network` does; `scale` [N, 2] as `image_scale`."""
        if self._nms:
            found = postprocess(classes, boxes, self.anchors, scale, config=self.config)
            names = ("boxes", "scores", "classes", "count")
            return dict(zip(names, found, strict=True))
        logits, codes = flat_outputs(classes, boxes, self.config)
        decoded = decode(codes, tf.constant(self.anchors))
        return {"boxes": to_original(decoded, scale), "scores": tf.sigmoid(logits)}


def letterbox(images: tf.Tensor, config: Config) -> tuple[tf.Tensor, tf.Tensor]:
    """What `input.pipeline.preprocess` makes of one image, of uint8 [N, h, w, 3].

    Returns:
        float32 [N, H, W, 3], normalised, 0 below and to the right; float32 [N, 2], `image_scale`.
    """
    size = tf.shape(images)[1:3]
    new = geometry.scaled_size(size, geometry.fit_scale(size, config.image_hw))
    pixels = tf.image.resize(tf.cast(images, tf.float32), new)
    missing = tf.constant(config.image_hw) - new
    inputs = tf.pad(normalised(pixels, config), [[0, 0], [0, missing[0]], [0, missing[1]], [0, 0]])
    scale = tf.cast(size, tf.float32) / tf.cast(new, tf.float32)
    inputs = tf.ensure_shape(inputs, (None, *config.image_hw, 3))
    return inputs, tf.tile(scale[None], [tf.shape(images)[0], 1])


def normalised(pixels: tf.Tensor, config: Config) -> tf.Tensor:
    """(rgb - mean) / std of float32 [..., 3], in the order in which the input pipeline computes."""
    mean, std = np.float32(config.mean_rgb), np.float32(config.stddev_rgb)
    return pixels * (1.0 / std) - mean / std


@dataclass(frozen=True)
class Traced:
    """A function with its signature, and what keeps its variables alive."""

    function: tf.types.experimental.ConcreteFunction
    module: tf.Module


def trace(function: Callable[..., Outputs], *signature: tf.TensorSpec) -> Traced:
    """`function` as one graph; `module` holds the variables that it reads, and no others."""
    concrete = tf.function(function, autograph=False).get_concrete_function(*signature)
    module = tf.Module()
    module.weights = list(concrete.graph.variables)
    return Traced(concrete, module)
