"""Ctrl-C while a command still imports, which takes seconds: one line and exit code 130.

From `runner.run` on nothing comes here; the runner ends the command itself.
"""

import signal
import sys
from types import TracebackType


def _hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not _is_interrupt(error):
        _previous(kind, error, trace)
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one at once
    print("interrupted", file=sys.stderr)
    sys.exit(130)


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether it is one, or made of one: a C++ module that is stopped fails to import."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


_previous, sys.excepthook = sys.excepthook, _hook
