"""The flags by which main.py is one of several processes that train one model."""

import os
import re
from collections.abc import Mapping

from absl import flags

from efficientdet.errors import UsageError
from efficientdet.links import Meeting

flags.disclaim_key_flags()  # they belong to the command that defines them
SLURM = "slurm"
_FIRST_PORT, _PORTS = 61440, 4096  # of which a job of SLURM takes one by its number


def define_flags() -> None:
    """`--coordinator`, `--num_processes`, `--process_id`, `--coordinator_timeout`."""
    flags.DEFINE_string(
        "coordinator", None,
        "Train in several processes (JAX backend), each on all GPUs that it sees: host:port, where "
        "process 0 runs and the others reach it; or `slurm`, for the tasks of an srun. Default: "
        "JAX_COORDINATOR_ADDRESS.",
    )  # fmt: skip
    flags.DEFINE_integer(
        "num_processes", None, "How many. Default: JAX_NUM_PROCESSES, else SLURM's.", lower_bound=1
    )
    flags.DEFINE_integer(
        "process_id", None, "Which of them this is, 0 ... num_processes - 1. Default: likewise.",
        lower_bound=0,
    )  # fmt: skip
    flags.DEFINE_integer(
        "coordinator_timeout", 300, "Seconds that processes wait for each other at the start.",
        lower_bound=1,
    )  # fmt: skip


def chosen() -> Meeting | None:
    """Where the processes meet; None: this one trains by itself.

    Raises:
        UsageError: half of it is said, or what cannot be.
    """
    values, environ = flags.FLAGS, os.environ
    address, name = values.coordinator, "--coordinator"
    if address is None and values.mode != "eval":
        address, name = environ.get("JAX_COORDINATOR_ADDRESS") or None, "JAX_COORDINATOR_ADDRESS"
    numbers = {"num_processes": "SLURM_NTASKS", "process_id": "SLURM_PROCID"}
    if address is None:
        for flag in numbers:
            if values[flag].value is not None:
                raise UsageError(f"--{flag} goes with --coordinator=host:port, of process 0")
        return None
    if values.mode == "eval":
        raise UsageError("--coordinator goes with --mode=train or train_and_eval: drop it here")
    if values.train_batch_size == "auto":
        raise UsageError(
            f"{name}={address}: --train_batch_size=auto tries what fits one process; say a number"
        )
    if os.environ.get("KERAS_BACKEND") != "jax":
        raise UsageError(
            f"{name}={address}: several processes train with the JAX backend: pip install jax (for "
            'an NVIDIA GPU "jax[cuda12]"), then KERAS_BACKEND=jax before the same command'
        )
    found = {flag: _number(flag, variable) for flag, variable in numbers.items()}
    for flag, number in found.items():
        if number is None:
            what = (
                "0 in one process, 1 in the next" if flag == "process_id" else "how many there are"
            )
            raise UsageError(f"{name}={address} needs --{flag}: {what}")
    count, number = found["num_processes"], found["process_id"]
    if not 0 <= number < count:
        raise UsageError(
            f"process_id={number}: expected 0 ... {count - 1}, as there are {count} processes"
        )
    host, port = _slurm_place(environ) if address == SLURM else _place(name, address)
    return Meeting(host, port, count, number, float(values.coordinator_timeout))


def _number(flag: str, variable: str) -> int | None:
    """Of the flag, else of JAX's variable, else of SLURM's."""
    if flags.FLAGS[flag].value is not None:
        return flags.FLAGS[flag].value
    for name in (f"JAX_{flag.upper()}", variable):
        if text := os.environ.get(name):
            if not re.fullmatch("[0-9]{1,6}", text):
                raise UsageError(f"{name}={text}: expected a whole number")
            return int(text)
    return None


def _place(name: str, address: str) -> tuple[str, int]:
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([^\s:/\[\]]+)):([0-9]{1,5})", address)
    if not match or not 0 < int(match[3]) < 2**16:
        raise UsageError(f"{name}={address}: expected host:port, such as gpu1:5000, or `slurm`")
    return match[1] or match[2], int(match[3])


def _slurm_place(environ: Mapping[str, str]) -> tuple[str, int]:
    """The first host of the step, and a port that is the step's."""
    nodes = environ.get("SLURM_STEP_NODELIST") or environ.get("SLURM_JOB_NODELIST")
    job, step = environ.get("SLURM_JOB_ID", ""), environ.get("SLURM_STEP_ID", "")
    # `node[003-010,12],other`: the first is node003.
    match = re.match(r"([^,\[]+)(?:\[([^],-]+))?", nodes or "")
    if not match or not job.isdecimal():
        raise UsageError(
            "--coordinator=slurm: this is no task of SLURM (no SLURM_JOB_ID, SLURM_STEP_NODELIST); "
            "start it by srun, or say host:port"
        )
    number = int(job) * 7 + (int(step) if step.isdecimal() else 0)
    return match[1] + (match[2] or ""), _FIRST_PORT + number % _PORTS
