"""The inspector's words and tables on the terminal, as wide as that is; 80 columns in a file."""

import textwrap
from collections.abc import Mapping, Sequence

from rich.cells import cell_len
from rich.console import Console

from efficientdet.inspection.anchor_report import FIT_OBJECTS, AnchorRow, best_row
from efficientdet.inspection.checks import InspectedSet, Problem, Report, by_kind
from efficientdet.inspection.coverage import ENOUGH
from efficientdet.inspection.near_duplicates import NearDuplicates
from efficientdet.inspection.recommend import Recommendation
from efficientdet.inspection.report import anchor_groups, class_table, facts
from efficientdet.wording import NBSP, counted

_GAP = 1  # spaces between columns


def print_statistics(console: Console, one: InspectedSet, class_ids: Mapping[str, int]) -> None:
    """Prints the table and the facts of one set.

    Args:
        class_ids: class text -> id.
    """
    if not one.places:
        return
    images, objects = counted(one.num_examples, "image"), len(one.statistics.objects)
    _say(console, f"{one.path.name}: {images}, {counted(objects, 'object')}", style="bold")
    columns, rows = class_table(one, class_ids)
    if rows:
        hidden = columns.index("images")
        _print_table(console, [row[:hidden] + row[hidden + 1 :] for row in (columns, *rows)])
    for name, text in facts(one).items():
        _say(console, f"{name}: {text}", indent=2)
    console.print()


def print_near_duplicates(console: Console, found: Sequence[NearDuplicates]) -> None:
    """Prints how many frames of each set look like one to train on."""
    for one in found:
        _say(console, f"Near-duplicates: {one.text}.")
    if found:
        console.print()


def print_anchors(console: Console, rows: Sequence[AnchorRow]) -> None:
    """Prints the anchor report: groups down, configurations across."""
    _say(console, "Objects that no anchor covers (best IoU below 0.5), %", style="bold")
    covered = [row.coverage for row in rows]
    table = [
        ["", *("fitted" if row.fitted else row.input_size for row in rows)],
        *(
            [name, *(f"{100 * one.missed[name]:.1f}" for one in covered)]
            for name in anchor_groups(rows)
        ),
        ["mean best IoU", *(f"{one.mean_iou['all']:.2f}" for one in covered)],
        ["anchors an object", *(f"{one.positives['all']:.1f}" for one in covered)],
        [f"lacking of {ENOUGH}, %", *(f"{100 * one.lacking['all']:.1f}" for one in covered)],
        ["padding, %", *(f"{100 * one.padding:.0f}" for one in covered)],
    ]
    _print_table(console, table)
    told = set()
    for row in rows:
        if row.hparams not in told:  # what is configured is so at every size
            of = f"{row.input_size}, fitted" if row.fitted else "as configured"
            _say(console, f"{of}: {row.hparams}", indent=2)
            _say(console, row.coco_head, indent=4)
        if not row.fitted:
            told.add(row.hparams)
    number, aside = rows[0].num_objects, ""
    if any(row.fitted for row in rows):
        few = number < FIT_OBJECTS
        aside = ", fits aside" if few else ""
        why = f", too few: a fit needs {FIT_OBJECTS}" if few else ""
        _say(console, f"Fitted to {counted(number, 'object')}{why}.")
    _say(console, f"Least lacking{aside}:")
    _say(console, f"--hparams={best_row(rows).typed}", indent=2)
    console.print()


def print_recommendation(console: Console, found: Recommendation, text: str) -> None:
    """Prints what was compared, the chosen one with a star, and the YAML.

    Args:
        text: `found.yaml(...)`.
    """
    _say(console, "Objects that no anchor covers (best IoU below 0.5), %", style="bold")
    ones = found.candidates
    covered = [one.row.coverage for one in ones]
    groups = anchor_groups([one.row for one in ones])
    table = [
        ["", *(one.row.input_size for one in ones)],
        ["chosen", *("*" if one is found.chosen else "" for one in ones)],
        ["anchor_scale", *(_number(one.config.anchor_scale) for one in ones)],
        ["aspect_ratios", *("fitted" if one.row.fitted else "configured" for one in ones)],
        ["min_level", *(one.config.min_level for one in ones)],
        [f"GB of {found.batch_size} images", *(f"{one.num_bytes / 2**30:.1f}" for one in ones)],
        *([name, *(f"{100 * one.missed[name]:.1f}" for one in covered)] for name in groups),
        ["anchors an object", *(f"{one.positives['all']:.1f}" for one in covered)],
        ["lacking, balanced", *(f"{100 * one.lacking:.1f}" for one in ones)],
    ]
    _print_table(console, table)
    console.print(f"\n{text}", highlight=False, soft_wrap=True, markup=False)


def print_findings(
    console: Console, word: str, findings: Sequence[Problem], limit: int = 3
) -> None:
    """Prints problems or warnings (the word for one) by kind, at most `limit` of each."""
    for kind, found in by_kind(findings).items():
        times = f" ({len(found):,} times)" if len(found) > 1 else ""
        _say(console, f"{word}: {kind}{times}", style="bold")
        for one in found[:limit]:
            _say(console, f"{one.where}: {one.what}", indent=2)
        if len(found) > limit:
            _say(console, f"... and {len(found) - limit:,} more", indent=2)


def verdict(report: Report, sample: int | None = None) -> str:
    """The last line of all: what was found in how many records, and whether to train on them.

    Args:
        sample: records of each file that were looked at, where that was not all.
    """
    records = counted(report.num_examples, "record")
    if sample:
        records += f", at most {sample:,} of a file"
    if not report.ok:
        return f"{counted(len(report.problems), 'problem')} in {records}: do not train on them"
    found = counted(len(report.warnings), "warning") if report.warnings else "nothing wrong"
    if all(one.is_testing for one in report.sets):
        found += "; they have no labels to learn from"
    elif sample:
        found += "; classes were not judged"
    return f"OK: {records}, {found}"


def _print_table(console: Console, rows: Sequence[Sequence[object]]) -> None:
    """Lines of text, the first cell to the left; what is too wide goes on below, no cell is cut."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    start, last = 1, len(widths)
    while start < last:
        end, room = start, console.width - widths[0]
        while end < last and (end == start or room >= _GAP + widths[end]):
            room -= _GAP + widths[end]
            end += 1
        for row in filter(lambda row: any(row[start:end]), cells):
            parts = (f"{row[i]:>{widths[i] + _GAP}}" for i in range(start, end))
            head = row[0] + " " * (widths[0] - cell_len(row[0]))  # 한글 takes four columns
            _say(console, (head + "".join(parts)).rstrip(), wrap=False)
        start = end


def _number(scale: float | list[float]) -> str:
    return "*".join(f"{one:g}" for one in (scale if isinstance(scale, list) else [scale]))


def _cell(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _say(
    console: Console, text: str, *, indent: int = 0, style: str | None = None, wrap: bool = True
) -> None:
    """A paragraph as it is: not coloured, brackets are no markup, no word or command is parted."""
    if wrap:
        text = textwrap.fill(
            text,
            max(console.width, 20),
            initial_indent=" " * indent,
            subsequent_indent=" " * (indent + 2),
            break_long_words=False,
            break_on_hyphens=False,
        ).replace(NBSP, " ")
    console.print(text, style=style, highlight=False, soft_wrap=True, markup=False)
