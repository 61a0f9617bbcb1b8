"""The terminal: one console, so that no line, table or progress bar tears another."""

import logging

from rich.console import Console

console = Console()


class ConsoleHandler(logging.Handler):
    """Prints each record as one line as it is: not wrapped, not coloured, no markup."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints `warning: ...` or the bare text."""
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        line = prefix + record.getMessage()
        console.print(line, soft_wrap=True, markup=False, highlight=False)


def log_to_console() -> None:
    """Sends what the project logs to the console, from `info` on."""
    logger = logging.getLogger("efficientdet")
    logger.setLevel(logging.INFO)
    logger.handlers = [ConsoleHandler()]
    logger.propagate = False
