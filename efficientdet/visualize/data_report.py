"""The inspector's tables on the terminal, and its page in HTML."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import to_hex
from rich.console import Console
from rich.table import Table

from efficientdet.atomic import atomic_open
from efficientdet.dataset.checks import RecordSet, Report
from efficientdet.dataset.kitti import CLASSES, DIFFICULTIES, DONT_CARE
from efficientdet.dataset.splits import count_drives
from efficientdet.dataset.statistics import SIZE_CLASSES
from efficientdet.visualize import data_figures, data_sheets, html
from efficientdet.visualize.anchor_report import AnchorRow

# Groups of the anchor table that are shown where the data has them.
_GROUPS = ("all", *SIZE_CLASSES, *CLASSES)
_OCCLUSION = {0: "visible", 1: "partly", 2: "largely", 3: "unknown"}


def print_statistics(console: Console, one: RecordSet, class_ids: Mapping[str, int]) -> None:
    """Prints the table and the facts of one set, 80 columns wide.

    Args:
        class_ids: class text -> id.
    """
    if not one.places:
        return
    columns, rows = class_table(one, class_ids)
    num_objects = len(one.statistics.objects)
    _say(console, f"{one.path.name}: {one.num_examples} images, {num_objects} objects", "bold")
    table = _table()
    hidden = columns.index("images")
    for index, column in enumerate(columns):
        if index != hidden:
            table.add_column(column, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(str(value) for index, value in enumerate(row) if index != hidden))
    console.print(table)
    for name, text in facts(one).items():
        _say(console, f"  {name}: {text}")
    console.print()


def print_anchors(console: Console, rows: Sequence[AnchorRow]) -> None:
    """Prints the anchor report: groups down, configurations across."""
    _say(console, "Objects that no anchor covers (best IoU below 0.5), in percent", "bold")
    table = _table()
    table.add_column("")
    for row in rows:
        table.add_column("fitted" if row.fitted else row.input_size, justify="right", no_wrap=True)
    for name in anchor_groups(rows):
        table.add_row(name, *(f"{100 * row.coverage.missed[name]:.1f}" for row in rows))
    table.add_row("mean best IoU", *(f"{row.coverage.mean_iou['all']:.2f}" for row in rows))
    table.add_row("padding, %", *(f"{100 * row.coverage.padding:.0f}" for row in rows))
    console.print(table)
    for row in rows:
        _say(console, f"  {row.input_size}{', fitted' if row.fitted else ''}: {row.hparams}")
    _say(console, f"Fewest lost: --hparams={best_hparams(rows)}\n")


def _table() -> Table:
    return Table(box=None, padding=(0, 1, 0, 0))


def _say(console: Console, text: str, style: str | None = None) -> None:
    """A line as it is: not coloured, not wrapped, brackets are no markup."""
    console.print(text, style=style, highlight=False, soft_wrap=True, markup=False)


def anchor_groups(rows: Sequence[AnchorRow]) -> list[str]:
    """The groups that the rows have, `all` first."""
    present = rows[0].coverage.missed
    return [name for name in (*_GROUPS, *sorted(set(present) - set(_GROUPS))) if name in present]


def best_hparams(rows: Sequence[AnchorRow]) -> str:
    """What to type for the row that loses the fewest objects."""
    best = min(rows, key=lambda row: row.coverage.missed["all"])
    return f"image_size={best.input_size},{best.hparams}"


def class_table(one: RecordSet, class_ids: Mapping[str, int]) -> tuple[list[str], list[list]]:
    """Column names and rows: id, images and objects of each class, by difficulty and by size."""
    statistics, objects = one.statistics, one.statistics.objects
    counts = statistics.counts()
    levels = (*DIFFICULTIES, "beyond")
    columns = ["class", "id", "images", "objects", "ignored", *levels, *SIZE_CLASSES]
    rows = []
    for name, count in counts["class_counts"].items():
        ignored = counts["ignored_counts"].get(name, 0)
        by_level, by_size = (
            counts[key].get(name, {}) for key in ("difficulty_counts", "size_counts")
        )
        rows.append(
            [
                name,
                class_ids.get(name, ""),
                len(np.unique(objects.image[objects.types == name])) or "",
                count,
                count if name == DONT_CARE else ignored,
                *(by_level.get(level, "") for level in levels),
                *(by_size.get(size, "") for size in SIZE_CLASSES),
            ]
        )
    return columns, rows


def facts(one: RecordSet) -> dict[str, str]:
    """Short texts about a whole set."""
    statistics, objects = one.statistics, one.statistics.objects
    counts = statistics.counts()
    sizes = [f"{size} ({count})" for size, count in counts["image_sizes"].items()]
    per_image = np.array(statistics.num_objects)
    texts = {
        "image sizes": ", ".join(sizes[:6]) + (f" and {len(sizes) - 6} more" if sizes[6:] else ""),
        "objects an image": f"{per_image.mean():.1f} on average, at most {per_image.max()}; "
        f"{(per_image == 0).sum()} images have none",
        "DontCare": f"{np.mean(statistics.dont_care_share):.1%} of the images' area",
    }
    if len(objects):
        shares = [f"{name} {(objects.occluded == i).mean():.0%}" for i, name in _OCCLUSION.items()]
        texts["occlusion"] = ", ".join(shares)
        texts["truncation"] = f"{(objects.truncated > 0).mean():.0%} of the objects are cut off"
    if one.is_kitti:
        texts["drives"] = str(len(count_drives(one.ids)))
    if one.manifest:
        texts["frames"] = one.manifest.origin
    return texts


def write_html(path: Path, report: Report, anchors: Sequence[AnchorRow]) -> None:
    """Writes the whole report as one page without a network; `anchors` are of the first set."""
    page = html.render(
        "data_report.html",
        report=report,
        sections=[_section(one, report.class_ids) for one in report.sets],
        anchors=anchors,
        groups=anchor_groups(anchors) if anchors else [],
        best_hparams=best_hparams(anchors) if anchors else "",
    )
    with atomic_open(path) as file:
        file.write(page)


def _section(one: RecordSet, class_ids: Mapping[str, int]) -> dict[str, object]:
    columns, table = class_table(one, class_ids) if one.places else ([], [])
    objects = one.statistics.objects
    colours = data_figures.text_colours(objects, class_ids)
    return {
        "name": one.path.name,
        "num_examples": one.num_examples,
        "num_objects": len(objects),
        "columns": columns,
        "table": table,
        "facts": facts(one) if one.places else {},
        "figures": data_figures.figures(one.statistics, class_ids) if len(objects) else [],
        "legend": {name: to_hex(colour) for name, colour in colours.items()},
        "sheets": data_sheets.sheets(one, class_ids) if one.places else [],
    }
