"""JSON of which nothing is believed: read strictly, and held against a dataclass's type hints."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from efficientdet.dataset.kitti import read_file
from efficientdet.errors import UserError

Built = TypeVar("Built")
_KINDS = {int: "a whole number", str: "a text", list: "a list", dict: "names with values"}


def read_json(path: Path) -> Any:
    """The value of a file.

    Raises:
        ValueError: no JSON, a name that stands twice in one object, NaN or Infinity, or nested too
            deep; the text says what, without the file's name.
        OSError: unreadable, or no regular file.
    """
    text = read_file(path).decode("utf-8")
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deep") from None


def checked(value: Any, hint: Any, where: str) -> Any:
    """The value as a type hint wants it.

    Args:
        hint: int, str, Any, a list or dict of such, `Annotated[int, range(...)]` for a whole number
            in that range, or a dataclass with such fields (one with `from_dict` is made by it).
        where: of the value in the file, for the error text.

    Raises:
        ValueError: names the field, its value, and what was expected.
    """
    kind, args = get_origin(hint) or hint, get_args(hint)
    if kind is Any:
        return value
    if kind is Annotated:
        least, most = args[1].start, args[1].stop - 1
        if checked(value, args[0], where) not in args[1]:
            raise ValueError(f"{where} is {_short(value)}, expected {least} to {most}")
        return value
    if hasattr(kind, "from_dict"):
        try:
            return kind.from_dict(checked(value, dict[str, list[str]], where))
        except UserError as error:
            raise ValueError(f"{where}: {error}") from None
    if dataclasses.is_dataclass(kind):
        return _build(kind, checked(value, dict[str, Any], where), where)
    if type(value) is not kind:  # True is no int
        raise ValueError(f"{where or 'all'} is {_short(value)}, expected {_KINDS[kind]}")
    if kind is list:
        return [checked(item, args[0], f"{where}[{i}]") for i, item in enumerate(value)]
    if kind is dict:
        return {name: checked(item, args[1], _inside(where, name)) for name, item in value.items()}
    return value


def _build(kind: type[Built], values: dict[str, Any], where: str) -> Built:
    hints = get_type_hints(kind, include_extras=True)
    if unknown := [name for name in values if name not in hints]:
        raise ValueError(f"{_inside(where, unknown[0])} is no field")
    for field in dataclasses.fields(kind):
        required = field.default is field.default_factory is dataclasses.MISSING
        if required and field.name not in values:
            raise ValueError(f"{_inside(where, field.name)} is missing")
    return kind(
        **{
            name: checked(value, hints[name], _inside(where, name))
            for name, value in values.items()
        }
    )


def _inside(where: str, name: str) -> str:
    return f"{where}.{_short(name)[1:-1]}" if where else _short(name)[1:-1]


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except RecursionError:
        text = type(value).__name__
    return text if len(text) <= 40 else f"{text[:40]}..."


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in pairs:
        if name in values:
            raise ValueError(f"{_short(name)} stands twice")
        values[name] = value
    return values


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")
