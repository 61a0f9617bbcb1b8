"""In which number format a run computes."""

import logging

from efficientdet import backend
from efficientdet.config import Config

logger = logging.getLogger(__name__)


def compute_policy(config: Config) -> str:
    """Keras' dtype policy of a run: mixed precision only where a GPU gains from it.

    bfloat16 where the device has it: with the exponent of float32 it needs no loss scaling.
    """
    if not config.mixed_precision or not backend.has_gpu():
        return "float32"
    return "mixed_bfloat16" if backend.has_bfloat16() else "mixed_float16"


def explain_precision(config: Config) -> None:
    """Says when a GPU is not used, and when mixed precision was asked for without one."""
    if backend.misses_a_gpu():
        logger.warning(
            "this machine has an NVIDIA driver, but no GPU is seen and all is computed on "
            "the CPU; bash scripts/gpu_check.sh says why (CUDA_VISIBLE_DEVICES=-1 means the CPU)"
        )
    if config.mixed_precision and not backend.has_gpu():
        logger.info("mixed_precision=True: no GPU here, computing in float32")
