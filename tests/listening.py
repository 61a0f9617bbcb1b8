"""What the project logs, as lines."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from efficientdet.console import line_of


@contextmanager
def listening(lines: list[str]) -> Iterator[None]:
    """Inside it, `lines` receives what the project logs, as the terminal shows it."""
    logger, handler = logging.getLogger("efficientdet"), logging.Handler()
    handler.emit = lambda record: lines.append(line_of(record))
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
