"""How numbers and lists are said in a line of text."""

import difflib
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence

NBSP = "\N{NO-BREAK SPACE}"  # a figure stays with what it counts
_LISTED = 8
_NEAR = 0.7  # of difflib: `Pedestrain` for Pedestrian, not `Van` for Car


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


def wrapped(text: str, width: int) -> str:
    """The lines of `text` in at most `width` characters; a longer word, a path say, stays whole."""
    how = {"break_long_words": False, "break_on_hyphens": False, "replace_whitespace": False}
    return "\n".join(textwrap.fill(line, width, **how) for line in text.split("\n"))


def refilled(text: str, width: int) -> str:
    """`text` with the lines of each paragraph joined and broken anew, at `width`.

    A paragraph with an indented line, as commands are, keeps its lines.
    """
    paragraphs = text.split("\n\n")
    for place, paragraph in enumerate(paragraphs):
        lines = paragraph.strip("\n").split("\n")
        if not any(line.startswith(" ") for line in lines):
            joined = wrapped(" ".join(lines), width)
            paragraphs[place] = paragraph.replace(paragraph.strip("\n"), joined)
    return "\n\n".join(paragraphs)


def meant(name: str, choices: Iterable[str]) -> str:
    """`; is Pedestrian meant?`, or nothing where no choice is near."""
    choice = nearest(name, choices)
    return f"; is {choice} meant?" if choice else ""


def nearest(name: str, choices: Iterable[str]) -> str:
    """The choice that `name` may be misspelt for; empty where none is near."""
    folded = {_letters(choice): choice for choice in choices}
    near = difflib.get_close_matches(_letters(name), folded, n=1, cutoff=_NEAR)
    return folded[near[0]] if near else ""


def _letters(name: str) -> str:
    """A syllable of Hangul as its letters: of three syllables, one wrong letter is not a third."""
    return unicodedata.normalize("NFD", name.lower()[:100])
