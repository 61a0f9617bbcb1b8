"""One case: its name, what came of it, and what counts as a clear message."""

import random
import re
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from benchmarks.campaign.scene import Scene
from efficientdet.errors import UserError

PASSED, REFUSED, SKIPPED = "passed", "refused", "skipped"
WRONG = ("traceback", "unclear", "difference", "left over", "hang", "crash")
_LONGEST_LINE, _LONGEST_LIST = 2000, 10_000
_QUOTED = re.compile(r"\S{200,}")  # an overlong word of the input is not the message's fault
# A message of several lines counts what it lists.
_LIST = re.compile(r"\d+ problem|not fit to train on")


class Wrong(Exception):
    """What a case found; `outcome` is one of WRONG."""

    def __init__(self, outcome: str, text: str):
        super().__init__(text)
        self.outcome = outcome


class Skip(Exception):
    """This machine cannot do the case (no permission to mount)."""


class Case(NamedTuple):
    """A kind and the number from which all of its chance comes."""

    kind: str
    number: int

    def __str__(self) -> str:
        return f"{self.kind}:{self.number}"


@dataclass(frozen=True)
class Result:
    """What came of a case: an outcome, and where it is wrong the reason."""

    case: Case
    outcome: str
    text: str = ""
    seconds: float = 0.0

    @property
    def is_wrong(self) -> bool:
        """Whether it counts as a failure."""
        return self.outcome in WRONG


# Does one case in an empty folder; returns whether the input was taken (None: so it was).
Kind = Callable[[random.Random, Scene, Path], None]


def run_case(case: Case, kind: Kind, scene: Scene) -> Result:
    """Does the case in a folder of its own, which is gone afterwards."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory(dir=scene.folder, prefix="case-") as name:
        outcome, text = _outcome(case, kind, scene, Path(name))
    return Result(case, outcome, text, time.monotonic() - start)


def _outcome(case: Case, kind: Kind, scene: Scene, folder: Path) -> tuple[str, str]:
    try:
        kind(random.Random(str(case)), scene, folder)
    except UserError as error:
        unclear = what_is_unclear(str(error))
        return ("unclear", f"{unclear}: {str(error)[:300]}") if unclear else (REFUSED, str(error))
    except Wrong as wrong:
        return wrong.outcome, str(wrong)
    except Skip as skip:
        return SKIPPED, str(skip)
    except OSError as error:
        # The commands make a line of it, if it says where.
        return ("traceback", _last_lines()) if error.filename is None else (REFUSED, str(error))
    except Exception:
        return "traceback", _last_lines()
    return PASSED, ""


def what_is_unclear(message: str) -> str | None:
    """What is wrong with an error text; None where a user can read it."""
    lines = message.splitlines()
    if not message.strip():
        return "an empty message"
    if "Traceback (most recent call last)" in message:
        return "a traceback in the message"
    if len(lines) > 1 and not _LIST.search(lines[0]):
        return f"{len(lines)} lines"
    size = len(_QUOTED.sub("...", message))
    if size > (_LONGEST_LIST if len(lines) > 1 else _LONGEST_LINE):
        return f"{size} characters"
    return None


def _last_lines() -> str:
    """The exception, and the project's own lines on the way to it."""
    text = traceback.format_exc()
    places = re.findall(r'File ".*?/(efficientdet/[^"]+)", line (\d+)', text)
    way = " < ".join(f"{file}:{line}" for file, line in reversed(places[-3:]))
    return f"{text.strip().splitlines()[-1][:300]} [{way}]"
