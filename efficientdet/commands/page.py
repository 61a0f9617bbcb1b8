"""A page that a command makes: printed, or written where the user wants it."""

import sys

from efficientdet.atomic import atomic_open


def deliver(text: str, output: str | None) -> None:
    """Prints `text`, or writes it to the file `output`."""
    if not output:
        sys.stdout.write(text)
        return
    with atomic_open(output) as file:
        file.write(text)
