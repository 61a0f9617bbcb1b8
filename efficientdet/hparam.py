"""A hyper-parameter as it is declared: default, meaning, range; and how it takes a value."""

import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from efficientdet.errors import UsageError, shown

LARGEST = 3.4e38  # of float32, in which everything is computed


@dataclass(frozen=True)
class Range:
    """An interval of numbers, as it is written: `[0, 1)` holds 0 and does not hold 1."""

    text: str
    lower: float
    upper: float

    @classmethod
    def parse(cls, text: str) -> "Range":
        """`[0, 1)`, `(0, inf)`."""
        return cls(text, *map(float, re.fullmatch(r"[\[(](.+), (.+)[\])]", text).groups()))

    def __contains__(self, number: float) -> bool:
        above = number > self.lower or (number == self.lower and self.text[0] == "[")
        return above and (number < self.upper or (number == self.upper and self.text[-1] == "]"))

    def __str__(self) -> str:
        return self.text


def hp(default: Any, meaning: str, within: str = "") -> Any:
    """A field of a dataclass of hyper-parameters; `check` and docs/hparams.md read it.

    Args:
        default: a list is copied; a class is called.
        meaning: one line.
        within: the range of its number, or of each of its numbers, see `Range`.
    """
    metadata = {"meaning": meaning, "within": Range.parse(within) if within else None}
    if isinstance(default, list | type):
        make = default if isinstance(default, type) else default.copy
        return dataclasses.field(default_factory=make, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def check(declared: Any, prefix: str = "") -> None:
    """Holds every number of a dataclass of `hp` fields against its range.

    Raises:
        UsageError: one lies outside; names field, value and range.
    """
    for field in dataclasses.fields(declared):
        within, value = field.metadata["within"], getattr(declared, field.name)
        if within and not all(number in within for number in _numbers(value)):
            what = "numbers" if isinstance(value, list | tuple) else "a number"
            raise UsageError(f"{prefix}{field.name}={shown(value)}: expected {what} in {within}")


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _numbers(item)
    elif isinstance(value, int | float):
        yield value


def override(target: Any, flat: Mapping[str, Any], prefix: str = "") -> Any:
    """A copy of a dataclass with the values of dotted keys in place, each as its annotated type.

    Raises:
        UsageError: an unknown key (names the near_name), or a value of the wrong type.
    """
    hints = typing.get_type_hints(type(target))
    changes: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    for key, value in flat.items():
        head, _, rest = key.partition(".")
        if head not in hints or (rest and not dataclasses.is_dataclass(hints[head])):
            raise UsageError(
                f"unknown hyper-parameter {shown(prefix + key)}{near_name(head, hints)}"
            )
        if rest:
            nested.setdefault(head, {})[rest] = value
        else:
            changes[head] = _convert(value, hints[head], prefix + head)
    for head, inner in nested.items():
        changes[head] = override(getattr(target, head), inner, f"{prefix}{head}.")
    return dataclasses.replace(target, **changes)


def near_name(word: str, choices: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or all choices when none is near."""
    choices = list(choices)
    close = difflib.get_close_matches(word[:100], choices, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(choices)}"


def type_name(hint: Any) -> str:
    """`float | None`, `list[str]`, `sgd | adam` of a type hint."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(map(type_name, args))
    if origin is Literal:
        return " | ".join(args)
    if args:
        return f"{origin.__name__}[{', '.join(map(type_name, args))}]"
    return "None" if hint is types.NoneType else hint.__name__


def _convert(value: Any, hint: Any, key: str) -> Any:
    """`value` as the annotated type, or a UsageError that quotes both."""
    converted = _try_convert(value, hint)
    if converted is _FAILED:
        is_size = key == "image_size" and isinstance(value, list | tuple) and len(value) == 2
        advice = f"; did you mean {'x'.join(map(shown, value))}?" if is_size else ""
        raise UsageError(f"{key}={shown(value)}: expected {type_name(hint)}{advice}")
    return converted


_FAILED = object()


def _try_convert(value: Any, hint: Any) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        results = (_try_convert(value, arg) for arg in args)
        return next((result for result in results if result is not _FAILED), _FAILED)
    if origin is Literal:
        return value if value in args else _FAILED
    if origin in (list, tuple):
        return _convert_sequence(value, origin, args)
    if hint is types.NoneType:
        return None if value is None else _FAILED
    if hint is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        try:  # a string: YAML reads 4e-5 as one
            number = float(value)
        except (ValueError, OverflowError):
            return _FAILED
        return number if math.isfinite(number) and abs(number) <= LARGEST else _FAILED
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, bool) and hint is not bool:
        return _FAILED
    return value if isinstance(value, hint) else _FAILED


def _convert_sequence(value: Any, origin: type, args: tuple[Any, ...]) -> Any:
    if not isinstance(value, list | tuple):
        # AutoML's lite models write one number for all three channels.
        if origin is tuple and isinstance(value, int | float):
            value = [value] * len(args)
        elif origin is list and isinstance(value, str | int | float):
            value = value.split("*") if isinstance(value, str) else [value]
        else:
            return _FAILED
    if origin is tuple and len(value) != len(args):
        return _FAILED
    hints = args if origin is tuple else args * len(value)
    converted = [_try_convert(item, hint) for item, hint in zip(value, hints, strict=True)]
    return _FAILED if any(item is _FAILED for item in converted) else origin(converted)
