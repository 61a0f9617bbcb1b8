"""Where the weights lie that a path means; reads none of them, so that a typo is told at once."""

import re
from pathlib import Path

from efficientdet.checkpoint.bundle import INDEX_SUFFIX
from efficientdet.checkpoint.torch_file import SUFFIXES
from efficientdet.errors import UserError

FILES = (".h5", *SUFFIXES)
FORMS = "expected a prefix (efficientdet-d0/model), a folder or a .tar.gz of a TF checkpoint, a .h5"
_BUNDLE_FILE = re.compile(r"\.(index|meta|data-\d+-of-\d+)$")


def find_weights(path: Path, given: str) -> Path:
    """The file (.h5, .pth, an archive) or the bundle's prefix that `path` means.

    Raises:
        UserError: see `find_prefix`.
    """
    if path.is_file() and not _BUNDLE_FILE.search(path.name):
        return path
    if path.is_dir() and not any(path.glob(f"*{INDEX_SUFFIX}")):
        files = sorted(file for file in path.iterdir() if file.suffix in FILES)
        if len(files) > 1:
            raise several(given, [file.name for file in files])
        if files:
            return files[0]
    return find_prefix(path, given)


def find_prefix(path: Path, given: str) -> Path:
    """The bundle's path without suffix: `path` itself, or the newest in the folder `path`.

    A folder's `checkpoint` file decides; without one, a single bundle or the highest step does.

    Raises:
        UserError: there is none, or several that nothing tells apart.
    """
    if not path.is_dir():
        prefix = Path(_BUNDLE_FILE.sub("", str(path)))
        if Path(f"{prefix}{INDEX_SUFFIX}").exists():
            return prefix
        raise UserError(f"{given}: no such file or folder, nor {prefix}{INDEX_SUFFIX}; {FORMS}")
    named = _named_by_state_file(path)
    if named:
        return named
    prefixes = [Path(str(file)[: -len(INDEX_SUFFIX)]) for file in path.glob(f"*{INDEX_SUFFIX}")]
    steps = {int(match[1]): p for p in prefixes if (match := re.search(r"-(\d+)$", p.name))}
    if len(prefixes) == 1:
        return prefixes[0]
    if steps and len(steps) == len(prefixes):
        return steps[max(steps)]
    if prefixes:
        raise several(given, sorted(prefix.name for prefix in prefixes))
    raise UserError(f"{given}: no checkpoint in this folder (no *.index file); {FORMS}")


def several(given: str, names: list[str]) -> UserError:
    """The error that names them all."""
    listed = ", ".join(names)
    return UserError(f"{given}: holds several checkpoints ({listed}); name one of them")


def _named_by_state_file(folder: Path) -> Path | None:
    """What the file `checkpoint` names; its folder part may be of another machine."""
    state = folder / "checkpoint"
    if not state.is_file():
        return None
    text = state.read_text(encoding="utf-8", errors="replace")
    match = re.search(r'^model_checkpoint_path: "(.+)"', text, re.MULTILINE)
    prefix = folder / Path(match[1]).name if match else None
    try:
        return prefix if prefix and Path(f"{prefix}{INDEX_SUFFIX}").exists() else None
    except OSError:  # a name that is too long to be one
        return None
