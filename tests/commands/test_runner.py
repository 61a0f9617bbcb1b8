"""How a command ends, whatever happens in it: one line on stderr and an exit code."""

import os
import signal
import subprocess
import sys
import termios
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

COMMAND = '''"""Counts sheep.

    python sheep.py --count=3
"""
import os, signal, sys
from absl import flags
from efficientdet.commands import runner
from efficientdet.errors import Stopped, UsageError, UserError

flags.DEFINE_integer("count", 1, "How many.", lower_bound=1)
flags.DEFINE_enum("colour", "white", ["white", "black"], "Of the sheep.")

def main():
    exec(os.environ["BODY"])

runner.run(main)
'''
ENDS = {  # body: (exit code, stderr)
    "print('three sheep')": (0, ""),
    "raise UserError('barn: no sheep; buy some')": (1, "error: barn: no sheep; buy some\n"),
    "raise UsageError('--count is odd')": (2, "error: --count is odd\n"),
    "raise Stopped('stopped by SIGTERM, saved', 143)": (143, "stopped by SIGTERM, saved\n"),
    "raise KeyboardInterrupt": (130, "interrupted\n"),
    "os.kill(os.getpid(), signal.SIGINT)": (130, "interrupted\n"),
    """
import gc, threading
def lost(*_, gc=gc):  # as JAX has one; Python drops what is raised in it
    gc.callbacks.remove(lost_too)
    os.kill(os.getpid(), signal.SIGINT)
globals()["lost_too"] = lost
gc.callbacks.append(lost)
gc.collect()
threading.Event().wait(60)
""": (130, "interrupted\n"),
    "os.kill(os.getpid(), signal.SIGTERM)": (143, "stopped by SIGTERM\n"),
    "os.kill(os.getpid(), signal.SIGHUP)": (129, "stopped by SIGHUP\n"),
    "try: os.kill(os.getpid(), 15)\nexcept Exception: pass": (143, "stopped by SIGTERM\n"),
    "try: os.kill(os.getpid(), 15)\nfinally: print('cleaned up', file=sys.stderr)": (
        143,
        "cleaned up\nstopped by SIGTERM\n",
    ),
    "try: os.kill(os.getpid(), 15)\nfinally: os.kill(os.getpid(), 2)": (-2, ""),  # at once
    "try: os.kill(os.getpid(), 2)\nfinally: os.kill(os.getpid(), 1)": (-1, ""),
    "raise OSError(28, 'No space left on device')": (
        1,
        "error: cannot write: No space left on device\n",
    ),
    "open('/no/such/file')": (1, "error: /no/such/file: No such file or directory\n"),
}
FLAGS = {
    "--cuont=3": "Unknown command line flag 'cuont'. Did you mean: count.",
    "--count=x": "flag --count=x: invalid literal",
    "--count=0": "flag --count=0: 0 is not a positive integer",
    "--colour=red": "flag --colour=red: value should be one of <white|black>",
    "count=3": "unexpected argument 'count=3': flags are written --name=value",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, root: Path):
    """Runs the command with a body and flags."""
    script = tmp_path_factory.mktemp("command") / "sheep.py"
    script.write_text(COMMAND)

    def run(
        body: str, *flags: str, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, script, *flags],
            env={"BODY": body, "PATH": "", "PYTHONPATH": str(root)},
            stdout=stdout,
            stderr=stderr,
            text=True,
            check=False,
        )

    return run


def test_every_end_has_its_line_and_exit_code(run) -> None:
    with ThreadPoolExecutor(2) as pool:
        for done, (code, line) in zip(pool.map(run, ENDS), ENDS.values(), strict=True):
            assert (done.returncode, done.stderr) == (code, line)


def test_a_programmer_s_error_keeps_its_traceback(run) -> None:
    done = run("{}['sheep']")
    assert done.returncode == 1 and "KeyError: 'sheep'" in done.stderr


def test_bad_flags_are_usage_errors(run) -> None:
    with ThreadPoolExecutor(2) as pool:
        results = pool.map(lambda flag: run("print('ran')", flag), FLAGS)
        for done, line in zip(results, FLAGS.values(), strict=True):
            assert done.returncode == 2 and not done.stdout
            assert line in done.stderr and done.stderr.count("\n") == 1


def test_help_is_no_failure(run) -> None:
    done = run("", "--help")
    assert done.returncode == 0 and not done.stderr
    assert "python sheep.py --count=3" in done.stdout and "How many." in done.stdout


def test_a_terminal_breaks_lines_between_words(run) -> None:
    line = "train.record holds nothing that anybody could learn from; convert it once more"
    ours, terminal = os.openpty()
    termios.tcsetwinsize(terminal, (24, 40))
    with os.fdopen(ours, "rb", buffering=0) as shown:
        done = run(f"raise UserError({line!r})", stderr=terminal)
        os.close(terminal)
        lines = shown.read(1000).decode().splitlines()
    assert done.returncode == 1 and " ".join(lines) == f"error: {line}"
    assert len(lines) == 3 and max(map(len, lines)) <= 40


def test_a_closed_pipe_is_silent(run) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        done = run("print('sheep ' * 100_000)", stdout=stdout)
    assert done.returncode == 1 and not done.stderr


def test_ctrl_c_while_tensorflow_is_imported(tmp_path: Path, root: Path) -> None:
    """Its import takes seconds; a C++ module that is stopped turns the interrupt into its own."""
    script, kill = tmp_path / "sheep.py", "__import__('os').kill(0, 2)"
    script.write_text("from efficientdet.commands import runner, quiet_tensorflow\n")
    for slow in (kill, f"try: {kill}\nexcept BaseException as e: raise ImportError from e"):
        (tmp_path / "tensorflow.py").write_text(slow)
        done = subprocess.run(
            [sys.executable, script],
            env=os.environ | {"PYTHONPATH": f"{tmp_path}:{root}"},
            capture_output=True,
            text=True,
            check=False,
            process_group=0,
        )
        assert (done.returncode, done.stderr, done.stdout) == (130, "interrupted\n", "")


def test_other_errors_of_an_import_keep_their_traceback(root: Path) -> None:
    code = "from efficientdet.commands import runner\n{}['sheep']"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and "KeyError: 'sheep'" in done.stderr


def test_nohup_is_obeyed(run) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        done = run("os.kill(os.getpid(), signal.SIGHUP); print('goes on')")
    finally:
        signal.signal(signal.SIGHUP, before)
    assert (done.returncode, done.stdout) == (0, "goes on\n")


GOES = """
import atexit, threading
class Slow:
    def __del__(self):
        os.write(1, b"taken apart")
sys.modules["slow"] = Slow()
atexit.register(lambda: print("at exit"))
main_thread = threading.main_thread()
threading.Thread(target=lambda main=main_thread: (main.join(), print("thread"))).start()
"""


@pytest.mark.parametrize(
    ("end", "code"),
    [("", 0), ("raise UserError('no')", 1), ("sys.exit(3)", 3), ("raise KeyboardInterrupt", 130)],
)
def test_it_ends_at_once_and_loses_nothing(run, end: str, code: int):
    done = run(GOES + end)
    assert (done.returncode, done.stdout) == (code, "thread\nat exit\n")
