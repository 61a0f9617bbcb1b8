"""One file for each part of `python -m benchmarks`."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

PARTS = (
    "converter", "input_pipeline", "train_step", "evaluation", "metric", "start_up", "main",
    "memory", "scaling",
)  # fmt: skip


def parts(against: Path | None) -> dict[str, Callable[..., Iterator]]:
    """Part -> what makes its rows; imported late, as they need TensorFlow."""
    from benchmarks.parts import (
        converter,
        evaluation,
        input_pipeline,
        main_py,
        memory,
        metric,
        scaling,
        start_up,
        train_step,
    )

    return {
        "converter": converter.rows,
        "input_pipeline": input_pipeline.rows,
        "train_step": train_step.rows,
        "evaluation": evaluation.rows,
        "metric": metric.rows,
        "start_up": start_up.rows,
        "main": partial(main_py.rows, against=against),
        "memory": memory.rows,
        "scaling": scaling.rows,
    }
