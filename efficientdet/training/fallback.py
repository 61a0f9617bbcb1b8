"""What fits on the device: what is given up, one by one, when a step runs out of memory."""

import dataclasses
import logging
from typing import Any

from efficientdet import backend
from efficientdet.config import Config

logger = logging.getLogger(__name__)

FROZEN_BN_BELOW = 8  # images in a micro-batch


def decide_batch_norm(config: Config, batch_size: int, *, loaded: bool) -> Config:
    """Freezes BatchNorm statistics where nobody said what to do; at the start, at every fallback.

    Statistics of a few images are noise. Those of a loaded checkpoint are better as long as the
    micro-batch is small; a random network has none worth keeping. (None stays None otherwise: then
    the parts that are frozen as a whole keep theirs.)

    Args:
        batch_size: effective batch, images an update.
        loaded: the run started from a checkpoint's weights.
    """
    micro = max(1, batch_size // config.grad_accum_steps)
    if config.is_training_bn is not None or not loaded or micro >= FROZEN_BN_BELOW:
        return config
    logger.info(f"BatchNorm statistics are frozen: {micro} images in a micro-batch are too few")
    return dataclasses.replace(config, is_training_bn=False)


def next_fallback(config: Config, batch_size: int) -> tuple[dict[str, Any], str] | None:
    """The next way to need less memory at the same effective batch.

    Args:
        config: of the step that did not fit.
        batch_size: effective batch, images an update.

    Returns:
        (changes to the config, what they are in words), or None: nothing is left to try.
    """
    if not config.mixed_precision and backend.has_gpu():
        return {"mixed_precision": True}, "mixed_precision=True"
    if not config.grad_checkpoint:
        return {"grad_checkpoint": True}, "grad_checkpoint=True (activations are computed twice)"
    devices = backend.num_devices()
    micro = batch_size // config.grad_accum_steps
    if micro <= devices:
        return None
    # The next larger divisor of the batch: every micro-batch has the same size, on every device.
    steps = next(
        k
        for k in range(config.grad_accum_steps + 1, batch_size + 1)
        if not batch_size % (k * devices)
    )
    return {"grad_accum_steps": steps}, (
        f"grad_accum_steps={steps}: micro-batches of {batch_size // steps}, "
        f"still {batch_size} images an update"
    )
