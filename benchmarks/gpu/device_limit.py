"""A limit within which a device's allocations fail for real, so that no card need be filled."""

import resource
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from efficientdet.training.engine import TrainingEngine

DATA = 5  # its place in /proc/self/statm


def limit_environment(gigabytes: float, card_gb: float | None) -> dict[str, str]:
    """What a process must start with, for JAX to take so much of a card and no more."""
    if not card_gb:
        return {}
    share = min(1.0, gigabytes / card_gb)
    return {
        "XLA_PYTHON_CLIENT_PREALLOCATE": "true",
        "XLA_CLIENT_MEM_FRACTION": f"{share:.4f}",
    }


def limit_step(engine: "TrainingEngine", gigabytes: float, beyond: int = 0) -> None:
    """Without a GPU: from now on a step finds so much more memory than is in use, no more.

    What XLA allocates for a program fails with an error, but its kernels' scratch ends the process:
    so the limit is there for one that cannot fit, and the step of the next fallback has none.

    Args:
        beyond: steps of so many images or fewer are not limited either.
    """
    from efficientdet import backend

    if backend.has_gpu():
        return
    step = engine.step
    now = int(Path("/proc/self/statm").read_text().split()[DATA]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]

    def limited(batch: dict[str, Any], **named: Any) -> Any:
        if len(batch["images"]) <= beyond:
            return step(batch, **named)
        resource.setrlimit(resource.RLIMIT_DATA, (now + int(gigabytes * 1e9), hard))
        try:
            logs = step(batch, **named)
            backend.fetch([logs])  # a buffer may be made after the call has returned
            return logs
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))

    limited.log_names = step.log_names
    engine.step = limited
