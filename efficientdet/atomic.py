"""Write beside the target, then rename: a reader never sees half a file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path in the target's folder; renames it to `target` on success.

    The folder is made if it is missing. On an exception the temporary file is removed and `target`
    stays as it was. The temporary name holds the process id, so that two runs never share one.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_open(target: str | os.PathLike[str], mode: str = "w") -> Iterator[IO[Any]]:
    """Like `open(target, mode)` for writing, through `atomic_path`; text is UTF-8 with `\\n`."""
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    with atomic_path(target) as temporary, temporary.open(mode, **text) as file:
        yield file
