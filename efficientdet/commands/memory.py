"""The memory of a training step, for batches of 1 to 16 images.

    python -m efficientdet.commands.memory --model_name=efficientdet-d2 \\
        --image_size=1280x384

In float32, with mixed precision, and with rematerialised blocks besides. The figures are estimated
from the graph of a step; the workspace of cuDNN and the CUDA context (0.3 to 1 GB) come on top.

--measure runs real steps on the GPU that is there, each column in a process of its own; without a
GPU it shows the memory of that whole process.
"""

import dataclasses
import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

from efficientdet.commands import runner  # isort: skip (says what is not installed)
from absl import flags

from efficientdet.config import Config, parse_hparams
from efficientdet.errors import UsageError

MODES = {
    "float32": {},
    "mixed": {"mixed_precision": True},
    "mixed + remat": {"mixed_precision": True, "grad_checkpoint": True},
}
CPU_MODES = {"float32": {}, "float32 + remat": {"grad_checkpoint": True}}
FLAGS = flags.FLAGS


def main() -> None:
    """Prints the table."""
    overrides = parse_hparams(FLAGS.hparams) | {"num_classes": FLAGS.num_classes}
    if FLAGS.image_size:
        overrides["image_size"] = FLAGS.image_size
    config = Config.for_model(FLAGS.model_name).override(overrides)
    batch_sizes = _batch_sizes()
    from efficientdet.commands import quiet_tensorflow  # isort: skip  # noqa: F401
    import keras

    if keras.backend.backend() != "tensorflow" and not FLAGS.measure:
        raise UsageError("the estimate walks through TensorFlow's graph: unset KERAS_BACKEND")
    from rich.console import Console
    from rich.table import Table

    from efficientdet import backend

    column = _measured if FLAGS.measure else _estimated
    modes = CPU_MODES if FLAGS.measure and not backend.has_gpu() else MODES
    console, columns = Console(), []
    height, width = config.image_hw
    table = Table(title=f"{config.name} at {width}x{height}: GB in a training step")
    table.add_column("images in a micro-batch", justify="right")
    for name, changes in modes.items():
        table.add_column(name, justify="right")
        with console.status(f"{name} ..."):
            columns.append(column(dataclasses.replace(config, **changes), batch_sizes))
    for row, batch_size in enumerate(batch_sizes):
        table.add_row(str(batch_size), *(cells[row] for cells in columns))
    table.caption = "estimated from the graph, see --help"
    if FLAGS.measure:
        table.caption = f"measured: {keras.backend.backend()} on {backend.device()}" + (
            "" if backend.has_gpu() else ", the whole process"
        )
    console.print(table)


def _batch_sizes() -> list[int]:
    if not all(size.isdecimal() and len(size) < 10 and int(size) for size in FLAGS.batch_sizes):
        raise UsageError(f"--batch_sizes={','.join(FLAGS.batch_sizes)}: expected numbers like 1,2")
    return sorted(map(int, FLAGS.batch_sizes))


def _estimated(config: Config, batch_sizes: Sequence[int]) -> list[str]:
    from efficientdet.training.memory import estimate

    memory = estimate(config)
    return [f"{memory.total(batch_size) / 2**30:.1f}" for batch_size in batch_sizes]


def _measured(config: Config, batch_sizes: Sequence[int]) -> list[str]:
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=spawn) as pool:
        found = pool.submit(_measure, config, batch_sizes).result()
    return [f"{one[0] / 2**30:.1f}, {one[1]:.1f} img/s" if one else "does not fit" for one in found]


def _measure(config: Config, batch_sizes: Sequence[int]) -> list[tuple[int, float] | None]:
    """In a process of its own."""
    from efficientdet.commands import quiet_tensorflow  # isort: skip  # noqa: F401
    from efficientdet.console import console
    from efficientdet.training.memory import measure

    console.quiet = True  # the terminal is that of the process that waits
    return measure(config, batch_sizes)


if __name__ == "__main__":
    flags.DEFINE_string(
        "model_name", "efficientdet-d0", "efficientdet-d0 ... d7x, lite0 ... lite4."
    )
    flags.DEFINE_string(
        "image_size", None, "512 or 1280x384 (width x height); default: the model's."
    )
    flags.DEFINE_integer("num_classes", 8, "Classes.", lower_bound=1)
    flags.DEFINE_multi_string("hparams", [], "Hyper-parameters, as for main.py.")
    flags.DEFINE_list("batch_sizes", ["1", "2", "4", "8", "16"], "Images in a micro-batch.")
    flags.DEFINE_bool("measure", False, "Run real steps instead, on the GPU if there is one.")
    sys.exit(runner.run(main))
