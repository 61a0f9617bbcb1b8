"""How every command starts and ends: quiet libraries, one clear line on a user's error."""

from efficientdet.commands import early_interrupt  # isort: skip  # noqa: F401 (before what is slow)

import dataclasses
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

# Before TensorFlow is imported anywhere: its C++ chatter hides our own lines. With a GPU its errors
# stay, without one they speak of nothing that concerns the user.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2" if shutil.which("nvidia-smi") else "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

from efficientdet.commands import ending  # isort: skip (the first to register at exit)
from efficientdet.commands import installed  # isort: skip  # noqa: F401 (before what may be missing)
from absl import app, flags

from efficientdet.console import log_to_console
from efficientdet.errors import UsageError, one_line
from efficientdet.wording import refilled

Options = TypeVar("Options")


def run(main: Callable[[], None]) -> None:
    """Parses absl flags and calls `main()`; exit code 2 on bad usage, 1 on any `UserError`.

    A bare word that is no flag is an error too: absl would ignore it silently, and a forgotten
    `--` would go unseen. How it ends, `ending` says.
    """
    ending.run(lambda: app.run(lambda argv: _start(main, argv), flags_parser=_parse_flags))


def options(kind: type[Options], **computed: Any) -> Options:
    """The options object of a command: each field of `kind` has the value of the flag of its name.

    Args:
        kind: a dataclass.
        computed: fields that are not as typed.
    """
    names = [field.name for field in dataclasses.fields(kind) if field.name not in computed]
    return kind(**{name: flags.FLAGS[name].value for name in names}, **computed)


def _parse_flags(argv: Sequence[str]) -> list[str]:
    if sys.stdout.isatty() and any("-help" in word for word in argv):
        head = sys.modules["__main__"]  # absl breaks the flags' lines, and not those before them
        head.__doc__ = refilled(head.__doc__ or "", shutil.get_terminal_size().columns)
    try:
        rest = flags.FLAGS(argv)
    except flags.UnrecognizedFlagError as error:
        raise UsageError(_unknown_flag(error, argv)) from None
    except flags.Error as error:
        for name in flags.FLAGS:  # absl says that it must have a value other than None
            if f"Flag --{name} must have" in str(error):
                raise UsageError(f"--{name} is missing: {flags.FLAGS[name].help}") from None
        text = one_line(error).rstrip(" .?")  # absl has a line for each flag that is missing
        raise UsageError(f"{text}. Run with --help to see the flags.") from None
    except SystemExit:  # after --help, which absl takes for a failure
        sys.exit(0)
    for name in flags.FLAGS:
        if flags.FLAGS[name].value != flags.FLAGS[name].value:  # within no bounds and outside none
            raise UsageError(f"--{name}=nan: expected a number")
    return rest


def _unknown_flag(error: flags.UnrecognizedFlagError, argv: Sequence[str]) -> str:
    """One line; where a hyper-parameter was typed as a flag, how it is written."""
    from efficientdet.automl_names import HPARAMS
    from efficientdet.config import Config

    name, known = error.flagname, {*HPARAMS, *Config().to_dict()}
    key = name if name in known else name.removeprefix("no")
    if "hparams" not in flags.FLAGS or key not in known:
        return f"{one_line(error).rstrip(' .?')}. Run with --help to see the flags."
    words = [*argv, ""]
    place = next((i for i, word in enumerate(words) if word.lstrip("-") == name), None)
    _, _, value = str(error.flagvalue).partition("=")
    if not value and place is not None and not words[place + 1].startswith("-"):
        value = words[place + 1]
    value = value or ("true" if key == name else "false")
    return f"--{name} is no flag but a hyper-parameter: say --hparams={key}={value}"


def _start(main: Callable[[], None], argv: Sequence[str]) -> None:
    if len(argv) > 1:
        raise UsageError(f"unexpected argument {argv[1]!r}: flags are written --name=value")
    log_to_console()
    main()
