"""Several processes that train one model: what all of them agree on, and what one of them writes.

Process 0 is the writer: it alone reads and writes the run's folder, and what it decides the others
do. All take the same way through the program; where one of them must know what another does, they
exchange a small value, in lockstep, beside the device. With one process none of this is there:
`from_writer(decide)` is `decide()`, `agree` is content, and nothing is sent.

A process that is lost, or ends for a reason of its own, ends all the others with one line.
"""

import atexit
import io
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import numpy as np

from efficientdet.console import console
from efficientdet.errors import Stopped, UserError, shown
from efficientdet.links import FAILED, LEFT, SILENCE, VALUE, Link, Meeting, meet

Value = TypeVar("Value")
GRACE = 10.0  # seconds that the main thread has to end in order once a process is lost
_LEAVING = 60.0  # seconds that process 0 waits for the others to be gone


class Company:
    """This process among the others.

    Args:
        links: in process 0 one to each other process, in their order; elsewhere one to process 0.
    """

    def __init__(self, meeting: Meeting, links: list[Link]):
        self.number, self.count, self.links = meeting.number, meeting.count, links
        self.known, self.over = threading.Event(), threading.Event()
        self.verdict = ""  # why all end
        self.parting: list[Callable[[], None]] = []
        self.has_parted = False
        self._lock = threading.Lock()
        for link in links:
            for work in (self._listen, Link.keep_beating):
                threading.Thread(target=work, args=(link,), daemon=True).start()

    def collect(self, payload: bytes) -> list[bytes] | None:
        """In process 0 the payloads of all, in their order; elsewhere None."""
        if self.number == 0:
            return [payload, *(self._take(link) for link in self.links)]
        self._give(payload)
        return None

    def spread(self, payload: bytes | None) -> bytes:
        """The payload of process 0."""
        if self.number:
            return self._take(self.links[0])
        self._give(payload)
        return payload

    def fail(self, line: str) -> None:
        """Tells the others that this process ends, and all with it."""
        self.over.set()
        with self._lock:
            self.has_parted, told = True, self.verdict or self.has_parted
        if not told:
            self._tell(line)

    def part(self) -> None:
        """Waits for all; from here on nobody waits for anybody."""
        self.collect(b"")
        self.spread(b"")
        self.has_parted = True
        for leave in self.parting:
            leave()
        if self.number:
            self._give(b"", LEFT)
            return
        for link in self.links:  # JAX's coordinator, which is here, may not end before they have
            link.left.wait(_LEAVING)

    def _give(self, payload: bytes, kind: bytes = VALUE) -> None:
        for link in self.links:
            try:
                link.send(kind, payload)
            except OSError:
                self._end()

    def _take(self, link: Link) -> bytes:
        payload = link.values.get()
        if payload is None:
            self._end()
        return payload

    def _end(self) -> None:
        self.known.wait(2 * SILENCE)
        raise UserError(self.verdict or "another process is gone: start all again")

    def _tell(self, line: str) -> None:
        for link in self.links:
            with suppress(OSError):
                link.send(FAILED, line.encode())

    def _listen(self, link: Link) -> None:
        """Takes in what comes over a link until its process ends."""
        try:
            while True:
                kind, payload = link.receive()
                if kind == VALUE:
                    link.values.put(payload)
                    continue
                link.left.set()
                if kind == FAILED:
                    self._lose(payload.decode(), link)
                return
        except OSError as error:
            how = "silent" if isinstance(error, TimeoutError) else "gone"
            self._lose(
                f"{link} is {how} (killed, out of memory, or its host or the network is down): "
                "start the same command again in every process, and it goes on from the newest "
                "checkpoint",
                link,
            )

    def _lose(self, line: str, link: Link) -> None:
        """Ends this process, in order if it can, because another one has ended."""
        link.left.set()
        with self._lock:
            if self.verdict or self.has_parted:
                return
            self.verdict = line if line.startswith("process ") else f"{link} ended: {line}"
        self.known.set()
        if self.number == 0:
            self._tell(self.verdict)
        for one in self.links:
            one.values.put(None)
        if not self.over.wait(GRACE):  # it waits for the device, and the device for who is gone
            with suppress(Exception):
                console.show_cursor(True)
            print(f"error: {self.verdict}", file=sys.stderr, flush=True)
            os._exit(1)


_company: Company | None = None


@contextmanager
def joined(meeting: Meeting | None) -> Iterator[str]:
    """While entered, this process is one of several; it leaves by `part`, or ends all of them.

    Yields the address at which JAX is to offer (process 0) or to find its coordinator.

    Raises:
        UserError: the others do not come, see `links.meet`; or one of them ended.
    """
    global _company
    if meeting is None:
        yield ""
        return
    links, address = meet(meeting)
    _company = company = Company(meeting, links)
    if meeting.number:
        print(
            f"process {meeting.number} of {meeting.count}: {links[0]} tells of the run", flush=True
        )
        console.quiet = True
    try:
        yield address
    except BaseException as error:
        company.fail(_line_of(error))
        # JAX would wait here for who does not come any more.
        atexit.register(_end_at_once, _exit_code(error))
        raise
    finally:
        company.over.set()
        _company = None


def count() -> int:
    """How many processes train."""
    return _company.count if _company else 1


def is_writer() -> bool:
    """Whether this is the process that reads and writes the run's folder."""
    return _company is None or _company.number == 0


def share_of(length: int) -> tuple[int, int]:
    """First and end of this process' part of so many things; process 0 has one if there is one."""
    if _company is None:
        return 0, length
    number, parts = _company.number, _company.count
    return -(-length * number // parts), -(-length * (number + 1) // parts)


def from_writer(decide: Callable[[], Value]) -> Value:
    """What process 0 decides, in every process; `decide` is called there alone.

    Args:
        decide: gives plain values as JSON has them (lists come as lists), or a dict of arrays.
    """
    if _company is None:
        return decide()
    if _company.number:
        return _unpack(_company.spread(None))
    value = decide()
    _company.spread(_pack(value))
    return value


def collect(value: Value) -> list[Value] | None:
    """In process 0 the values of all processes, in their order; elsewhere None."""
    if _company is None:
        return [value]
    payloads = _company.collect(_pack(value))
    return payloads and [_unpack(payload) for payload in payloads]


def most(number: int) -> int:
    """The largest of the numbers of all processes."""
    if _company is None:
        return number
    numbers = collect(number)
    return from_writer(lambda: max(numbers))


def agree(facts: Mapping[str, Any]) -> None:
    """Goes on when all processes have the same facts, JSON values by what they are called.

    Raises:
        UserError: one has others than process 0.
    """
    if _company is None:
        return
    for number, other in enumerate(collect(dict(facts)) or ()):
        for name in {**facts, **other}:
            ours, theirs = (json.dumps(one.get(name)) for one in (facts, other))
            if ours != theirs:
                raise UserError(
                    f"{_company.links[number - 1]} has {name}={shown(other.get(name))}, process 0 "
                    f"has {shown(facts.get(name))}: all need the same command and the same records"
                )
    from_writer(lambda: None)


def at_parting(leave: Callable[[], None]) -> None:
    """`leave` is called by `part` when all are there, and not where a process is lost."""
    if _company is not None:
        _company.parting.append(leave)


def part() -> None:
    """Waits until all processes are done; from here on each ends by itself."""
    if _company is not None:
        _company.part()


@contextmanager
def blamed() -> Iterator[None]:
    """Inside it, an error that comes of another process' end becomes a UserError that says so."""
    try:
        yield
    except UserError:
        raise
    except Exception:
        if _company is None or not _company.known.wait(GRACE / 2):
            raise
        verdict = _company.verdict
    else:
        return
    raise UserError(verdict)


def _pack(value: Any) -> bytes:
    """JSON, or, of a dict of arrays, an npz file."""
    if isinstance(value, dict) and value and all(isinstance(x, np.ndarray) for x in value.values()):
        file = io.BytesIO()
        np.savez(file, **value)
        return file.getvalue()
    return json.dumps(value).encode()


def _unpack(payload: bytes) -> Any:
    if payload.startswith(b"PK"):
        with np.load(io.BytesIO(payload), allow_pickle=False) as stored:
            return dict(stored)
    return json.loads(payload)


def _line_of(error: BaseException) -> str:
    """What the others are told of how this process ended."""
    if isinstance(error, KeyboardInterrupt):
        return f"stopped by {signal.Signals(error.args[0]).name}" if error.args else "interrupted"
    if isinstance(error, UserError | Stopped):
        return str(error)
    return f"{type(error).__name__}: {error}".partition("\n")[0]


def _exit_code(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return 128 + (error.args[0] if error.args else signal.SIGINT)
    return getattr(error, "exit_code", 1)


def _end_at_once(exit_code: int) -> None:
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(exit_code)
