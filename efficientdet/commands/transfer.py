"""How far bytes have come: a bar on a terminal, a line now and then in a file."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_LINES_FROM = 500_000_000  # bytes; what is smaller is soon done
_SHARE = 10  # percent between two lines


@contextmanager
def transfer(what: str, total: int, start: int = 0) -> Iterator[Callable[[int], None]]:
    """Yields what is to be called with the number of bytes so far; shows it on stderr.

    Args:
        what: the participle and the file: `fetching data_object_image_2.zip`.
        total: bytes.
        start: so many have come before, which says nothing of the speed.
    """
    if sys.stderr.isatty():
        try:
            from efficientdet.progress import byte_bar
        except ImportError:  # before the installation
            pass
        else:
            with byte_bar(what, total, start) as show:
                yield show
            return
    yield _Lines(what, total)


class _Lines:
    def __init__(self, what: str, total: int):
        self._what, self._total, self._next = what, total, _SHARE

    def __call__(self, done: int) -> None:
        share = 100 * done // max(self._total, 1)
        if self._total >= _LINES_FROM and share >= self._next:
            self._next = share - share % _SHARE + _SHARE
            line = f"{self._what}: {share} % of {in_gigabytes(self._total)}"
            print(line, file=sys.stderr, flush=True)


def in_gigabytes(size: int) -> str:
    """`12.6 GB`, or `5.6 MB`."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
