"""What came of the cases: a table by kind, and a line for each that is wrong."""

from collections import Counter, defaultdict
from collections.abc import Iterable

from rich.table import Table

from benchmarks.campaign.case import PASSED, REFUSED, SKIPPED, WRONG, Result

_COLUMNS = (PASSED, REFUSED, *WRONG, SKIPPED)


class Tally:
    """Counts results as they come.

    Attributes:
        wrong: those that are failures.
    """

    def __init__(self) -> None:
        self.wrong: list[Result] = []
        self._counts: dict[str, Counter[str]] = defaultdict(Counter)
        self._seconds: Counter[str] = Counter()

    def add(self, result: Result) -> None:
        """Counts one."""
        self._counts[result.case.kind][result.outcome] += 1
        self._seconds[result.case.kind] += result.seconds
        if result.is_wrong:
            self.wrong.append(result)

    @property
    def cases(self) -> int:
        """All of them."""
        return sum(counts.total() for counts in self._counts.values())

    def count(self, kinds: Iterable[str]) -> int:
        """Cases of these kinds that were done."""
        done = (self._counts[kind] for kind in kinds if kind in self._counts)
        return sum(counts.total() - counts[SKIPPED] for counts in done)

    def table(self, title: str) -> Table:
        """One row a kind, in the order in which they came up, and their sum."""
        total = sum(self._counts.values(), Counter())
        columns = [name for name in _COLUMNS if total[name]]
        table = Table(title=title)
        table.add_column("kind")
        for column in ("cases", *columns, "seconds"):
            table.add_column(column, justify="right")
        rows = [*self._counts.items(), ("all", total)]
        for kind, counts in rows:
            seconds = self._seconds.get(kind, self._seconds.total())
            cells = (str(counts[name] or "") for name in columns)
            is_last_kind = rows[-2][0] == kind if len(rows) > 1 else False
            table.add_row(
                kind, str(counts.total()), *cells, f"{seconds:.0f}", end_section=is_last_kind
            )
        return table

    def failures(self, of_each: int, flags: str = "") -> list[str]:
        """A line for each failure: the command that does it again, with `flags`, and why.

        At most `of_each` of a kind and outcome, and how many more there are.
        """
        lines, seen = [], Counter()
        for result in sorted(self.wrong, key=lambda result: (result.case.kind, result.outcome)):
            group = (result.case.kind, result.outcome)
            seen[group] += 1
            if seen[group] <= of_each:
                text = " ".join(result.text.split())[:500]
                lines.append(
                    f"python -m benchmarks.campaign --case={result.case}{flags}"
                    f"  # {result.outcome}: {text}"
                )
        more = len(self.wrong) - len(lines)
        return lines + ([f"... and {more} more"] if more else [])
