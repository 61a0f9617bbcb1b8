"""Hyper-parameters as they are typed: `k=v` pairs between commas, and what a `v` stands for."""

import ast
from collections.abc import Iterator
from typing import Any

from efficientdet.errors import UsageError, shown

MAX_ENTRY = 10_000  # letters of one `key=value`


def entries(text: str) -> Iterator[str]:
    """The parts between commas, but for the commas within brackets."""
    parts: list[str] = []
    depth = 0
    for part in text.split(","):
        parts.append(part)
        depth += sum(map(part.count, "([{")) - sum(map(part.count, ")]}"))
        if depth <= 0:
            if entry := ",".join(parts).strip():
                yield _bounded(entry)
            parts, depth = [], 0
    if parts:
        entry = shown(",".join(parts).strip())
        raise UsageError(f"--hparams: {entry} opens a bracket and does not close it")


def _bounded(entry: str) -> str:
    if len(entry) > MAX_ENTRY:
        raise UsageError(
            f"--hparams: {shown(entry)} has {len(entry)} letters, expected {MAX_ENTRY} at most"
        )
    return entry


def value_of(text: str) -> Any:
    """A literal, a list of literals between `*`, else (names, regular expressions) the text."""
    parts = [_parse_literal(part.strip()) for part in text.split("*")]
    if len(parts) > 1 and not any(part is None or isinstance(part, str) for part in parts):
        return parts
    return _parse_literal(text)


def _parse_literal(text: str) -> Any:
    lowered = text.lower()
    if lowered in ("true", "false"):
        return lowered == "true"
    if lowered in ("none", "null", ""):
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
