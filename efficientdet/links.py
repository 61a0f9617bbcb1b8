"""The connections between the processes of one training: where they meet, and who falls silent.

Process 0 listens; each other process keeps one connection to it. JAX's own connection to its
coordinator goes through the same port: JAX ends a process from C++, in the midst of whatever it
does, when that connection breaks, so on this side it never does.
"""

import json
import os
import socket
import struct
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

from efficientdet.errors import UserError

VALUE, FAILED, LEFT, _BEAT = b"v", b"f", b"l", b"."
SILENCE = 60.0  # seconds without a sign of life, after which a process is lost
_BEAT_EVERY = 5.0
_HEAD = struct.Struct("!cQ")  # kind of a message, bytes in it
_CHUNK = 2**20
_GREETING = 2**12  # bytes at most: whoever finds the port may connect
_RETRY = 0.2


@dataclass(frozen=True)
class Meeting:
    """Where the processes of a training meet.

    Attributes:
        host, port: of process 0, as the others reach it.
        count: processes there are.
        number: of this one, 0..count-1.
        seconds: to wait for the others.
    """

    host: str
    port: int
    count: int
    number: int
    seconds: float

    @property
    def place(self) -> str:
        """`host:port`."""
        return f"{self.host}:{self.port}"


class Link:
    """A connection over which whole messages go.

    Attributes:
        number, host: of the process at its other end.
        values: what came, in order; None: nothing more will.
        left: set when that process has ended as agreed.
    """

    def __init__(self, connection: socket.socket, number: int, host: str):
        self.number, self.host = number, host
        self.values: SimpleQueue[bytes | None] = SimpleQueue()
        self.left = threading.Event()
        self._socket, self._sending = connection, threading.Lock()
        connection.settimeout(SILENCE)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __str__(self) -> str:
        return f"process {self.number} on {self.host}"

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        """Raises OSError where nobody takes it."""
        with self._sending:
            self._socket.sendall(_HEAD.pack(kind, len(payload)))
            for start in range(0, len(payload), _CHUNK):  # a timeout is that of one call
                self._socket.sendall(payload[start : start + _CHUNK])

    def wait_at_most(self, seconds: float | None) -> None:
        """For each sign of life."""
        self._socket.settimeout(seconds)

    def receive(self, at_most: int | None = None) -> tuple[bytes, bytes]:
        """(kind, payload) of the next message that is no mere sign of life.

        Raises:
            OSError: the connection is broken, or silent.
        """
        while True:
            kind, size = _HEAD.unpack(self._exactly(_HEAD.size))
            if at_most is not None and size > at_most:
                raise ConnectionError("no message of ours")
            payload = self._exactly(size)
            if kind != _BEAT:
                return kind, payload

    def keep_beating(self) -> None:
        """Gives signs of life until the connection breaks."""
        with suppress(OSError):
            while not self.left.wait(_BEAT_EVERY):
                self.send(_BEAT)

    def close(self) -> None:
        """Breaks it."""
        self.left.set()
        self._socket.close()

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self._socket.recv(min(size - len(data), _CHUNK))
            if not part:
                raise ConnectionError("closed")
            data += part
        return bytes(data)


def meet(meeting: Meeting) -> tuple[list[Link], str]:
    """Waits for the others.

    Returns:
        A link to each of them in process 0, in their order, elsewhere one to process 0; the
        address, `127.0.0.1:port`, at which JAX is to offer or to find its coordinator.

    Raises:
        UserError: one does not come in time, has a number that is not its own, or the port is
            not to be had.
    """
    # gRPC would ask a proxy for the way to this very host.
    os.environ.setdefault("no_grpc_proxy", "127.0.0.1")
    if meeting.number == 0:
        return _receive_all(meeting)
    return [_join(meeting)], _start_tunnel(meeting)


def _receive_all(meeting: Meeting) -> tuple[list[Link], str]:
    try:
        listener = _listen(meeting.port)
    except OSError as error:
        raise UserError(
            f"--coordinator={meeting.place}: process 0 cannot listen on port {meeting.port}: "
            f"{error.strerror}; take another port, in every process"
        ) from None
    links: dict[int, Link] = {}
    end = time.monotonic() + meeting.seconds
    while len(links) < meeting.count - 1:
        link, hello = _next_caller(listener, end)
        if link is None:
            missing = [i for i in range(1, meeting.count) if i not in links]
            raise UserError(
                f"--coordinator={meeting.place}: within {meeting.seconds:g} s no process came with "
                f"--process_id={' or '.join(map(str, missing))} (of --num_processes="
                f"{meeting.count}); start it with the same command, and see that its host reaches "
                "this port"
            )
        line = _objection(hello, meeting, links)
        if line:
            with suppress(OSError):
                link.send(FAILED, line.encode())
            for other in links.values():
                with suppress(OSError):
                    other.send(FAILED, line.encode())
            raise UserError(line)
        links[link.number] = link
    for link in links.values():
        with suppress(OSError):  # whoever is gone again is noticed by its link
            link.send(VALUE, socket.gethostname().encode())
    with _listen(0, "127.0.0.1") as free:
        port = free.getsockname()[1]
    _start(_serve_tunnels, listener, port)
    return [links[number] for number in sorted(links)], f"127.0.0.1:{port}"


def _objection(hello: Mapping[str, Any], meeting: Meeting, links: Mapping[int, Link]) -> str | None:
    """Why a process cannot take part, in a line; None: it can."""
    number, who = hello["number"], f"the process on {hello['host']}"
    if hello["count"] != meeting.count:
        return (
            f"{who} says --num_processes={hello['count']}, process 0 says {meeting.count}: give "
            "every process the same"
        )
    if not 0 < number < meeting.count:
        return f"{who} says --process_id={number}: expected 1 ... {meeting.count - 1} there"
    if number in links:
        return (
            f"--process_id={number} came twice, from {links[number].host} and {hello['host']}: "
            f"give each process its own, 0..{meeting.count - 1}"
        )
    return None


def _next_caller(
    listener: socket.socket, end: float
) -> tuple[Link, dict[str, Any]] | tuple[None, None]:
    """The next process that greets as ours do; (None, None): none came in time."""
    while (left := end - time.monotonic()) > 0:
        listener.settimeout(left)
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            break
        link = Link(connection, -1, "?")
        hello = _greeting(link)
        if hello.get("kind") == "process":
            link.number, link.host = hello["number"], hello["host"]
            return link, hello
        link.close()
    return None, None


def _greeting(link: Link) -> dict[str, Any]:
    """What a caller says first; empty where it is none of ours."""
    link.wait_at_most(5)
    try:
        _, payload = link.receive(_GREETING)
        hello = json.loads(payload)
        if hello["kind"] == "process":
            hello = {"kind": "process", "host": str(hello["host"])} | {
                key: int(hello[key]) for key in ("number", "count")
            }
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    finally:
        link.wait_at_most(SILENCE)
    return hello


def _join(meeting: Meeting) -> Link:
    """The link to process 0."""
    end = time.monotonic() + meeting.seconds
    hello = {
        "kind": "process", "number": meeting.number, "count": meeting.count,
        "host": socket.gethostname(),
    }  # fmt: skip
    connection = _connect(meeting, end)
    link = Link(connection, 0, meeting.host)
    try:
        link.wait_at_most(max(1.0, end - time.monotonic()) + SILENCE)
        link.send(VALUE, json.dumps(hello).encode())
        kind, payload = link.receive()
    except OSError as error:
        raise UserError(
            f"--coordinator={meeting.place}: process 0 did not go on ({error}): see what it says, "
            "and start all again"
        ) from None
    if kind == FAILED:
        raise UserError(payload.decode())
    link.wait_at_most(SILENCE)
    link.host = payload.decode()
    return link


def _connect(meeting: Meeting, end: float) -> socket.socket:
    while True:
        try:
            return socket.create_connection(
                (meeting.host, meeting.port), max(0.1, min(10.0, end - time.monotonic()))
            )
        except socket.gaierror as error:
            raise UserError(
                f"--coordinator={meeting.place}: {meeting.host}: {error.strerror}; name the host "
                "of process 0 as this one knows it, or its address"
            ) from None
        except OSError as error:
            if time.monotonic() + _RETRY > end:
                raise UserError(
                    f"--coordinator={meeting.place}: not reached within {meeting.seconds:g} s "
                    f"({error.strerror or error}); start process 0 there, and see that this host "
                    "reaches that port"
                ) from None
        time.sleep(_RETRY)


def _listen(port: int, host: str = "") -> socket.socket:
    if host or not socket.has_dualstack_ipv6():
        return socket.create_server((host, port))
    return socket.create_server((host, port), family=socket.AF_INET6, dualstack_ipv6=True)


def _start(target: Any, *args: Any) -> None:
    threading.Thread(target=target, args=args, daemon=True).start()


def _start_tunnel(meeting: Meeting) -> str:
    """The address at which JAX finds its coordinator, though that is another host's."""
    listener = _listen(0, "127.0.0.1")
    _start(_serve_tunnel, listener, meeting)
    return f"127.0.0.1:{listener.getsockname()[1]}"


def _serve_tunnel(listener: socket.socket, meeting: Meeting) -> None:
    while True:
        near, _ = listener.accept()
        with suppress(OSError):
            far = socket.create_connection((meeting.host, meeting.port), SILENCE)
            far.settimeout(None)
            hello = json.dumps({"kind": "jax"}).encode()
            far.sendall(_HEAD.pack(VALUE, len(hello)) + hello)
            _start(_pump, near, far)
            # JAX would take the end of this one for its own end.
            _start(_pump, far, near, False)


def _serve_tunnels(listener: socket.socket, port: int) -> None:
    """In process 0: leads the others' JAX to its coordinator, which only this host can reach."""
    listener.settimeout(None)
    while True:
        connection, _ = listener.accept()
        link = Link(connection, -1, "?")
        if _greeting(link).get("kind") != "jax":
            with suppress(OSError):
                link.send(FAILED, b"the training has begun without this process; stop the others")
            link.close()
            continue
        with suppress(OSError):
            connection.settimeout(None)
            near = socket.create_connection(("127.0.0.1", port))
            _start(_pump, connection, near)
            _start(_pump, near, connection)


def _pump(source: socket.socket, target: socket.socket, closes: bool = True) -> None:
    """Hands on what comes."""
    with suppress(OSError):
        while data := source.recv(2**16):
            target.sendall(data)
    if closes:
        for one in (source, target):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
