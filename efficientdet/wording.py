"""How numbers and lists are said in a line of text."""

from collections.abc import Sequence

NBSP = "\N{NO-BREAK SPACE}"  # a figure stays with what it counts
_LISTED = 8


def counted(number: int, noun: str) -> str:
    """`1 image`, `1,500 images`, `2 classes`."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{ending}"


def duration(seconds: float) -> str:
    """`8 s`, `12 min`, `3 h 20 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def listed(parts: Sequence[str]) -> str:
    """`Car, Van and Tram`; of more than eight the first seven, and how many more."""
    parts = list(parts)
    if len(parts) > _LISTED:
        parts[_LISTED - 1 :] = [f"{len(parts) - _LISTED + 1} more"]
    return " and ".join(part for part in (", ".join(parts[:-1]), *parts[-1:]) if part)
