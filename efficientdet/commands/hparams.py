"""Every hyper-parameter with its type, range, default and meaning, as a Markdown table.

python -m efficientdet.commands.hparams
python -m efficientdet.commands.hparams --output=docs/hparams.md
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

from efficientdet.commands import runner  # isort: skip (says what is not installed)
from absl import flags

from efficientdet.automl_names import FLAGS, HPARAMS
from efficientdet.commands import page
from efficientdet.config import Config
from efficientdet.hparam import type_name

# The first field of each section; they go on in the order of `Config`.
SECTIONS = {
    "name": "Model",
    "num_scales": "Anchors",
    "input_rand_hflip": "Input",
    "alpha": "Loss",
    "optimizer": "Optimisation",
    "mixed_precision": "Memory",
    "nms_configs": "Evaluation",
}
_BAR = "\\|"  # within a cell
HEAD = """\
# Hyper-parameters

Made from `efficientdet/config.py` by
`python -m efficientdet.commands.hparams --output=docs/hparams.md`.

`--hparams=key=value,key=value` or a YAML file sets them. `--model_name` gives size, backbone, BiFPN
and heads other defaults; below are those of efficientdet-d1. A list is written `1.0*2.0*0.5`, and
nothing `None`. The range `[0, 1)` holds 0 and does not hold 1; every number of a list lies in it.
The last column says whether google/automl has the name, and which other one stands for it there.
"""
HEADER = "| name | default | type | range | what it does | AutoML |\n|---|---|---|---|---|---|"


def markdown() -> str:
    """The text of docs/hparams.md."""
    return "\n".join([HEAD.rstrip(), *_rows(Config())]).rstrip() + "\n"


def _rows(declared: Any, prefix: str = "") -> Iterator[str]:
    for field in dataclasses.fields(declared):
        value, name = getattr(declared, field.name), prefix + field.name
        if name in SECTIONS:
            yield f"\n## {SECTIONS[name]}\n\n{HEADER}"
        if dataclasses.is_dataclass(value):
            yield from _rows(value, f"{name}.")
            continue
        cells = [
            f"`{name}`",
            f"`{_typed(value)}`",
            type_name(field.type),
            str(field.metadata["within"] or ""),
            field.metadata["meaning"],
            _of_automl(name),
        ]
        yield f"| {' | '.join(cell.replace('|', _BAR) for cell in cells)} |"


def _typed(value: Any) -> str:
    """As `--hparams` takes it."""
    return "*".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _of_automl(name: str) -> str:
    others = [other for other, rule in (HPARAMS | FLAGS).items() if rule.becomes == name]
    if name in HPARAMS:
        return ", ".join(["yes", *others])
    return ", ".join(others) or "ours"


def main() -> None:
    """Prints the tables, or writes them to `--output`."""
    page.deliver(markdown(), flags.FLAGS.output)


if __name__ == "__main__":
    flags.DEFINE_string("output", None, "File to write; default: the terminal.")
    runner.run(main)
