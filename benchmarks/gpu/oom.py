"""A step that cannot fit: what the run gives up until it does. Here allocation really fails."""

import math
import time

import numpy as np

from benchmarks.gpu.device_limit import limit_step
from benchmarks.gpu.settings import Rows, Said, Settings, Turn
from benchmarks.gpu.step_program import made_up_batch
from efficientdet.config import Config

TRIES = 20


def rows(settings: Settings, turn: Turn) -> Rows:
    """One row: the first configuration that fits, and the loss of the step in it."""
    from efficientdet.training.engine import StateLost, TrainingEngine

    config, (size,), taken = settings.config(), settings.batch_sizes, []
    engine = TrainingEngine(config, changed=taken.append)
    arrays, batch = engine.state.arrays(), made_up_batch(config, size)
    turn()
    limit_step(engine, settings.limit_gb)
    start, logs = time.perf_counter(), {}
    for _ in range(TRIES):  # the trainer would load the newest checkpoint, and go on
        try:
            logs = engine.update(batch, step=0, learning_rate=1e-4)
            break
        except StateLost:
            engine.state.load(arrays)
    if not taken:
        yield Said(_what(settings), {}, f"it fits: {settings.limit_gb} GB are no limit for it")
    elif not math.isfinite(logs.get("loss", np.nan)):
        yield Said(_what(settings), {}, "no step was done with a finite loss")
    else:
        yield Said(
            _what(settings),
            {
                "ends with": given_up(config, taken[-1]),
                "times out of memory": str(len(taken)),
                "loss": logs["loss"],
                "s in all": time.perf_counter() - start,
            },
        )


def _what(settings: Settings) -> str:
    (size,) = settings.batch_sizes
    return f"{settings.what}, batch {size} in {settings.limit_gb:g} GB"


def given_up(before: Config, after: Config) -> str:
    """The hyper-parameters that changed, as `--hparams` takes them."""
    names = ("mixed_precision", "grad_checkpoint", "grad_accum_steps")
    changes = [name for name in names if getattr(before, name) != getattr(after, name)]
    return " ".join(f"{name}={getattr(after, name)}" for name in changes)
