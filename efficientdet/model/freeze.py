"""What is trained and what stays: by part, or by a pattern on AutoML's variable names."""

import re
from collections.abc import Collection
from dataclasses import dataclass

import keras

from efficientdet.config import Config
from efficientdet.errors import UsageError
from efficientdet.model.detector import PARTS, automl_name, automl_names, batch_norms, part_of


@dataclass(frozen=True)
class PartFreeze:
    """One row of the table: a part's trainable variables, and what its BatchNorm does."""

    part: str
    num_variables: int
    num_frozen: int
    batch_norm: str  # "batch statistics" or "moving statistics", and how many do otherwise


@dataclass(frozen=True)
class FreezeReport:
    """What `apply` froze.

    Attributes:
        frozen_names: trainable variables that receive no updates, by AutoML name.
        rows: one a part.
    """

    frozen_names: frozenset[str]
    rows: tuple[PartFreeze, ...]


def apply(
    model: keras.Model,
    config: Config,
    parts: Collection[str] = (),
    restored: Collection[str] | None = None,
) -> FreezeReport:
    """Chooses the variables that receive no updates, and sets the mode of every BatchNorm.

    Freezing masks gradients, as in AutoML: variables stay trainable for Keras, so that optimizer
    slots and checkpoints do not depend on it; what is frozen from the images on costs no backward
    pass. BatchNorm uses its moving statistics and leaves them alone (`frozen`) everywhere with
    `is_training_bn=False`, nowhere with `True`, and with `None` in the parts of which every
    variable is frozen. One that is new in a network from a checkpoint has no statistics to keep:
    it is never frozen.

    Args:
        model: from `build_detector`; a step compiled before must be compiled again.
        config: `var_freeze_expr` is matched from the start of a name (`re.match`), as in AutoML.
        parts: names of `PARTS` to freeze besides.
        restored: the variables that began with a checkpoint's values; None: there was none.

    Raises:
        UsageError: the pattern matches nothing, or nothing is left to train.
    """
    names = [name for name, variable in automl_names(model).items() if variable.trainable]
    frozen = {name for name in names if part_of(name) in parts}
    frozen |= _matching(config.var_freeze_expr, names)
    if len(frozen) == len(names):
        raise UsageError(f"var_freeze_expr={config.var_freeze_expr!r} leaves nothing to train")
    rows, whole = [], set()
    for part in PARTS:
        members = [name for name in names if part_of(name) == part]
        held = [name for name in members if name in frozen]
        if len(held) == len(members):
            whole.add(part)
        training = config.is_training_bn
        frozen_bn = part in whole if training is None else not training
        layers = [x for x in batch_norms(model) if part_of(automl_name(x.gamma)) == part]
        for layer in layers:
            is_new = restored is not None and automl_name(layer.moving_mean) not in restored
            layer.frozen = frozen_bn and not is_new
        mode = "moving statistics" if frozen_bn else "batch statistics"
        if frozen_bn and (num_new := sum(not layer.frozen for layer in layers)):
            mode += f", {num_new} of {len(layers)} new: batch statistics"
        rows.append(PartFreeze(part, len(members), len(held), mode))
    model.get_layer("detector").frozen_parts = frozenset(whole)
    return FreezeReport(frozenset(frozen), tuple(rows))


def _matching(pattern: str | None, names: list[str]) -> set[str]:
    if not pattern:
        return set()
    expression = re.compile(pattern)
    # AutoML matches TensorFlow 1's names, which end in `:0`.
    matching = {name for name in names if expression.match(f"{name}:0") or expression.match(name)}
    if not matching:
        raise UsageError(
            f"var_freeze_expr={pattern!r} matches no variable; it is matched from the start of "
            f"names such as {names[0]}, fpn_cells/cell_0/..., class_net/... and box_net/..."
        )
    return matching
