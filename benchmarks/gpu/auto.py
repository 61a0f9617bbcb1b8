"""`--train_batch_size=auto`: the batch doubles, with real steps, until allocation fails."""

import time

from benchmarks.gpu.device_limit import limit_step
from benchmarks.gpu.settings import Rows, Said, Settings, Turn
from benchmarks.gpu.step_program import MAX_INSTANCES


def rows(settings: Settings, turn: Turn) -> Rows:
    """One row."""
    from efficientdet.training.engine import LARGEST_BATCH, TrainingEngine

    config = settings.config()
    engine = TrainingEngine(config)
    turn()
    limit_step(engine, settings.limit_gb, beyond=2 * settings.batch_sizes[0])
    start = time.perf_counter()
    fits = engine.largest_batch(
        *config.image_hw, MAX_INSTANCES, multiple_of=settings.batch_sizes[0]
    )
    what = f"{settings.what} in {settings.limit_gb:g} GB"
    figures = {"images that fit": str(fits), "s in all": time.perf_counter() - start}
    # Where the largest batch that is tried fits, nothing failed.
    is_met = 2 * fits <= LARGEST_BATCH
    yield Said(what, figures, "" if is_met else "no batch failed: the limit is too high for it")
