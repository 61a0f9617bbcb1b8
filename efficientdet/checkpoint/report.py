"""What a restore did with every variable."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from rich.table import Table

from efficientdet.atomic import atomic_open
from efficientdet.errors import UserError
from efficientdet.model.detector import PARTS, part_of

Status = Literal["restored", "adapted", "reinitialised", "absent"]
_TITLES = {
    "restored": "restored",
    "adapted": "rows carried over",
    "reinitialised": "re-initialised",
    "absent": "not in checkpoint",
}
MIN_BACKBONE_SHARE = 0.9
REPORT_FILE = "restore_report.json"


@dataclass(frozen=True)
class Outcome:
    """One variable of the model.

    Attributes:
        complete: all of its values come from the checkpoint.
    """

    name: str
    size: int
    status: Status
    complete: bool


@dataclass
class RestoreReport:
    """What was restored from `path`.

    Attributes:
        outcomes: one for each variable of the parts that were asked for.
        left_over: names in the checkpoint that the model has no use for.
        num_averaged: how many of the checkpoint's values are EMA values.
        notes: what was done about classes and anchors, in sentences.
        right_scale: `anchor_scale=4.0` as the heads were trained, where the model has another; fit
            to train on, and wrong to evaluate.
    """

    path: str
    outcomes: list[Outcome]
    left_over: list[str]
    num_averaged: int
    notes: list[str] = field(default_factory=list)
    right_scale: str | None = None

    @property
    def backbone_share(self) -> float:
        """Share of the backbone's weights that came from the checkpoint, 0..1."""
        backbone = [o for o in self.outcomes if part_of(o.name) == "backbone"]
        return sum(o.size for o in backbone if o.complete) / sum(o.size for o in backbone)

    def names(self, status: Status) -> list[str]:
        """The variables with one outcome."""
        return [o.name for o in self.outcomes if o.status == status]

    @property
    def restored_names(self) -> frozenset[str]:
        """The variables that have values of the checkpoint, if only in some rows."""
        return frozenset([*self.names("restored"), *self.names("adapted")])

    def line(self) -> str:
        """One line for the terminal."""
        restored = sum(o.complete for o in self.outcomes)
        kind = "EMA values" if self.num_averaged else "no EMA values in it"
        text = f"{self.path}: {restored} of {len(self.outcomes)} variables restored ({kind})"
        return "; ".join([text, *self.notes])

    def table(self) -> Table:
        """Counts of variables by part, with the notes below."""
        table = Table(
            title=f"restored from {self.path}", caption="\n".join(self.notes) or None, padding=0
        )
        table.add_column("part")
        for title in (*_TITLES.values(), "left over"):
            table.add_column(title, justify="right")
        for part in (*PARTS, "other"):
            members = [o.status for o in self.outcomes if part_of(o.name) == part]
            unused = _count(self.left_over, part)
            if members or unused:
                counts = [members.count(status) for status in _TITLES]
                table.add_row(part, *map(str, counts), str(unused))
        return table

    def write(self, folder: str | Path) -> Path:
        """Writes every name to `restore_report.json` in `folder`; returns its path."""
        path = Path(folder) / REPORT_FILE
        content = {
            "checkpoint": self.path,
            "averaged": self.num_averaged,
            "notes": self.notes,
            "parts": {
                part: {s: _count(self.names(s), part) for s in _TITLES}
                | {"left_over": _count(self.left_over, part)}
                for part in (*PARTS, "other")
            },
            "left_over": self.left_over,
            "variables": [asdict(outcome) for outcome in self.outcomes],
        }
        with atomic_open(path) as file:
            json.dump(content, file, indent=1)
        return path

    def require_complete(self) -> None:
        """For evaluation and prediction, where a random value makes every number meaningless.

        Raises:
            UserError: a variable, or a row of one, did not come from the checkpoint as it is, or
                boxes would be decoded on anchors of another size.
        """
        if self.right_scale:
            raise UserError(
                f"{self.path}: trained with {self.right_scale}, and on other anchors every box "
                f"comes out at a wrong size; say --hparams={self.right_scale}"
            )
        random = [outcome.name for outcome in self.outcomes if not outcome.complete]
        if random:
            raise UserError(
                f"{self.path}: {len(random)} variables would be random or adapted, first "
                f"{random[0]}; " + "; ".join(self.notes)
            )


def read_restored_names(folder: str | Path) -> frozenset[str] | None:
    """`restored_names` of the report that `write` left in a model_dir; None: there is none.

    Raises:
        UserError: a file that `write` did not make.
    """
    path = Path(folder) / REPORT_FILE
    try:
        variables = json.loads(path.read_text(encoding="utf-8"))["variables"]
        return frozenset(v["name"] for v in variables if v["status"] in ("restored", "adapted"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path}: not readable ({type(error).__name__}: {error}); expected the report of what "
            "the run started from. Take it away if the run may forget that"
        ) from None


def _count(names: Iterable[str], part: str) -> int:
    return sum(part_of(name) == part for name in names)
