"""YAML that people write by hand, read so that no file whatever ends in a traceback or never ends.

Only what stands for null, bool, int, float, text, lists and mappings is read. A date is text here:
PyYAML would make an object of `2024-01-02` and raise at `2024-13-45`.
"""

import os
from pathlib import Path
from typing import Any

import yaml

from efficientdet.errors import UsageError

MAX_BYTES = 2**18
MAX_DEPTH = 50
MAX_VALUES = 100_000  # with what aliases repeat
MAX_LETTERS = 10_000  # of a text
MAX_DIGITS = 300  # of a number; Python itself refuses to write out one of over 4300

_TAG = "tag:yaml.org,2002:"
_CORE = [_TAG + kind for kind in ("null", "bool", "int", "float", "str", "seq", "map")]
_MERGE = _TAG + "merge"  # `<<: *other`


class _CoreLoader(yaml.SafeLoader):
    """SafeLoader without dates, binary data and sets."""

    yaml_implicit_resolvers = {
        letter: [(tag, pattern) for tag, pattern in resolvers if tag in (*_CORE, _MERGE)]
        for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    yaml_constructors = {
        tag: construct
        for tag, construct in yaml.SafeLoader.yaml_constructors.items()
        if tag is None or tag in _CORE  # None: what refuses all others
    }


def read_yaml(path: str | os.PathLike[str], expected: str) -> Any:
    """The content of a YAML file; None where it is empty.

    Args:
        expected: what the file should be, for messages: `a YAML file of hyper-parameters`.

    Raises:
        UsageError: not a file, not readable, not YAML or not of `parse_yaml`'s kind.
    """
    return parse_yaml(read_text(path, expected), path)


def read_text(path: str | os.PathLike[str], expected: str) -> str:
    """The text of a small UTF-8 file, without a byte order mark.

    Raises:
        UsageError: a folder, a pipe or a device; over `MAX_BYTES`; not UTF-8; not readable.
    """
    try:
        if Path(path).exists() and not Path(path).is_file():  # a pipe would be waited for
            kind = "a folder" if Path(path).is_dir() else "no ordinary file"
            raise UsageError(f"{path}: this is {kind}; expected {expected}")
        with Path(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise UsageError(f"{path}: over {MAX_BYTES} bytes; expected {expected}")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}; expected {expected}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not readable as YAML: not UTF-8: {error}") from None
    except ValueError as error:  # a NUL in the name
        raise UsageError(f"{path!r}: {error}; expected {expected}") from None


def parse_yaml(text: str, path: str | os.PathLike[str]) -> Any:
    """The value of a YAML text of null, bool, int, float, text, lists and mappings.

    Args:
        path: where it was read, for messages.

    Raises:
        UsageError: see `compose_yaml`; or a value that is not what its tag says.
    """
    node = compose_yaml(text, path)
    loader = _CoreLoader("")
    try:
        return None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        raise _unreadable(path, error) from None
    except (
        ValueError,
        LookupError,
        RecursionError,
    ) as error:  # `!!float x`, `!!int ''`
        raise _unreadable(path, f"a value is not what its tag says: {error}") from None


def compose_yaml(text: str, path: str | os.PathLike[str]) -> yaml.Node | None:
    """The nodes of a YAML text, with their lines; None where it is empty.

    Raises:
        UsageError: no YAML; a key that stands twice in a mapping; more than `MAX_DEPTH` levels, as
            an anchor within itself has; more than `MAX_VALUES` values, as aliases of aliases make;
            a text of more than `MAX_LETTERS` letters or a number of more than `MAX_DIGITS`.
    """
    try:
        node = yaml.compose(text, _CoreLoader)
    except RecursionError:
        raise _unreadable(path, f"nested more than {MAX_DEPTH} deep") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: `%YAML 1.<5000 digits>`
        raise _unreadable(path, error) from None
    if node is not None:
        _check(node, path)
    return node


def _check(root: yaml.Node, path: str | os.PathLike[str]) -> None:
    todo, count = [(root, 1)], 0
    while todo:
        node, depth = todo.pop()
        count += 1
        where = f"{path}:{node.start_mark.line + 1}"
        if depth > MAX_DEPTH:
            raise _unreadable(where, f"nested more than {MAX_DEPTH} deep")
        if count > MAX_VALUES:
            raise _unreadable(where, f"more than {MAX_VALUES} values")
        if isinstance(node, yaml.ScalarNode):
            is_number = node.tag in (_TAG + "int", _TAG + "float")
            if len(node.value) > (MAX_DIGITS if is_number else MAX_LETTERS):
                raise _unreadable(where, f"a value of {len(node.value)} letters")
        elif isinstance(node, yaml.SequenceNode):
            todo += [(item, depth + 1) for item in node.value]
        else:
            _check_keys(node, path)
            todo += [(part, depth + 1) for pair in node.value for part in pair]


def _check_keys(node: yaml.MappingNode, path: str | os.PathLike[str]) -> None:
    seen = set()
    for key, _ in node.value:
        name = (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key)
        if name in seen:
            where = f"{path}:{key.start_mark.line + 1}"
            raise _unreadable(where, f"the key {str(key.value)[:80]!r} stands twice")
        seen.add(name)


def _unreadable(where: str | os.PathLike[str], why: object) -> UsageError:
    return UsageError(f"{where}: not readable as YAML: {' '.join(str(why).split())[:500]}")
