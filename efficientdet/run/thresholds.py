"""thresholds.json: by class, the score of best F1, and the checkpoint that it was found with."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from efficientdet.atomic import atomic_open
from efficientdet.checkpoint.identity import Identity, identify
from efficientdet.errors import UserError

FILE_NAME = "thresholds.json"
DEFAULT = 0.3  # where no evaluation has found a better threshold
LEAST_F1 = (
    0.1  # the best F1 of a class below it is chance: dozens of false boxes for one that is right
)


@dataclass(frozen=True)
class Thresholds:
    """Class name -> score, and whose they are; None in files that do not say."""

    scores: Mapping[str, float]
    checkpoint: Identity | None

    def write(self, path: Path) -> None:
        """Writes JSON that `read` reads."""
        of = self.checkpoint
        content = {"checkpoint": of.name, "step": of.step, "digest": of.digest} if of else {}
        with atomic_open(path) as file:
            json.dump({**content, "thresholds": dict(self.scores)}, file, indent=1)

    @classmethod
    def read(cls, path: Path) -> "Thresholds":
        """Reads a file of `write`, or an older one: the scores alone.

        Raises:
            UserError: neither.
        """
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(content.get("thresholds"), dict):
                return cls(_scores(content), None)
            of = Identity(content["checkpoint"], content["step"], content["digest"])
            return cls(_scores(content["thresholds"]), of)
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError,
                RecursionError) as error:  # fmt: skip
            raise UserError(
                f"{path}: not the thresholds of an evaluation ({error!r}); delete it, or write it "
                "anew with --mode=eval"
            ) from None


def _scores(values: Mapping[str, Any]) -> dict[str, float]:
    """Raises ValueError or TypeError where one is no number; NaN would draw nothing."""
    scores = {name: float(value) for name, value in values.items()}
    if not all(map(math.isfinite, scores.values())):
        raise ValueError("a score that is no finite number")
    return scores


def thresholds_of(path: str | Path, model_dir: Path) -> tuple[Mapping[str, float], str]:
    """Class name -> threshold of the checkpoint at `path`, and where they are from, in one line.

    They are looked for beside the checkpoint, in its own run and in `model_dir`. An older file,
    which does not say whose it is, is believed for what lies in `model_dir` itself, not for its
    archive. A class that is absent has `DEFAULT`, and so has each of a checkpoint without any.
    """
    wanted = identify(path)
    others = []
    for file in _places(Path(wanted.name).parent, model_dir):
        found = Thresholds.read(file)
        if found.checkpoint is None:
            if Path(wanted.name).parent == model_dir and file.parent == model_dir / "eval":
                return found.scores, f"score thresholds: {file}, which does not say whose it is"
        elif found.checkpoint.digest == wanted.digest:
            return found.scores, f"score thresholds: best F1 of {wanted}, from {file}"
        others.append(f"{file} is of {found.checkpoint or 'an unnamed checkpoint'}")
    reason = f"; {others[0]}" if others else ""
    return {}, f"score thresholds: {DEFAULT}, for want of an evaluation of {wanted}{reason}"


def _places(home: Path, model_dir: Path) -> Iterator[Path]:
    """Files that there are, in the order in which to believe them, each once."""
    run = home.parent if home.name == "archive" else home
    folders = [home, *(r / name for r in (run, model_dir) for name in ("eval", "archive"))]
    files = dict.fromkeys(folder / FILE_NAME for folder in folders)
    return (file for file in files if file.is_file())
