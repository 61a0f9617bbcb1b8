"""The signals that end a command from outside."""

import os
import signal
import stat
from pathlib import Path

# Windows has no SIGHUP.
ENDING = tuple(
    number for number in signal.Signals if number.name in ("SIGINT", "SIGTERM", "SIGHUP")
)


def drop_lost_terminal() -> None:
    """After SIGHUP: what goes to a terminal that is gone goes nowhere, instead of failing."""
    for stream in (1, 2):
        if stat.S_ISCHR(os.fstat(stream).st_mode) and not os.isatty(stream):
            with Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), stream)
