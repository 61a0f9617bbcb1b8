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
def without_native_stderr() -> Iterator[None]:
    """Inside it, what C++ writes to stderr goes nowhere: libraries that chat and have no switch."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
