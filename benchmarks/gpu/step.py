"""Images a second of the whole training step, beside what the card could do at most.

The step's roofline: its FLOPs, as XLA counts them in the lowered program, at the rate of a large
matrix product in the same number format, or the bytes that the compiled program moves at the rate
of a copy, whichever takes longer. Both rates are measured in the same process.
"""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from benchmarks.gpu.settings import Rows, Said, Settings, Turn
from benchmarks.gpu.step_program import (
    device_rates,
    lower,
    made_up_batch,
    program_bytes,
    seconds_a_step,
)

COMPILERS = 4  # threads; XLA itself lets one of them at a time try kernels on the card


def rows(settings: Settings, turn: Turn) -> Rows:
    """A row for each batch size, the smallest first."""
    import keras

    from efficientdet.errors import one_line
    from efficientdet.training.engine import TrainingEngine

    config = settings.config()
    engine = TrainingEngine(config)
    dtype = keras.config.dtype_policy().compute_dtype
    programs = {
        size: lower(engine, made_up_batch(config, size, dtype)) for size in settings.batch_sizes
    }
    turn()
    rates = device_rates(dtype)
    figures = {"TFLOP/s": rates[0] / 1e12, "GB/s": rates[1] / 1e9}
    yield Said(f"{settings.what}: a matrix product; a copy", figures)
    with ThreadPoolExecutor(COMPILERS) as pool:
        compiling = {size: pool.submit(low.compile) for size, (low, _) in programs.items()}
        for size, (lowered, inputs) in programs.items():
            what = f"{settings.what}, batch {size}"
            try:
                yield Said(
                    what, _figures(compiling[size], lowered, inputs, engine, settings, rates)
                )
            except Exception as error:  # the other sizes go on
                yield Said(what, {}, one_line(error))


def _figures(
    compiling: Future, lowered: Any, inputs: Mapping[str, Any], engine: Any,
    settings: Settings, rates: tuple[float, float],
) -> dict[str, float | str]:  # fmt: skip
    import jax

    compiled, size = compiling.result(), len(inputs["images"])
    uploaded = seconds_a_step(compiled, engine, inputs, settings.seconds)
    there = seconds_a_step(compiled, engine, jax.device_put(inputs), settings.seconds)
    flops = lowered.cost_analysis()["flops"]
    moved = (compiled.cost_analysis() or {}).get("bytes accessed", 0.0)
    least = flops / rates[0], moved / rates[1]
    return {
        "img/s": size / uploaded,
        "img/s, batch on the device": size / there,
        "ms a step": 1000 * there,
        "TFLOP a step": flops / 1e12,
        "GB moved": moved / 1e9,
        "share of matmul rate": least[0] / there,
        "share of roofline": max(least) / there,
        "GB by XLA": program_bytes(compiled) / 1e9,
    }
