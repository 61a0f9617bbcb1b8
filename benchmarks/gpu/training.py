"""A short training from cached frames: does it learn on the device, and how fast is the loop?"""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.gpu.settings import Rows, Said, Settings, Turn

HELD_OUT = 0.2  # share of the frames, the last of them
WARM_UP = 20  # steps in which the learning rate rises
FEW = 10  # steps at either end whose losses are averaged


def rows(settings: Settings, turn: Turn) -> Rows:
    """One row: losses at both ends, of frames trained on and of frames that were not."""
    from benchmarks.gpu.frames import load
    from efficientdet.training.engine import TrainingEngine

    if settings.frames is None:
        yield Said(settings.what, {}, "left out: no --frames; --prepare makes them, see --help")
        return
    frames, (size,) = load(settings.frames), settings.batch_sizes
    count = len(frames["images"])
    kept = count - max(1, int(HELD_OUT * count))
    config = settings.config(num_classes=int(frames["num_classes"]))
    engine = TrainingEngine(config)
    turn()
    held_out = _rows(frames, np.arange(kept, count))
    before = _loss(engine, held_out, config)
    logs, seconds = _train(engine, frames, kept, size, settings.seconds)
    figures = {
        "frames": str(kept),
        "steps": str(len(logs)),
        "img/s": size * (len(logs) - 1) / seconds,
        "det_loss, first steps": _mean(logs[:FEW]),
        "last steps": _mean(logs[-FEW:]),
        "held out, before": before,
        "after": _loss(engine, held_out, config),
        "steps not finite": str(sum(not log["finite"] for log in logs)),
    }
    yield Said(f"{settings.what}, batch {size}, random weights", figures)


def _train(
    engine: Any, frames: Mapping[str, np.ndarray], kept: int, size: int, seconds: float
) -> tuple[list[dict[str, float]], float]:
    """(logs of the steps of about so many seconds, seconds of all but the first)."""
    random, rate = np.random.default_rng(0), engine.config.learning_rate * size / 64
    logs, flying, start = [], [], time.perf_counter()
    for step in range(100_000):
        chosen = random.choice(kept, size, replace=size > kept)
        now = rate * min(1.0, (step + 1) / WARM_UP)
        flying.append(engine.dispatch(_rows(frames, chosen), step=step, learning_rate=now))
        if step == 0 or len(flying) > 1:
            logs += engine.fetch([flying.pop(0)])
        if step == 0:
            start = time.perf_counter()  # that one compiled
        if time.perf_counter() - start > seconds and step >= 2:
            break
    logs += engine.fetch(flying)
    return logs, time.perf_counter() - start


def _loss(engine: Any, batch: dict[str, np.ndarray], config: Any) -> float:
    """det_loss of the frames by the averages, over the number of positives."""
    from keras import ops

    from efficientdet.model import pixels

    count = len(batch["images"])
    images = pixels.normalise(batch["images"], batch["shown"], config)
    _, sums = engine.detector().evaluate(
        {
            **batch,
            "images": ops.convert_to_numpy(images),
            "image_scale": np.ones((count, 2), np.float32),
            "original_hw": np.tile(config.image_hw, (count, 1)),
            "source_id": np.array([b"a"] * count),
            "valid": np.ones(count, bool),
        }
    )
    return sums["det_loss"] / max(1.0, sums["num_positives"])


def _rows(frames: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    return {key: frames[key][rows] for key in ("images", "shown", "boxes", "classes")}


def _mean(logs: list[dict[str, float]]) -> float:
    return float(np.mean([log["det_loss"] for log in logs]))
