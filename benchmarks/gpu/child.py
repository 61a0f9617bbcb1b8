"""One job, in a process of its own: `python -m benchmarks.gpu.child SETTINGS`.

It does what needs no card to itself, says so, waits for a line on stdin, and tells its rows: JSON,
a line each, on what was stdout. Whatever libraries print goes to stderr.
"""

import importlib
import json
import os
import sys
from typing import Any

os.environ["KERAS_BACKEND"] = "jax"

from benchmarks.gpu.results import Found  # noqa: E402
from benchmarks.gpu.settings import Said, Settings  # noqa: E402
from efficientdet.console import log_to_console  # noqa: E402


def main() -> None:
    """Runs the part that the settings name."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(message: dict[str, Any]) -> None:
        print(json.dumps(message), file=out, flush=True)

    def turn() -> None:
        say({"ready": True})
        if not sys.stdin.readline():
            sys.exit("the process that started this one is gone")

    settings = Settings(**json.loads(sys.argv[1]))
    log_to_console()  # which is stderr by now
    if settings.tiny:
        _shrink()
    part = importlib.import_module(f"benchmarks.gpu.{settings.part}")
    try:
        for row in part.rows(settings, turn):
            say({"row": vars(_found(settings.part, row))})
    except Exception as error:
        import traceback

        from efficientdet.errors import one_line

        traceback.print_exc()
        say({"row": vars(_found(settings.part, Said(settings.what, {}, _named(error, one_line))))})
    say({"done": True})
    os._exit(0)  # libraries need seconds to take themselves apart, and the card is waited for


def _named(error: Exception, one_line: Any) -> str:
    text = one_line(error)
    return f"{type(error).__name__}: {text[:200]}"


def _found(part: str, said: Said) -> Found:
    import jax
    import keras

    from efficientdet import backend

    return Found(
        part,
        said.what,
        backend.device(),
        said.backend or f"JAX {jax.__version__}",
        said.dtype or keras.config.dtype_policy().compute_dtype,
        said.figures,
        said.error,
    )


def _shrink() -> None:
    """Three stages of one block each: compiled in seconds on a CPU."""
    from efficientdet.model import efficientnet

    stages = ((3, 1, 1, 1, 4), (3, 1, 2, 1, 4), (3, 1, 2, 2, 8))
    efficientnet.STAGES = tuple(efficientnet.Stage(*stage) for stage in stages)
    efficientnet.STEM_FILTERS = 8


if __name__ == "__main__":
    main()
