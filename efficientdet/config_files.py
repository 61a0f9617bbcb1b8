"""Where the YAML files of hyper-parameters lie that a command line names."""

from pathlib import Path

from efficientdet.errors import UsageError

PROJECT = Path(__file__).resolve().parents[1]


def find_yaml(name: str) -> Path:
    """The file `name`, beside the caller first, then of the project, then in its configs/.

    Raises:
        UsageError: it is nowhere; says where it was looked for.
    """
    folders = list(dict.fromkeys((Path.cwd(), PROJECT, PROJECT / "configs")))
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    looked = f"; looked in {', '.join(map(str, folders))}" if not Path(name).is_absolute() else ""
    raise UsageError(
        f"{name}: No such file or directory; expected a YAML file of hyper-parameters{looked}"
    )
