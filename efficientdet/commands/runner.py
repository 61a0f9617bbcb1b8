"""How every command starts and ends: quiet libraries, one clear line on a user's error."""

from efficientdet.commands import early_interrupt  # isort: skip  # noqa: F401 (before what is slow)

import dataclasses
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any, NoReturn, TypeVar

# Before TensorFlow is imported anywhere: its C++ chatter hides our own lines. With a GPU its errors
# stay, without one they speak of nothing that concerns the user.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2" if shutil.which("nvidia-smi") else "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

from efficientdet.commands import prompt_exit  # isort: skip (the first to register at exit)
from efficientdet.commands import installed  # isort: skip  # noqa: F401 (before what may be missing)
from absl import app, flags

from efficientdet.console import ENDING, drop_lost_terminal, log_to_console
from efficientdet.errors import Stopped, UsageError, UserError, one_line

Options = TypeVar("Options")


def run(main: Callable[[], None]) -> None:
    """Parses absl flags and calls `main()`; exit code 2 on bad usage, 1 on any `UserError`.

    A bare word that is no flag is an error too: absl would ignore it silently, and a forgotten
    `--` would go unseen. SIGINT, SIGTERM and SIGHUP end `main` by an exception, so that what is
    half done is cleaned up, and the command with 128 + the signal's number; a second one at once.
    """
    _on_signals(_interrupt)
    sys.unraisablehook = _unraisable
    try:
        app.run(lambda argv: _start(main, argv), flags_parser=_parse_flags)
    except UserError as error:
        _leave(f"error: {error}", error.exit_code)
    except Stopped as stop:
        _leave(str(stop), stop.exit_code)
    except KeyboardInterrupt as error:
        number = error.args[0] if error.args else signal.SIGINT
        line = "interrupted" if number == signal.SIGINT else f"stopped by {number.name}"
        _leave(line, 128 + number)
    except BrokenPipeError:  # `command | head` is no error of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # full or read-only disk, no permission
        _leave(f"error: {error.filename or 'cannot write'}: {error.strerror or error}", 1)
    finally:
        _on_signals(signal.SIG_DFL)  # an exception would end no better while Python shuts down
        prompt_exit.after(sys.exception())


def options(kind: type[Options], **computed: Any) -> Options:
    """The options object of a command: each field of `kind` has the value of the flag of its name.

    Args:
        kind: a dataclass.
        computed: fields that are not as typed.
    """
    names = [field.name for field in dataclasses.fields(kind) if field.name not in computed]
    return kind(**{name: flags.FLAGS[name].value for name in names}, **computed)


def _parse_flags(argv: Sequence[str]) -> list[str]:
    try:
        rest = flags.FLAGS(argv)
    except flags.UnrecognizedFlagError as error:
        raise UsageError(_unknown_flag(error, argv)) from None
    except flags.Error as error:
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


def _on_signals(handler: Callable | signal.Handlers) -> None:
    for number in ENDING:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, and a shell's background
            signal.signal(number, handler)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    _on_signals(signal.SIG_DFL)
    drop_lost_terminal()
    raise KeyboardInterrupt(signal.Signals(number))  # no `except Exception` on the way takes it


def _unraisable(dropped: Any) -> None:
    """Sends a signal again that came within a __del__ or a callback of the garbage collector.

    Python drops what is raised there; JAX has such a callback, in which many a Ctrl-C ends up.
    """
    error = dropped.exc_value
    if isinstance(error, KeyboardInterrupt) and error.args:
        _on_signals(_interrupt)
        again = threading.Timer(0.1, os.kill, (os.getpid(), error.args[0]))
        again.daemon = True
        again.start()
    elif not isinstance(error, Stopped):  # of which whoever raised it knows
        sys.__unraisablehook__(dropped)


def _leave(line: str, exit_code: int) -> NoReturn:
    print(line, file=sys.stderr)
    sys.exit(exit_code)
