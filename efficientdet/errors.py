"""Errors that a user can mend; commands print them as one line, without a traceback."""

import re


class UserError(Exception):
    """Bad data or a bad state: says what was read, what was expected, where, and what to do."""

    exit_code = 1


class UsageError(UserError):
    """A bad flag or hyper-parameter."""

    exit_code = 2


class Stopped(BaseException):
    """A signal ended the command, and everything is saved; not an error, but no success either.

    It is raised in the midst of others' code, whose `except Exception` must not take it.
    """

    def __init__(self, line: str, exit_code: int):
        super().__init__(line)
        self.exit_code = exit_code


def one_line(error: Exception) -> str:
    """A library's message on one line, without TensorFlow's names of nodes and operations."""
    text = re.sub(r"\{\{.*?\}\}|\[Op:\w+\]", "", str(getattr(error, "message", None) or error))
    return " ".join(text.split())


def shown(value: object) -> str:
    """A value as it is quoted in a message: on one line, cut where it is long."""
    if isinstance(value, str) and len(value) > 60:
        return f"{value[:60]!r}... ({len(value)} letters)"
    try:
        text = repr(value)
    except ValueError:  # Python writes out no integer of more than 4300 digits
        text = "a number of thousands of digits"
    return text if len(text) <= 100 else f"{text[:97]}..."


def said(value: object) -> str:
    """As it was typed where that fits a line, else `shown`."""
    plain = isinstance(value, str) and value.isprintable() and len(value) <= 300
    return value if plain else shown(value)
