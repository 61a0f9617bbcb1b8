"""The first signal asks, the second one ends; the process's own handlers come back."""

import os
import pty
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from efficientdet.errors import Stopped
from efficientdet.training.interrupt import Interrupt

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_noted_and_the_work_goes_on(number: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in SIGNALS]
    with Interrupt() as interrupt:
        interrupt.stop_if_received()
        os.kill(os.getpid(), number)
        assert interrupt.received == number
        assert [signal.getsignal(each) for each in SIGNALS] == before  # a second one ends at once
        with pytest.raises(Stopped, match=f"stopped by {number.name}, everything is saved") as stop:
            interrupt.stop_if_received()
        assert stop.value.exit_code == 128 + number
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_without_a_signal_nothing_happens() -> None:
    before = [signal.getsignal(each) for each in SIGNALS]
    with pytest.raises(KeyError), Interrupt():
        assert [signal.getsignal(each) for each in SIGNALS] != before
        raise KeyError
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_where_nothing_is_unsaved_it_stops_at_once() -> None:
    reached = []
    with Interrupt() as interrupt:
        with pytest.raises(Stopped), interrupt.at_once():
            os.kill(os.getpid(), signal.SIGTERM)
            reached.append("the line after")
        assert not reached
        with pytest.raises(Stopped), interrupt.at_once():  # also one that came before
            reached.append("inside")
        assert not reached


def test_code_that_takes_every_exception_does_not_take_the_signal() -> None:
    with Interrupt() as interrupt, pytest.raises(Stopped), interrupt.at_once():
        with suppress(Exception):
            os.kill(os.getpid(), signal.SIGTERM)
    with Interrupt() as interrupt, pytest.raises(Stopped), interrupt.at_once():
        with suppress(BaseException):  # as Python does in a __del__
            os.kill(os.getpid(), signal.SIGTERM)


def test_afterwards_it_is_only_noted_again() -> None:
    with Interrupt() as interrupt:
        with interrupt.at_once():
            pass
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.received == signal.SIGINT


@pytest.mark.parametrize("number", SIGNALS)
def test_the_second_signal_ends_the_process(number: signal.Signals) -> None:
    code = (
        "import os, signal\nfrom efficientdet.training.interrupt import Interrupt\n"
        f"with Interrupt():\n    for _ in range(2): os.kill(os.getpid(), {int(number)})\n"
        "    print('still here')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == -number and not done.stdout
    assert f"{number.name}: saving after this step; again: at once" in done.stderr


def test_a_third_signal_finds_what_the_second_one_set() -> None:
    """The runner's handler gives the second one the default action for those that follow."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        with Interrupt():
            os.kill(os.getpid(), signal.SIGTERM)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_nohup_stays_nohup() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
            assert interrupt.received is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_lost_terminal_does_not_stop_the_saving() -> None:
    """The step under way prints to a terminal that is gone, then all is saved."""
    code = (
        "import sys\nfrom efficientdet.training.interrupt import Interrupt\n"
        "with Interrupt() as interrupt:\n"
        "    print('ready', file=sys.stderr, flush=True)\n"
        "    while not interrupt.received: pass\n"
        "    print('step', flush=True)\n    print('step', file=sys.stderr, flush=True)\n"
        "sys.exit(7)"
    )
    terminal, of_child = pty.openpty()
    child = subprocess.Popen([sys.executable, "-c", code], stdout=of_child, stderr=of_child)
    os.close(of_child)
    assert b"ready" in os.read(terminal, 100)
    os.close(terminal)
    child.send_signal(signal.SIGHUP)
    assert child.wait(60) == 7
