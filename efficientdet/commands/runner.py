"""How every command starts and ends: quiet libraries, one clear line on a user's error."""

from efficientdet.commands import early_interrupt  # isort: skip  # noqa: F401 (before what is slow)

import dataclasses
import os
import shutil
from collections.abc import Callable
from typing import Any, TypeVar

# Before TensorFlow is imported anywhere: its C++ chatter hides our own lines. With a GPU its errors
# stay, without one they speak of nothing that concerns the user.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2" if shutil.which("nvidia-smi") else "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

from efficientdet.commands import ending  # isort: skip (the first to register at exit)
from efficientdet.commands import installed  # isort: skip  # noqa: F401 (before what may be missing)
from absl import app, flags

from efficientdet.commands import typed_flags
from efficientdet.console import log_to_console

Options = TypeVar("Options")


def run(main: Callable[[], None]) -> None:
    """Parses absl flags and calls `main()`; exit code 2 on bad usage, 1 on any `UserError`.

    How it ends, `ending` says.
    """
    ending.run(lambda: app.run(lambda argv: _start(main), flags_parser=typed_flags.parse))


def options(kind: type[Options], **computed: Any) -> Options:
    """The options object of a command: each field of `kind` has the value of the flag of its name.

    Args:
        kind: a dataclass.
        computed: fields that are not as typed.
    """
    names = [field.name for field in dataclasses.fields(kind) if field.name not in computed]
    return kind(**{name: flags.FLAGS[name].value for name in names}, **computed)


def _start(main: Callable[[], None]) -> None:
    log_to_console()
    main()
