"""Ends the process when a command has ended.

Else Python takes apart what TensorFlow and the networks were made of, object by object, before it
goes: seconds in which nothing happens any more. All that must happen at an exit does: threads are
waited for, functions of `atexit` are called, streams are flushed.
"""

import atexit
import os
import sys

_exit_code: int | None = None


def after(ending: BaseException | None) -> None:
    """Notes how the command ended; what is no ordinary end is left to Python."""
    global _exit_code
    if isinstance(ending, SystemExit):
        code = ending.code or 0
        _exit_code = code if isinstance(code, int) else None


@atexit.register  # the first to register is the last to be called: commands import this first
def _end() -> None:
    if _exit_code is None:
        return
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):  # Python knows how to tell that
        return
    os._exit(_exit_code)
