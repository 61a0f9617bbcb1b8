"""Numbers and lists as they stand in a sentence."""

from collections.abc import Sequence

NBSP = "\N{NO-BREAK SPACE}"  # a figure stays with what it counts
_LISTED = 8


def counted(number: int, noun: str) -> str:
    """`1 image`, `1,500 images`; the noun has an s for its plural."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def listed(parts: Sequence[str]) -> str:
    """`Car, Van and Tram`; of more than eight the first seven, and how many more."""
    parts = list(parts)
    if len(parts) > _LISTED:
        parts[_LISTED - 1 :] = [f"{len(parts) - _LISTED + 1} more"]
    return " and ".join(part for part in (", ".join(parts[:-1]), *parts[-1:]) if part)
