"""Most memory of a training step: measured, by XLA's own analysis, and as docs/memory.md has it.

Each row is a process of its own, as the allocator's peak never falls. On a CPU the measured figure
is that of the whole process.
"""

from benchmarks.gpu.settings import Rows, Said, Settings, Turn
from benchmarks.gpu.step_program import lower, made_up_batch, program_bytes, seconds_a_step


def rows(settings: Settings, turn: Turn) -> Rows:
    """One row, of the one batch size."""
    import keras

    from benchmarks.gpu.frames import estimate_of
    from efficientdet import backend
    from efficientdet.training.engine import TrainingEngine

    config, (size,) = settings.config(), settings.batch_sizes
    engine = TrainingEngine(config)
    batch = made_up_batch(config, size, keras.config.dtype_policy().compute_dtype)
    lowered, inputs = lower(engine, batch)
    turn()
    compiled = lowered.compile()
    seconds_a_step(compiled, engine, inputs, 0.0)
    measured, by_xla = backend.peak_memory() / 1e9, program_bytes(compiled) / 1e9
    figures: dict[str, float | str] = {"GB measured": measured, "GB by XLA": by_xla}
    if estimated := estimate_of(settings.frames, config, size):
        figures |= {"GB estimated": estimated / 1e9, "estimated / XLA": estimated / 1e9 / by_xla}
    yield Said(f"{settings.what}, batch {size}", figures)
