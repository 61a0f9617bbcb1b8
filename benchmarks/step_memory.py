"""The memory table's estimate beside what XLA itself says of the compiled step.

    python -m benchmarks.step_memory --rows=512x512:1,512x512:4,512x512:4:remat

The step is compiled by JAX and not run, so that a big row needs no big machine. On a CPU XLA keeps
float32 whatever is asked for, and copies where layouts differ: compare float32 rows.
"""

import json
import os
import subprocess
import sys

from efficientdet.commands import runner  # isort: skip (says what is not installed)
from absl import flags

MODEL = flags.DEFINE_string("model_name", "efficientdet-d0", "Model.")
ROWS = flags.DEFINE_list(
    "rows", ["512x512:1", "512x512:4", "512x512:4:remat"], "width x height : batch (: remat)."
)
HPARAMS = flags.DEFINE_string("hparams", "num_classes=3", "Network.")
OF_XLA = flags.DEFINE_bool("of_xla", False, "Print XLA's bytes alone (in a process with JAX).")
# Compile fast rather than well: buffers are assigned before that.
FAST = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def main() -> None:
    if OF_XLA.value:
        for row in ROWS.value:
            print(json.dumps(compiled_bytes(row)), flush=True)
        return
    words = [sys.executable, "-m", "benchmarks.step_memory", *sys.argv[1:], "--of_xla"]
    env = os.environ | {"KERAS_BACKEND": "jax", "XLA_FLAGS": FAST}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=env) as child:
        for row, line in zip(ROWS.value, child.stdout, strict=False):
            estimated, found = estimated_bytes(row) / 1e9, json.loads(line) / 1e9
            print(
                f"{row}: estimate {estimated:.2f} GB, XLA {found:.2f} GB, {estimated / found:.2f}"
            )


def config_of(row: str):
    """(configuration, batch size) of `width x height : batch : remat`."""
    from efficientdet.config import Config, parse_hparams

    size, batch_size, *remat = row.split(":")
    values = parse_hparams(HPARAMS.value) | {"image_size": size, "grad_checkpoint": bool(remat)}
    return Config.for_model(MODEL.value).override(values), int(batch_size)


def estimated_bytes(row: str) -> int:
    """What `efficientdet.commands.memory` says."""
    from efficientdet.training.memory import estimate

    config, batch_size = config_of(row)
    return estimate(config).total(batch_size)


def compiled_bytes(row: str) -> int:
    """Arguments (the state is given on to the result), temporaries and the program's results."""
    import jax
    import numpy as np

    from efficientdet.training.engine import TrainingEngine
    from efficientdet.training.memory import MAX_INSTANCES

    config, batch_size = config_of(row)
    engine = TrainingEngine(config)
    inputs = {
        "images": np.zeros((batch_size, *config.image_hw, 3), np.float32),
        "boxes": np.zeros((batch_size, MAX_INSTANCES, 4), np.float32),
        "classes": np.zeros((batch_size, MAX_INSTANCES), np.int32),
        "step": np.float32(0),
        "learning_rate": np.float32(0),
    }
    step = jax.jit(engine.step._pure, donate_argnums=0)
    memory = step.lower(engine.state.read(), inputs).compile().memory_analysis()
    given_on = memory.alias_size_in_bytes
    results = memory.output_size_in_bytes - given_on
    return memory.argument_size_in_bytes + memory.temp_size_in_bytes + results


if __name__ == "__main__":
    runner.run(main)
