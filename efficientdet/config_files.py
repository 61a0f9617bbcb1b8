"""Where the YAML files of hyper-parameters lie that a command line names."""

import os
from pathlib import Path

from efficientdet.errors import UsageError, said

PROJECT = Path(__file__).resolve().parents[1]


def find_yaml(name: str) -> Path:
    """The file `name`, beside the caller first, then of the project, then in its configs/.

    Raises:
        UsageError: it is nowhere; says where it was looked for.
    """
    folders = list(dict.fromkeys((Path.cwd(), PROJECT, PROJECT / "configs")))
    for folder in folders:
        if os.path.exists(folder / name):  # noqa: PTH110 (Path.exists raises at a long name)
            return folder / name
    looked = f"; looked in {', '.join(map(str, folders))}" if not Path(name).is_absolute() else ""
    raise UsageError(
        f"{said(name)}: No such file or directory; expected a YAML file of hyper-parameters{looked}"
    )
