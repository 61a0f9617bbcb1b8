"""Stored weights -> a detector, by name, with a report of every variable."""

import dataclasses
import math
from collections.abc import Mapping

import keras
import numpy as np
from keras import ops

from efficientdet.checkpoint.class_rows import ClassMode, match_classes
from efficientdet.checkpoint.head_rows import AnchorShapes, HeadRows, level_scales
from efficientdet.checkpoint.pyramid_names import PyramidNames
from efficientdet.checkpoint.report import MIN_BACKBONE_SHARE, Outcome, RestoreReport
from efficientdet.checkpoint.stored import StoredWeights, read_weights
from efficientdet.config import MODELS, Config
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UserError
from efficientdet.model.detector import automl_names, part_of

_CLASS, _BOX = "class_net/class-predict", "box_net/box-predict"
_ROWS = ("pointwise_kernel", "bias")


def restore(
    model: keras.Model,
    path: str,
    config: Config,
    *,
    label_map: LabelMap | None = None,
    backbone_only: bool = False,
    classes: ClassMode = "auto",
    init_classes: bool = False,
    allow_partial: bool = False,
) -> RestoreReport:
    """Sets every variable of `model` that the checkpoint has, EMA values first.

    The heads' predictions are carried over row by row: an anchor by its octave and width / height,
    or from the one of the nearest shape, a class as `match_classes` says. BiFPN nodes are matched
    by level, so that a checkpoint of levels 3..7 also starts a pyramid of levels 2..7; the heads'
    BatchNorms of a new level begin as those of the nearest.

    Args:
        model: from `build_detector(config)`.
        path: a prefix, a folder, an archive or a .h5: published, of AutoML's programs, or of this
            project; with `backbone_only` also what `read_weights` takes for a backbone.
        label_map: names of the model's classes.
        backbone_only: leave BiFPN and heads alone.
        classes, init_classes: see `match_classes`.
        allow_partial: accept that less than 90 % of the backbone's weights are there.

    Returns:
        What became of each variable. Call its `require_complete()` before evaluating.

    Raises:
        UserError: unreadable, or too little of the backbone; the model is then unchanged.
    """
    stored = read_weights(path, config.backbone_name if backbone_only else None)
    here = PyramidNames(config.min_level, config.max_level)
    there = PyramidNames.of(stored.arrays) or here
    heads, notes = {}, []
    if not backbone_only:
        heads, notes = _head_rows(stored, config, label_map, classes, init_classes)
    variables = automl_names(model)
    outcomes, values, used = [], {}, set()
    for name, variable in variables.items():
        if backbone_only and part_of(name) != "backbone":
            continue
        stored_name = here.translate(name, there)
        is_copy = stored_name not in stored.arrays
        if is_copy:
            stored_name = there.nearest_head_norm(name)
        array = stored.arrays.get(stored_name) if stored_name else None
        outcome, value = _outcome(name, variable, array, heads.get(name))
        if is_copy and value is not None:
            outcome = dataclasses.replace(outcome, status="adapted", complete=False)
        outcomes.append(outcome)
        if value is not None:
            values[name] = value
            used.add(stored_name)
    left_over = sorted(stored.arrays.keys() - used)
    right_scale = None
    if not backbone_only:
        right_scale = _right_scale(stored, config)
        notes += _anchor_notes(config, there, right_scale)
    report = RestoreReport(
        stored.path, outcomes, left_over, stored.num_averaged, notes, right_scale
    )
    if report.backbone_share < MIN_BACKBONE_SHARE and not allow_partial:
        raise UserError(_too_little(report, config))
    for name, value in values.items():
        variables[name].assign(value)
    return report


def _outcome(
    name: str, variable: keras.Variable, array: np.ndarray | None, rows: HeadRows | None
) -> tuple[Outcome, np.ndarray | None]:
    """What becomes of one variable, and its new value if it gets one."""
    size = int(np.prod(variable.shape))
    if array is None:
        return Outcome(name, size, "absent", complete=False), None
    if rows and not rows.empty and array.shape[:-1] == tuple(variable.shape[:-1]):
        value = rows.carry(ops.convert_to_numpy(variable.value), array)
        same = rows.complete and np.array_equal(value, array)
        status = "restored" if same else "adapted"
        return Outcome(name, size, status, complete=rows.complete), value
    if rows or array.shape != tuple(variable.shape):
        return Outcome(name, size, "reinitialised", complete=False), None
    return Outcome(name, size, "restored", complete=True), array


def _head_rows(
    stored: StoredWeights,
    config: Config,
    label_map: LabelMap | None,
    mode: ClassMode,
    init_classes: bool,
) -> tuple[dict[str, HeadRows], list[str]]:
    """The rows for each variable of the two predictions, and sentences about them."""
    boxes = stored.arrays.get(f"{_BOX}/bias")
    logits = stored.arrays.get(f"{_CLASS}/bias")
    if boxes is None or logits is None:
        return {}, []
    here = AnchorShapes.of(config)
    num_stored = boxes.size // 4
    notes = []
    there = next((a for a in (stored.anchors, here) if len(a) == num_stored), AnchorShapes(()))
    exact, anchor_rows = here.matches(there), here.nearest(there)
    if len(exact) < len(here):
        begin = "are adapted: they start from the nearest" if anchor_rows else "start at random"
        notes.append(
            f"{len(exact)} of {len(here)} anchors have one of their octave and width/height "
            f"among the checkpoint's {num_stored}; the others' predictions {begin}"
        )
    matched = match_classes(
        config.num_classes,
        logits.size // num_stored,
        label_map,
        stored.label_map,
        mode=mode,
        init_classes=init_classes,
    )
    if matched.note:
        notes.append(matched.note)

    is_exact = len(exact) == len(here)

    def rows(channels: Mapping[int, int], count: int) -> HeadRows:
        return HeadRows(len(here), num_stored, anchor_rows | exact, channels, count, is_exact)

    class_rows = rows(matched.rows, config.num_classes)
    box_rows = rows({coordinate: coordinate for coordinate in range(4)}, 4)
    heads = {f"{_CLASS}/{leaf}": class_rows for leaf in _ROWS}
    return heads | {f"{_BOX}/{leaf}": box_rows for leaf in _ROWS}, notes


def _right_scale(stored: StoredWeights, config: Config) -> str | None:
    """`anchor_scale=4.0`, as the heads were trained with, where `config` has another.

    A box is predicted in units of its anchor: on another one it comes out too large or too small.
    """
    here, there = level_scales(config), stored.scales
    if there is None:  # a published one has no config.yaml beside it, but a row in the table
        table = Config().override(MODELS.get(config.name, {}))
        there = {} if stored.is_own else level_scales(table)
    shared = here.keys() & there.keys()
    if all(math.isclose(here[level], there[level], rel_tol=1e-3) for level in shared):
        return None
    # A level that is new takes the scale of the nearest.
    right = [there[min(there, key=lambda other: abs(other - level))] for level in here]
    return f"anchor_scale={'*'.join(map(str, right[:1] if len(set(right)) == 1 else right))}"


def _anchor_notes(config: Config, there: PyramidNames, right_scale: str | None) -> list[str]:
    """Sentences about levels and sizes that the checkpoint was not trained with."""
    notes = []
    if new := [str(level) for level in config.levels if level not in there.levels]:
        notes.append(
            f"new level {', '.join(new)}: the heads' BatchNorms begin as those of the nearest "
            "level, the BiFPN's nodes at random"
        )
    if right_scale:
        notes.append(
            f"trained with {right_scale}, here {config.anchor_scale}: boxes begin at another size"
        )
    return notes


def _too_little(report: RestoreReport, config: Config) -> str:
    backbones = sorted({n.split("/")[0] for n in report.left_over if part_of(n) == "backbone"})
    models = [name for name, table in MODELS.items() if table["backbone_name"] in backbones]
    found = f"it holds {', '.join(backbones)}" if backbones else "it holds no EfficientNet"
    hint = f" (--model_name={' or '.join(models)})" if models else ""
    return (
        f"{report.path}: only {report.backbone_share:.0%} of the weights of {config.backbone_name} "
        f"are in it; {found}{hint}. Take a checkpoint of {config.name}, or start from what there "
        "is with --allow_partial_ckpt"
    )
