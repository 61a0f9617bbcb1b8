"""Small text files that people and programs write, read with a bound."""

from pathlib import Path

from efficientdet.errors import UserError

MAX_BYTES = 64 << 20
_FIRST = 1 << 16  # bytes


def read_bytes(path: str | Path, expected: str, max_bytes: int = MAX_BYTES) -> bytes:
    """The content of an ordinary file.

    Args:
        expected: what the file should hold, for messages: `one frame id a line`.

    Raises:
        UserError: unreadable, a folder, a pipe (which would be waited for), or larger than
            `max_bytes`.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "no ordinary file"
            raise UserError(f"{path}: this is {kind}; expected {expected}")
        with path.open("rb") as file:
            data = file.read(min(_FIRST, max_bytes + 1))
            if len(data) == _FIRST:  # asked for all at once, the bound is allocated for each file
                data += file.read(max_bytes + 1 - _FIRST)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; expected {expected}") from None
    except ValueError as error:  # a NUL in the name
        raise UserError(f"{str(path)!r}: {error}; expected {expected}") from None
    if len(data) > max_bytes:
        raise UserError(f"{path}: over {max_bytes} bytes; expected {expected}")
    return data
