"""What was typed -> absl's flags; whatever is wrong with it is a UsageError of one line."""

import shutil
import sys
from collections.abc import Sequence

from absl import flags

from efficientdet.errors import UsageError, one_line
from efficientdet.wording import refilled


def parse(argv: Sequence[str]) -> list[str]:
    """Sets the flags, as absl's `flags_parser`; ends with exit code 0 after --help.

    A bare word that is no flag is an error too: absl would ignore it silently, and a forgotten
    `--` would go unseen.

    Raises:
        UsageError: an unknown flag, or a value that is none.
    """
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
    if len(rest) > 1:
        raise UsageError(f"unexpected argument {rest[1]!r}: flags are written --name=value")
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
