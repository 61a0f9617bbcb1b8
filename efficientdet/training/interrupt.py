"""SIGINT, SIGTERM and SIGHUP as a wish that the loop grants between two steps."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

from efficientdet import processes
from efficientdet.errors import Stopped
from efficientdet.signals import ENDING, drop_lost_terminal


class Interrupt:
    """While entered, the first signal sets `received`; a second one ends the process at once."""

    SIGNALS = ENDING

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._saved = False
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> "Interrupt":
        for number in self.SIGNALS:
            if number.name != "SIGHUP" or signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def came_to_any(self) -> bool:
        """Whether a signal came, to this process or to another one of the training."""
        if number := processes.most(self.received or 0):
            self.received = signal.Signals(number)
        return number > 0

    def stop_if_received(self) -> None:
        """Call it when everything is saved.

        Raises:
            Stopped: a signal came; its exit code is the shell's, 128 + the signal's number.
        """
        if self.received:
            raise Stopped(
                f"stopped by {self.received.name}, everything is saved; the same command goes on "
                "from here",
                128 + self.received,
            )

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """For long work with nothing to save: a signal, also an earlier one, raises `Stopped`."""
        self.stop_if_received()
        self._saved = True
        try:
            yield
        finally:
            self._saved = False
        self.stop_if_received()  # it was raised, but where nothing gets out of (a __del__, say)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        self._restore()
        drop_lost_terminal()
        if self._saved:
            self.stop_if_received()
        # Not print: the signal may have come in the middle of one.
        os.write(2, f"\n{self.received.name}: saving after this step; again: at once\n".encode())

    def _restore(self) -> None:
        while self._previous:  # once: what a second signal has set since is not ours to change
            signal.signal(*self._previous.popitem())
