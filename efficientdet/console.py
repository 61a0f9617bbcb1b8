"""The terminal: one console, so that no line, table or progress bar tears another."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from efficientdet.wording import wrapped

console = Console()


class ConsoleHandler(logging.Handler):
    """Prints each record as it is: not coloured, no markup; on a terminal broken between words."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints `line_of` the record."""
        text = line_of(record)
        if console.is_terminal:
            text = wrapped(text, console.width)
        console.print(text, soft_wrap=True, markup=False, highlight=False)


def line_of(record: logging.LogRecord) -> str:
    """`warning: ...`, or the bare text of what is no warning."""
    prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
    return prefix + record.getMessage()


def log_to_console() -> None:
    """Sends what the project logs to the console, from `info` on."""
    logger = logging.getLogger("efficientdet")
    logger.setLevel(logging.INFO)
    logger.handlers = [ConsoleHandler()]
    logger.propagate = False


@contextmanager
def without_native_stderr(*others: int) -> Iterator[None]:
    """Inside it, what C++ writes to stderr goes nowhere: libraries that chat and have no switch.

    Args:
        others: streams of which the same is true; 1 is stdout.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    kept = {stream: os.dup(stream) for stream in (2, *others)}
    try:
        with Path(os.devnull).open("wb") as nowhere:
            for stream in kept:
                os.dup2(nowhere.fileno(), stream)
        yield
    finally:
        for stream, copy in kept.items():
            os.dup2(copy, stream)
            os.close(copy)
