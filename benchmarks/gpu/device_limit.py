"""A limit within which a device's allocations fail for real, so that no card need be filled."""

import resource
from pathlib import Path

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


def limit_host(gigabytes: float | None) -> None:
    """Without a GPU: this process gets so much more memory than it has, and no more."""
    from efficientdet import backend

    if gigabytes is None or backend.has_gpu():
        return
    now = int(Path("/proc/self/statm").read_text().split()[DATA]) * resource.getpagesize()
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (now + int(gigabytes * 1e9), hard))


def lift_host_limit() -> None:
    """Gives it all there is again.

    What XLA allocates itself fails with an error, but its kernels' scratch ends the process: on a
    CPU a limit may only hold until something has failed.
    """
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
