"""The memory table's estimate beside what XLA itself says of the compiled step.

    python -m benchmarks.step_memory --rows=512x512:1,512x512:4,512x512:16

The step is compiled by JAX and not run, so that a big row needs no big machine: each row is a
process of its own and takes 4 GB and 110 s of CPU for D0, whatever its size.

On a CPU, XLA keeps float32 whatever is asked for, copies where layouts differ, computes the
gradient of a depthwise kernel as that of a full one, and drops the barriers that hold a
recomputation back until it is needed: hold float32 rows against it, and none of `:remat`.
"""

import json
import os
import subprocess
import sys

from efficientdet.commands import runner  # isort: skip (says what is not installed)
from absl import flags

from efficientdet.errors import UsageError, UserError

MODEL = flags.DEFINE_string("model_name", "efficientdet-d0", "Model.")
ROWS = flags.DEFINE_list(
    "rows", ["512x512:1", "512x512:4", "512x512:16"], "width x height : batch (: remat)."
)
HPARAMS = flags.DEFINE_string("hparams", "num_classes=3", "Network.")
OF_XLA = flags.DEFINE_bool("of_xla", False, "Print XLA's bytes alone (in a process with JAX).")
# Compile fast rather than well: buffers are assigned before that.
FAST = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def main() -> None:
    if OF_XLA.value:
        print(json.dumps([compiled_bytes(row) for row in ROWS.value]))
        return
    environment = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": FAST}
    for row in ROWS.value:
        config_of(row)  # a row that is none is told before the first is compiled
    for row in ROWS.value:
        words = [sys.executable, "-m", "benchmarks.step_memory", *sys.argv[1:]]
        child = subprocess.run(
            [*words, f"--rows={row}", "--of_xla"],
            stdout=subprocess.PIPE, text=True, env=os.environ | environment, check=False,
        )  # fmt: skip
        if child.returncode:
            raise UserError(f"--rows={row}: its process ended with exit code {child.returncode}")
        estimated, (found,) = estimated_bytes(row) / 1e9, json.loads(child.stdout)
        ratio = estimated / (found / 1e9)
        print(
            f"{row}: estimate {estimated:.2f} GB, XLA {found / 1e9:.2f} GB, {ratio:.2f}",
            flush=True,
        )


def config_of(row: str):
    """(configuration, batch size) of `width x height : batch : remat`."""
    from efficientdet.config import Config, parse_hparams

    size, batch_size, *remat = row.split(":") if ":" in row else (row, "")
    if not batch_size.isdecimal() or remat not in ([], ["remat"]):
        raise UsageError(f"--rows={row}: expected 512x512:4 or 512x512:4:remat")
    values = parse_hparams(HPARAMS.value) | {"image_size": size, "grad_checkpoint": bool(remat)}
    return Config.for_model(MODEL.value).override(values), int(batch_size)


def estimated_bytes(row: str) -> int:
    """What `efficientdet.commands.memory` says."""
    from efficientdet.training.memory import estimate

    config, batch_size = config_of(row)
    return estimate(config).total(batch_size)


def compiled_bytes(row: str) -> int:
    """What `memory_analysis()` says of the step, compiled in this process by JAX."""
    from benchmarks.gpu.step_program import lower, made_up_batch, program_bytes
    from efficientdet.training.engine import TrainingEngine

    config, batch_size = config_of(row)
    lowered, _ = lower(TrainingEngine(config), made_up_batch(config, batch_size))
    return program_bytes(lowered.compile())


if __name__ == "__main__":
    runner.run(main)
