"""Several processes agree, exchange, part and end each other; on loopback, and without JAX."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

# What each of `count` processes does: `work` of the command line, with `processes` and `number`.
DRIVER = """
import os, signal, socket, sys, time
import numpy as np
from efficientdet import links, processes
from efficientdet.commands import ending
port, count, number, seconds, work = sys.argv[1:]
number = int(number)
meeting = links.Meeting("127.0.0.1", int(port), int(count), number, float(seconds))

def main():
    with processes.joined(meeting) as address:
        exec(work)

ending.run(main)
"""


@pytest.fixture
def port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


def start(
    root: Path, port: int, work: str, number: int, count: int = 2, seconds: float = 60
) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, *map(str, (port, count, number, seconds)), work],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(root)},
    )  # fmt: skip


def ends(started: Sequence[subprocess.Popen]) -> list[tuple[int, str, str]]:
    """(exit code, stdout without the line of greeting, stderr) of each."""
    told = [process.communicate(timeout=120) for process in started]
    return [
        (process.returncode, "".join(x for x in out.splitlines(True) if "tells of" not in x), err)
        for process, (out, err) in zip(started, told, strict=True)
    ]


def test_they_exchange_what_they_say(root: Path, port: int) -> None:
    work = """
import json
arrays = processes.from_writer(lambda: {"a/b": np.float32([[0.1, np.nan]])})
found = [
    processes.is_writer(), processes.count(), processes.share_of(4), processes.share_of(1),
    processes.most(number * 7), processes.from_writer(lambda: [0.1, float("inf"), None, number]),
    processes.collect({"n": number}), arrays["a/b"].dtype.name, arrays["a/b"].tobytes().hex(),
]
processes.agree({"x": 1, "y": [None]})
processes.part()
os.write(1, json.dumps(found).encode())
"""
    found = []
    for code, out, err in ends([start(root, port, work, number, 3) for number in range(3)]):
        assert (code, err) == (0, "")
        found.append(json.loads(out))
    said = [{"n": number} for number in range(3)]
    for number, one in enumerate(found):
        assert one[:2] == [number == 0, 3]
        assert one[4:6] == [14, [0.1, float("inf"), None, 0]]
        assert one[6] == (said if number == 0 else None)
        assert one[7:] == ["float32", "cdcccc3d0000c07f"]
    assert [one[2] for one in found] == [[0, 2], [2, 3], [3, 4]]  # all four, each once
    assert [one[3] for one in found] == [[0, 1], [1, 1], [1, 1]]  # the first one is the writer's


@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_process_ends_the_others_with_one_line(root: Path, port: int, lost: int) -> None:
    work = f"""
processes.most(0)
if number == {lost}:
    os.kill(os.getpid(), signal.SIGKILL)
processes.most(0)
"""
    for number, end in enumerate(ends([start(root, port, work, i, 3) for i in range(3)])):
        if number == lost:
            assert end[0] == -9
            continue
        code, out, err = end
        assert (code, out) == (1, "") and err.count("\n") == 1
        assert err.startswith(f"error: process {lost} on ") and " is gone (killed, " in err
        assert "start the same command again in every process" in err


def test_it_ends_them_also_where_they_wait_for_the_device(root: Path, port: int) -> None:
    """There no exception gets through: a lock that nobody opens stands for it."""
    work = """
processes.GRACE = 0.1
processes.most(0)
if number == 1:
    os.kill(os.getpid(), signal.SIGKILL)
import threading
lock = threading.Lock()
lock.acquire()
lock.acquire()
"""
    (code, _, err), _ = ends([start(root, port, work, number) for number in range(2)])
    assert code == 1 and err.startswith("error: process 1 on ") and err.count("\n") == 1


@pytest.mark.parametrize("error", ["processes.UserError('no room in a.txt')", "KeyboardInterrupt"])
def test_how_one_ends_the_others_are_told(root: Path, port: int, error: str) -> None:
    work = f"""
if number == 1:
    raise {error}
processes.most(0)
"""
    first, second = ends([start(root, port, work, number) for number in range(2)])
    line = "interrupted" if error == "KeyboardInterrupt" else "no room in a.txt"
    assert first[0] == 1 and first[2].startswith("error: process 1 on ")
    assert first[2].endswith(f" ended: {line}\n") and first[2].count("\n") == 1
    assert line in second[2]


def test_what_a_lost_process_breaks_is_blamed_on_it(root: Path, port: int) -> None:
    """The device's own error says only that a connection broke."""
    work = """
processes.most(0)
if number == 1:
    os.kill(os.getpid(), signal.SIGKILL)
with processes.blamed():
    raise ValueError("Gloo all-reduce failed")
"""
    (code, _, err), _ = ends([start(root, port, work, number) for number in range(2)])
    assert code == 1 and "process 1 on " in err and "Gloo" not in err and err.count("\n") == 1


def test_an_error_of_its_own_stays_what_it_is(root: Path, port: int) -> None:
    work = """
processes.GRACE = 0.1
processes.most(0)
if number == 0:
    with processes.blamed():
        raise ValueError("a bug")
processes.most(0)
"""
    first, second = ends([start(root, port, work, number) for number in range(2)])
    assert "ValueError: a bug" in first[2]
    assert second[2].endswith("ended: ValueError: a bug\n") and second[2].count("\n") == 1


def test_processes_that_were_started_otherwise_are_refused(root: Path, port: int) -> None:
    work = """
processes.agree({"--hparams=seed": 1, "--eval_samples": 3 + number})
"""
    for code, _, err in ends([start(root, port, work, number) for number in range(2)]):
        assert code == 1 and err.count("\n") == 1
        assert "process 1 on " in err and "has --eval_samples=4, process 0 has 3: all need" in err


def test_who_does_not_come_is_named_in_time(root: Path, port: int) -> None:
    alone = start(root, port, "", 0, count=3, seconds=0.5)
    ((code, _, err),) = ends([alone])
    assert code == 1 and err.count("\n") == 1
    assert "within 0.5 s no process came with --process_id=1 or 2 (of --num_processes=3)" in err


def test_a_port_where_nobody_listens_is_told_in_time(root: Path, port: int) -> None:
    ((code, _, err),) = ends([start(root, port, "", 1, seconds=0.5)])
    assert code == 1 and err.count("\n") == 1
    assert f"--coordinator=127.0.0.1:{port}: not reached within 0.5 s" in err


def test_a_port_in_use_is_told(root: Path, port: int) -> None:
    with socket.create_server(("", port)):
        ((code, _, err),) = ends([start(root, port, "", 0)])
    assert code == 1 and f"process 0 cannot listen on port {port}: Address already in use" in err


@pytest.mark.parametrize(
    ("others", "line"),
    [
        ([(1, 3)], "says --num_processes=3, process 0 says 4: give every process the same"),
        ([(1, 4), (1, 4)], "--process_id=1 came twice, from "),
    ],
)
def test_wrong_numbers_are_told_to_all_at_once(
    root: Path, port: int, others: list[tuple[int, int]], line: str
) -> None:
    """Of four processes the last never comes: nobody waits for it."""
    started = [start(root, port, "", 0, 4)]
    started += [start(root, port, "", number, count) for number, count in others]
    for code, _, err in ends(started):
        assert code == 1 and line in err and err.count("\n") == 1, err


def test_a_stranger_at_the_door_disturbs_nobody(root: Path, port: int) -> None:
    first = start(root, port, "processes.part()", 0)
    while first.poll() is None:
        try:
            stranger = socket.create_connection(("127.0.0.1", port))
        except OSError:
            continue
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        break
    for code, _, err in ends([first, start(root, port, "processes.part()", 1)]):
        assert (code, err) == (0, "")


def test_jax_reaches_its_coordinator_through_the_same_port_and_never_sees_it_end(
    root: Path, port: int
) -> None:
    """JAX would end the process by itself, from C++, before any line of ours."""
    work = """
host, own = address.split(":")
if number == 0:  # plays JAX's coordinator
    server = socket.create_server((host, int(own)))
    processes.most(0)
    caller, _ = server.accept()
    caller.sendall(caller.recv(5).upper())
    processes.most(0)
    os.kill(os.getpid(), signal.SIGKILL)
processes.most(0)
caller = socket.create_connection((host, int(own)))
caller.sendall(b"hello")
print(caller.recv(5))
processes.most(0)
with processes.blamed():
    caller.settimeout(2)
    try:
        print(caller.recv(5))
    except TimeoutError:
        print("nothing")
    processes.most(0)
"""
    _, (code, out, err) = ends([start(root, port, work, number) for number in range(2)])
    assert out == "b'HELLO'\nnothing\n" and code == 1 and "process 0 on " in err, (out, err)
