"""How a command ends, whatever happens in it; needs the standard library alone."""

from efficientdet.commands import prompt_exit  # isort: skip (the first to register at exit)

import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

from efficientdet.errors import Stopped, UserError
from efficientdet.signals import ENDING, drop_lost_terminal


def run(main: Callable[[], None], advice: str = "") -> None:
    """Calls `main()`; one line and exit code 2 on bad usage, 1 on any `UserError`.

    SIGINT, SIGTERM and SIGHUP end `main` by an exception, so that what is half done is cleaned up,
    and the command with 128 + the signal's number; a second one at once.

    Args:
        advice: what to do after that, such as `run the same command to go on`.
    """
    _on_signals(_interrupt)
    sys.unraisablehook = _unraisable
    try:
        main()
    except UserError as error:
        _leave(f"error: {error}", error.exit_code)
    except Stopped as stop:
        _leave(str(stop), stop.exit_code)
    except KeyboardInterrupt as error:
        number = error.args[0] if error.args else signal.SIGINT
        line = "interrupted" if number == signal.SIGINT else f"stopped by {number.name}"
        _leave(f"{line}; {advice}" if advice else line, 128 + number)
    except BrokenPipeError:  # `command | head` is no error of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # full or read-only disk, no permission
        _leave(f"error: {error.filename or 'cannot write'}: {error.strerror or error}", 1)
    finally:
        _on_signals(signal.SIG_DFL)  # an exception would end no better while Python shuts down
        prompt_exit.after(sys.exception())


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
    if sys.stderr.isatty():
        from efficientdet.wording import wrapped

        line = wrapped(line, os.get_terminal_size(sys.stderr.fileno()).columns or 80)
    print(line, file=sys.stderr)
    sys.exit(exit_code)
