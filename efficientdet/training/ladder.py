"""What fits on the device: the ladder that is taken when a step runs out of memory."""

from typing import Any

from efficientdet import backend
from efficientdet.config import Config


def next_rung(config: Config, batch_size: int) -> tuple[dict[str, Any], str] | None:
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
    micro = batch_size // config.grad_accum_steps
    if micro == 1:
        return None
    # The next larger divisor of the batch: every micro-batch has the same size.
    steps = next(
        k for k in range(config.grad_accum_steps + 1, batch_size + 1) if not batch_size % k
    )
    return {"grad_accum_steps": steps}, (
        f"grad_accum_steps={steps}: micro-batches of {batch_size // steps}, "
        f"still {batch_size} images an update"
    )
