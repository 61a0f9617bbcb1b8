"""Images a second of post-processing: alone on the device, and of detection from host to host."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.gpu.settings import Rows, Said, Settings, Turn
from benchmarks.gpu.step_program import made_up_batch, mean_seconds


def rows(settings: Settings, turn: Turn) -> Rows:
    """Two rows for each batch size."""
    import keras

    from efficientdet.inference.detector import Detector, with_evaluation_nms
    from efficientdet.inference.precision import compute_policy
    from efficientdet.model.detector import build_detector

    config = settings.config()
    keras.config.set_dtype_policy(compute_policy(config))
    model = build_detector(config)
    detector = Detector(model, config)
    turn()
    for size in settings.batch_sizes:
        alone = mean_seconds(_alone(model, with_evaluation_nms(config), size), settings.seconds)
        what = f"{settings.what}, batch {size}"
        yield Said(f"{what}: alone", {"img/s": size / alone, "ms a batch": 1000 * alone})
        batch = made_up_batch(config, size, keras.config.dtype_policy().compute_dtype) | {
            "image_scale": np.ones((size, 2), np.float32),
            "original_hw": np.tile(config.image_hw, (size, 1)),
            "source_id": np.array([b"a"] * size),
        }
        whole = mean_seconds(_whole(detector, batch), settings.seconds)
        figures = {"img/s": size / whole, "ms a batch": 1000 * whole}
        yield Said(f"{what}: network and post-processing, fetched", figures)


def _alone(model: Any, config: Any, size: int) -> Callable[[int], float]:
    """Of random outputs: logits as of a trained network, few of them above 0."""
    import jax

    from efficientdet import backend
    from efficientdet.model.anchors import Anchors
    from efficientdet.model.postprocess import postprocess

    random, anchors = np.random.default_rng(0), Anchors(config).boxes
    shapes, levels = [(size, *each.shape[1:]) for each in model.outputs], len(model.outputs) // 2
    classes = [random.normal(-5, 2, shape).astype(np.float32) for shape in shapes[:levels]]
    boxes = [random.normal(0, 0.3, shape).astype(np.float32) for shape in shapes[levels:]]
    scale = np.ones((size, 2), np.float32)
    compiled = backend.compile_pure(
        lambda *values: postprocess(*values, anchors, scale, config=config)
    )
    values = jax.device_put((classes, boxes))

    def run(times: int) -> float:
        start = time.perf_counter()
        for _ in range(times):
            found = compiled(*values)
        jax.block_until_ready(found)
        return time.perf_counter() - start

    return run


def _whole(detector: Any, batch: dict) -> Callable[[int], float]:
    def run(times: int) -> float:
        start = time.perf_counter()
        for _ in detector.detect_each([batch] * times):
            pass
        return time.perf_counter() - start

    return run
