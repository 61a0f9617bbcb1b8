"""One training step of a small D0 on whatever device there is.

    python -m efficientdet.commands.gpu_check

Says on which device it ran. Exit code 1, with the library's own error, if it cannot run there.
"""

import time

from efficientdet.commands import runner
from efficientdet.config import Config
from efficientdet.errors import UserError


def main() -> None:
    """Does two steps, so that the second one's time is without the compilation."""
    from efficientdet.commands import quiet_tensorflow  # isort: skip  # noqa: F401
    import numpy as np

    from efficientdet import backend
    from efficientdet.training.engine import TrainingEngine

    overrides = {"image_size": "256x128", "num_classes": 3, "is_training_bn": True}
    engine = TrainingEngine(Config.for_model("efficientdet-d0").override(overrides))
    batch = {
        "images": np.random.default_rng(0).normal(size=(2, 128, 256, 3)).astype(np.float32),
        "boxes": np.tile(np.float32([[20, 30, 90, 160]]), (2, 1, 1)),
        "classes": np.ones((2, 1), np.int32),
    }
    for step in range(2):
        start = time.monotonic()
        logs = engine.update(batch, step=step, learning_rate=0.001)
    if not logs["finite"]:
        raise UserError(f"one training step on {backend.device()} gave loss {logs['loss']}")
    print(f"one training step on {backend.device()}: {time.monotonic() - start:.2f} s, loss finite")


if __name__ == "__main__":
    runner.run(main)
