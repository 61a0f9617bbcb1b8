"""In which number format a run computes."""

from collections.abc import Callable

from efficientdet import backend
from efficientdet.config import Config


def compute_policy(config: Config) -> str:
    """Keras' dtype policy of a run: mixed precision only where a GPU gains from it.

    bfloat16 where the device has it: with the exponent of float32 it needs no loss scaling.
    """
    if not config.mixed_precision or not backend.has_gpu():
        return "float32"
    return "mixed_bfloat16" if backend.has_bfloat16() else "mixed_float16"


def explain_precision(config: Config, say: Callable[[str], None]) -> None:
    """Says when mixed precision was asked for where there is no GPU."""
    if config.mixed_precision and not backend.has_gpu():
        say("mixed_precision=True: no GPU here, computing in float32")
