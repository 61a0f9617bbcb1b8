"""How long commands take to say something: `--help` of each, and main.py's first line and step."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks.material import Material
from benchmarks.timing import Limit, Row, Work, in_turns, run_process
from efficientdet.commands.flags import COMMANDS
from efficientdet.config_files import PROJECT


def rows(material: Material, turns: int) -> Iterator[Row]:
    """Each beside what Python or TensorFlow takes to start."""
    works = {"python": _process("-c", "pass"), "import tensorflow": _process("-c", _TENSORFLOW)}
    for command in COMMANDS:
        words = command.split()[1:]
        words = words if words[0] == "-m" else [str(PROJECT / words[0])]
        works[f"{words[-1].rpartition('/')[2]} --help"] = _process(*words, "--help")
    seconds = in_turns(works, turns)
    python = Limit("python", seconds.pop("python"))
    tensorflow = Limit("import tensorflow", seconds.pop("import tensorflow"))
    for name, value in seconds.items():
        yield Row("start_up", name, value, limit=python)
    for what in ("first line", "first step"):
        folder = material.folder / what.replace(" ", "_")
        seen = [_until(what, material, folder / str(turn)) for turn in range(turns)]
        middle = sorted(seen)[turns // 2]
        yield Row("start_up", f"main.py, {material.model}: {what}", middle, limit=tensorflow)


_TENSORFLOW = "import tensorflow"


def _process(*words: str) -> Work:
    return lambda: run_process([sys.executable, *words], PYTHONPATH=str(PROJECT))


def _until(what: str, material: Material, model_dir: object) -> float:
    """Seconds until main.py has shown something in a terminal, or has done a step."""
    words = [
        sys.executable, str(PROJECT / "efficientdet/main.py"), "--mode=train",
        f"--model_name={material.model}", f"--train_file_pattern={material.record}",
        f"--model_dir={model_dir}", f"--train_batch_size={material.batch_size}",
        f"--hparams=image_size={material.sizes[0]}", "--num_epochs=1", "--skip_preflight",
    ]  # fmt: skip
    is_line = what == "first line"
    pattern = re.compile(rb"[A-Za-z]{3}" if is_line else rb"step \d+/\d+")
    reader, writer = os.openpty() if is_line else os.pipe()
    start = time.perf_counter()
    with subprocess.Popen(
        words, stdout=writer, stderr=writer,
        env=os.environ | {"PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1"},
    ) as process, os.fdopen(reader, "rb", buffering=0) as said:  # fmt: skip
        os.close(writer)
        text = b""
        try:
            while not pattern.search(text):
                if not (more := said.read(4096)):
                    raise RuntimeError(f"main.py ended early: {text.decode(errors='replace')}")
                text += more
            return time.perf_counter() - start
        finally:
            process.kill()
