"""What was found, row by row: as JSON, and as Markdown tables ready for docs/performance.md."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from efficientdet.atomic import atomic_open
from efficientdet.errors import UsageError

JSON, MARKDOWN = "figures.json", "figures.md"


@dataclass(frozen=True)
class Found:
    """One row.

    Attributes:
        part: as `--only` names it.
        device, backend, dtype: what computed, by what, in which number format.
        figures: `name, with its unit` -> number or text.
        error: in one line; empty where there was none.
    """

    part: str
    what: str
    device: str = ""
    backend: str = ""
    dtype: str = ""
    figures: dict[str, float | str] = field(default_factory=dict)
    error: str = ""


class Results:
    """The rows of one folder; both files are written anew after each, so a killed run keeps them.

    A part that is done again takes the place of its old rows: `--only` can fill a folder by turns.
    """

    def __init__(self, folder: Path, command: str, parts: Sequence[str]):
        self._folder, self._command = folder, command
        self.rows = [row for row in _read(folder / JSON) if row.part not in parts]

    def add(self, row: Found) -> None:
        """Adds a row and writes all of them."""
        self.rows.append(row)
        with atomic_open(self._folder / JSON) as file:
            json.dump({"command": self._command, "rows": [*map(asdict, self.rows)]}, file, indent=1)
        with atomic_open(self._folder / MARKDOWN) as file:
            file.write(f"`{self._command}`\n\n" + "\n".join(markdown(self.rows)))


def _read(path: Path) -> list[Found]:
    if not path.exists():
        return []
    try:
        return [Found(**row) for row in json.loads(path.read_text(encoding="utf-8"))["rows"]]
    except (KeyError, TypeError, ValueError):
        raise UsageError(f"{path}: not what this command writes; say another --out") from None


def markdown(rows: Sequence[Found]) -> Iterator[str]:
    """The lines of a table for each part, with the figures that its rows have."""
    for part in dict.fromkeys(row.part for row in rows):
        of_part = [row for row in rows if row.part == part]
        names = list(dict.fromkeys(name for row in of_part for name in row.figures))
        errors = ["error"] if any(row.error for row in of_part) else []
        yield from (_line([part, "device, backend, dtype", *names, *errors]),)
        yield _line(["---"] * 2 + ["---:"] * len(names) + ["---"] * len(errors))
        for row in of_part:
            where = ", ".join(filter(None, (row.device, row.backend, row.dtype)))
            cells = [shown(row.figures.get(name, "")) for name in names]
            yield _line([row.what, where, *cells, *([row.error] if errors else [])])
        yield ""


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def shown(value: float | str) -> str:
    """Three figures, more before the point."""
    if isinstance(value, str):
        return value
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
