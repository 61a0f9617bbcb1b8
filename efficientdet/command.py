"""How every command starts and ends: quiet libraries, one clear line on a user's error."""

import os
import sys
from collections.abc import Callable, Sequence

# Before TensorFlow is imported anywhere: its C++ start-up chatter hides our own lines.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

from absl import app, flags

from efficientdet.errors import UsageError, UserError


def run(main: Callable[[], None]) -> None:
    """Parses absl flags and calls `main()`; exit code 2 on bad usage, 1 on any `UserError`.

    A bare word that is no flag is an error too: absl would ignore it silently, and a forgotten
    `--` would go unseen.
    """
    app.run(lambda argv: _guarded(main, argv), flags_parser=_parse_flags)


def _parse_flags(argv: Sequence[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        _fail(UsageError(f"{error}. Run with --help to see the flags."))


def _guarded(main: Callable[[], None], argv: Sequence[str]) -> None:
    try:
        if len(argv) > 1:
            raise UsageError(f"unexpected argument {argv[1]!r}: flags are written --name=value")
        main()
    except UserError as error:
        _fail(error)
    except BrokenPipeError:  # `command | head` is no error of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _fail(error: UserError) -> None:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
