"""The inspector's tables, and its page in HTML."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from efficientdet.atomic import atomic_open
from efficientdet.dataset.kitti import CLASSES, DIFFICULTIES, DONT_CARE
from efficientdet.dataset.splits import count_drives
from efficientdet.dataset.statistics import SIZE_CLASSES
from efficientdet.inspection import figures as data_figures
from efficientdet.inspection import sheets as data_sheets
from efficientdet.inspection.anchor_report import FIT_OBJECTS, AnchorRow, best_row
from efficientdet.inspection.checks import InspectedSet, Report, by_kind
from efficientdet.inspection.coverage import ENOUGH
from efficientdet.inspection.near_duplicates import MAX_BITS, NUM_BITS, WARN_SHARE, NearDuplicates
from efficientdet.inspection.recommend import OBJECTIVE, Recommendation
from efficientdet.visualize import html
from efficientdet.wording import NBSP, counted

# Groups of the anchor table that are shown where the data has them.
_GROUPS = ("all", *SIZE_CLASSES, *CLASSES)
_OCCLUSION = {0: "visible", 1: "partly", 2: "largely", 3: "unknown"}


def anchor_groups(rows: Sequence[AnchorRow]) -> list[str]:
    """The groups that the rows have, `all` first."""
    present = rows[0].coverage.missed
    return [name for name in (*_GROUPS, *sorted(set(present) - set(_GROUPS))) if name in present]


def class_table(one: InspectedSet, class_ids: Mapping[str, int]) -> tuple[list[str], list[list]]:
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


def facts(one: InspectedSet) -> dict[str, str]:
    """Short texts about a whole set."""
    statistics, objects = one.statistics, one.statistics.objects
    counts = statistics.counts()
    sizes = [f"{size}{NBSP}({count:,})" for size, count in counts["image_sizes"].items()]
    per_image = np.array(statistics.num_objects)
    empty = int((per_image == 0).sum())
    texts = {
        "image sizes": ", ".join(sizes[:6]) + (f" and {len(sizes) - 6} more" if sizes[6:] else "")
    }
    if not one.is_testing:
        texts["objects an image"] = (
            f"{per_image.mean():.1f} on average, at most {per_image.max()}; "
            f"{counted(empty, 'image')} {'has' if empty == 1 else 'have'} none"
        )
        texts["DontCare"] = f"{np.mean(statistics.dont_care_share):.1%} of the images' area"
    if len(objects):
        shares = [
            f"{name}{NBSP}{(objects.occluded == level).mean():.0%}"
            for level, name in _OCCLUSION.items()
        ]
        texts["occlusion"] = ", ".join(shares)
        texts["truncation"] = f"{(objects.truncated > 0).mean():.0%} of the objects are cut off"
    if one.is_kitti:
        texts["drives"] = str(len(count_drives(one.ids)))
    if one.manifest:
        texts["frames"] = one.manifest.origin
    return texts


def write_html(
    path: Path,
    report: Report,
    anchors: Sequence[AnchorRow],
    alike: Sequence[NearDuplicates] = (),
    choice: Recommendation | None = None,
) -> None:
    """Writes the whole report as one page without a network.

    Args:
        anchors: of the set to train on.
        alike: what other sets have in common with it.
        choice: among the `anchors`, in their order, where one was asked for.
    """
    ids = report.class_ids
    drawn = [one for one in report.sets if len(one.statistics.objects)]
    page = html.render(
        "data_report.html",
        report=report,
        warnings=by_kind(report.warnings),
        sections=[_section(one, ids) for one in report.sets],
        legend=data_figures.legend(drawn, ids),
        plots=data_figures.plots(drawn, ids, report.label_map),
        alike=[(one, data_sheets.pairs(one, ids)) for one in alike],
        warn_share=WARN_SHARE,
        bits=f"{MAX_BITS} of {NUM_BITS}",
        anchors=anchors,
        anchored=(report.training or report.sets[0]).path.name,
        fit_objects=FIT_OBJECTS,
        groups=anchor_groups(anchors) if anchors else [],
        choice=choice,
        objective=OBJECTIVE,
        enough=ENOUGH,
        best_hparams=best_row(anchors).typed if anchors else "",
    )
    with atomic_open(path) as file:
        file.write(page)


def _section(one: InspectedSet, class_ids: Mapping[str, int]) -> dict[str, object]:
    columns, table = class_table(one, class_ids) if one.places else ([], [])
    return {
        "name": one.path.name,
        "images": counted(one.num_examples, "image"),
        "objects": counted(len(one.statistics.objects), "object"),
        "columns": columns,
        "table": table,
        "facts": facts(one) if one.places else {},
        "sheets": data_sheets.sheets(one, class_ids) if one.places else [],
    }
