"""What the records are short of: classes without objects, or with too few to learn or to judge by.

Nothing here is wrong with a record, so none of it is a problem: training works, and its figures
mislead. A reader is told in words of their own, and what to do.
"""

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence

from efficientdet.dataset.label_map import LabelMap
from efficientdet.inspection.anchor_report import FIT_OBJECTS, AnchorRow
from efficientdet.inspection.checks import InspectedSet, Problem, Report
from efficientdet.wording import NBSP, counted, listed

NOT_LEARNT = "classes without an object to learn from"
NOT_JUDGED = "classes without an object to judge by"
FEW = "classes with few objects"
LOOSE_FIT = "anchors fitted to few objects"

FEW_OBJECTS = 20  # of a class in a set


def class_warnings(report: Report) -> Iterator[Problem]:
    """The warnings about classes: of the set that is trained on, and of those held against it.

    Only objects that training learns from count. Of a set without any, as KITTI's testing images
    are, nothing is said: where that is wrong, it is a problem already.
    """
    names, training = _class_names(report), report.training
    counts = [(one, count) for one in report.sets if (count := _counts(one, report))]
    learnt = next((count for one, count in counts if one is training), None)
    others = [(one, count) for one, count in counts if one is not training]
    if training and learnt:
        yield from _not_learnt(training, learnt, others, names, report.label_map)
        for one, count in others:
            yield from _not_judged(one, count, training, learnt, names)
    for one, count in counts:
        few = [f"{names[i]}{NBSP}({count[i]})" for i in names if 0 < count[i] < FEW_OBJECTS]
        if few:
            yield Problem(FEW, one.path.name, f"{listed(few)}. {_FEW[one is training]}")


_FEW = {
    True: "Hardly to be learnt: add frames of them, or give them another class's id in the label "
    "map when converting.",
    False: "Each single object moves their AP: judge them by a larger set.",
}


def fit_warnings(rows: Sequence[AnchorRow], where: str) -> Iterator[Problem]:
    """The warning that anchors were fitted to fewer objects than a fit needs."""
    if any(row.fitted for row in rows) and rows[0].num_objects < FIT_OBJECTS:
        what = (
            f"{counted(rows[0].num_objects, 'object')}, where a fit needs {FIT_OBJECTS}: it "
            "follows chance and is not recommended. Those of configs/kitti_*.yaml were chosen by "
            "all of KITTI."
        )
        yield Problem(LOOSE_FIT, where, what)


def _class_names(report: Report) -> dict[int, str]:
    """Id -> name: the label map's, else the texts of the records."""
    if report.label_map:
        return report.label_map.names
    texts = {label: sorted(names) for label, names in report.class_texts.items() if label > 0}
    return {label: names[0] or f"id {label}" for label, names in sorted(texts.items())}


def _counts(one: InspectedSet, report: Report) -> Counter[int]:
    """Class id -> objects to learn from."""
    objects, ids = one.statistics.objects, report.class_ids
    by_text = Counter(objects.types[objects.trained].tolist())
    counts: Counter[int] = Counter()
    for text, count in by_text.items():
        counts[ids.get(text, 0)] += count
    return counts


def _not_learnt(
    one: InspectedSet,
    count: Counter[int],
    others: Sequence[tuple[InspectedSet, Counter[int]]],
    names: dict[int, str],
    label_map: LabelMap | None,
) -> Iterator[Problem]:
    absent = [label for label in names if not count[label]]
    if not absent:
        return
    parts = [f"{listed([names[label] for label in absent])}."]
    for other, found in others:
        if number := sum(found[label] for label in absent):
            parts.append(f"{other.path.name} holds {number:,} of them, which will all be missed.")
    parts.append("Add frames of them" + ("." if label_map is None else ", or convert with"))
    if label_map:
        kept = [name for i in names if count[i] for name in label_map.types[i - 1]]
        parts.append(shlex.quote(f"--classes={','.join(kept)}"))  # names may have blanks
    yield Problem(NOT_LEARNT, one.path.name, " ".join(parts))


def _not_judged(
    one: InspectedSet,
    count: Counter[int],
    training: InspectedSet,
    learnt: Counter[int],
    names: dict[int, str],
) -> Iterator[Problem]:
    absent = [label for label in names if learnt[label] and not count[label]]
    if absent:
        there = [f"{names[label]}{NBSP}({learnt[label]:,})" for label in absent]
        what = (
            f"without {listed(there)} of {training.path.name}. Their AP cannot be measured, and "
            "the mean AP leaves them out. Convert with another --seed, a larger --val_fraction, or "
            "a --split_file of your own."
        )
        yield Problem(NOT_JUDGED, one.path.name, what)
