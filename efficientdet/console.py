"""Where commands print: one console, and plain lines on it."""

from collections.abc import Callable

from rich.console import Console


def printer(console: Console) -> Callable[[str], None]:
    """A function that prints one line as it is: no wrapping, no markup, no colours."""
    return lambda line: console.print(line, soft_wrap=True, markup=False, highlight=False)
