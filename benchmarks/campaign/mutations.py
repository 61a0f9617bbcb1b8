"""Seeded damage: of bytes, of text, of nested values."""

import copy
import json
import os
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

# What stands where a number, a name or a path should.
NASTY = (
    "", "0", "-1", "-0", "1e308", "-1e308", "1e-320", "nan", "NaN", "inf", "-inf", "1_000", "0x10",
    "1.5.2", "+7", "٣", "1e5000", "9" * 25, "7" * 5000, "None", "null", "true", "~", "''", "%s",
    "{}", "[]", "()", "\\", "/", "..", "../x", "a/b", "자동차", "🚗", "\x00", "\x1b[31m", "\u202e",
    "Car", "car", "CAR", "DontCare", "Person_sitting", "x" * 300, "[[/]]", "%(x)s", "1,2", "1:2",
    "2001-01-01", "!!python/object:os.system", "&a [*a]", "- -", "? :", "<<", "=", "#", "\ufeff",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, -5, 1, 2**31, 2**63, -(2**63), 10**30, 0.5, 1e308, float("nan"),
    float("inf"), "", "x", "Car", "..", "\x00", "\ud800", "자동차", "x" * 300, [], {}, [[]], [None],
    {"": 0}, {"a": {"b": []}}, [1, "2", 3.0],
)  # fmt: skip


# What may well stand there: a reader that takes it must have understood it.
HARMLESS = ("0", "1", "2", "3", "0.5", "12.25", "-1", "Car", "Van", "cyclist", "", " ", "\t")


def damage(chance: Random, data: bytes, times: int | None = None) -> bytes:
    """Some bytes flipped, cut out, put in, doubled, or nothing left."""
    for _ in range(times or chance.choice((1, 1, 1, 2, 5))):
        size = len(data)
        place, length = chance.randrange(size + 1), chance.choice((1, 2, 4, 16, 200))
        kind = chance.randrange(9)
        if kind <= 2 and size:
            place = min(place, size - 1)
            flipped = bytes([data[place] ^ (1 << chance.randrange(8))])
            data = data[:place] + flipped + data[place + 1 :]
        elif kind == 3:
            data = data[:place]
        elif kind == 4:
            data = data[:place] + chance.randbytes(length) + data[place:]
        elif kind == 5:
            data = data[:place] + data[place + length :]
        elif kind == 6:
            data = data[:place] + bytes(length) + data[place + length :]
        elif kind == 7:
            data = data[: place + length] + data[place:]
        elif chance.random() < 0.2:
            data = chance.choice((b"", b"\x00", b"\xff\xfe", chance.randbytes(100)))
    return data


def damage_text(chance: Random, text: str, separators: str = " ") -> bytes:
    """A text file with words or lines replaced, lost or doubled, or in another encoding."""
    lines, nasty = text.split("\n"), chance.choice((NASTY, HARMLESS))
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        place = chance.randrange(len(lines))
        words = _split(lines[place], separators)
        word = chance.randrange(len(words))
        kind = chance.randrange(12)
        if kind <= 5:
            words[word] = chance.choice(nasty)
            lines[place] = "".join(words)
        elif kind == 6:
            lines[place] += chance.choice(separators) + chance.choice(nasty)
        elif kind == 7:
            lines[place] = "".join(words[:word] + words[word + 1 :])
        elif kind == 8:
            lines.insert(place, chance.choice(lines))
        elif kind == 9:
            del lines[place]
            lines = lines or [""]
        elif kind == 10:
            lines[place] = lines[place] * chance.choice((2, 50))
        else:
            lines[place] = chance.choice(nasty) + lines[place]
    text = chance.choice(("\n",) * 12 + ("\r\n", "\r", "\n\n", "\x0b", "\u2028")).join(lines)
    encoding = chance.choice(("utf-8",) * 20 + ("utf-8-sig", "utf-16", "utf-32", "latin-1"))
    data = text.encode(encoding, errors="replace")
    return damage(chance, data, 1) if chance.random() < 0.15 else data


def damage_json(chance: Random, value: Any) -> bytes:
    """JSON with values of other types, keys lost or doubled, brackets without end."""
    value = copy.deepcopy(value)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        value = _damage_value(chance, value)
    text = json.dumps(value)
    kind = chance.randrange(25)
    if kind == 0:
        return b"[" * 100_000 + text.encode(errors="replace")
    if kind == 1:
        return text.replace("1", "1" * 5000, 1).encode(errors="replace")
    if kind == 2:
        return (text + text).encode(errors="replace")
    data = text.encode(errors="surrogatepass" if kind < 6 else "replace")
    return damage(chance, data, 1) if kind > 20 else data


def _damage_value(chance: Random, value: Any) -> Any:
    """One change at a random place of a nested value."""
    is_dict = isinstance(value, dict)
    if isinstance(value, dict | list) and value and chance.random() < (0.9 if is_dict else 0.7):
        place = chance.choice(list(value) if is_dict else range(len(value)))
        kind = chance.randrange(12 if is_dict else 6)
        if kind == 0:
            del value[place]
        elif kind > 1:
            value[place] = _damage_value(chance, value[place])
        elif is_dict:
            value[chance.choice(NASTY)] = value[place]
        else:
            value.insert(place, copy.deepcopy(value[place]))
        return value
    if isinstance(value, int | float) and chance.random() < 0.3:
        return chance.choice((-value, value + 1, str(value), float(value), [value]))
    return copy.deepcopy(chance.choice(VALUES))


def put(chance: Random, path: Path, data: bytes, odd: float = 0.03, *, pipes: bool = False) -> None:
    """Writes the file; now and then something stands there that is no file, or nothing.

    Args:
        pipes: a named pipe, too: nobody puts one into a folder of data on purpose, while a file
            that is named on the command line may well be one.
    """
    if chance.random() >= odd:
        path.write_bytes(data)
        return
    path.unlink(missing_ok=True)
    kind = chance.randrange(4)
    if kind == 0:
        path.mkdir()
    elif kind == 1 and pipes:
        os.mkfifo(path)
    elif kind == 2:
        path.symlink_to(path.name)
    # else nothing is there


def _split(line: str, separators: str) -> Sequence[str]:
    """Words and separators, alternating; joined they are the line."""
    parts = [""]
    for letter in line:
        if letter in separators:
            parts += [letter, ""]
        else:
            parts[-1] += letter
    return parts
