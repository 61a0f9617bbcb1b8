"""Every figure that needs a card, by JAX and without TensorFlow, in one command.

    python -m benchmarks.on_gpu --prepare=frames.npz --train_file_pattern=train.record
    python -m benchmarks.on_gpu --frames='frames-*.npz'
    python -m benchmarks.on_gpu --only=step,effdet --batches=4,8,16,32,64 --minutes=9
    python -m benchmarks.on_gpu --rehearse

The first, on the machine with the records, decodes frames and estimates memory; without what it
writes, --frames, there is no short training and no estimate beside the measured memory. --rehearse
does all parts with a network of three blocks on the CPU, to see that they run: its figures say
nothing.

After every row --out has figures.json and figures.md again, with one table for each part. Parts
that are not done again keep their rows there. What a job says besides lies in --out/logs.
"""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from efficientdet.commands import ending  # isort: skip (the first to register at exit)
from absl import app, flags

from benchmarks.gpu import frames, jobs
from benchmarks.gpu.device_limit import limit_environment
from benchmarks.gpu.results import JSON, MARKDOWN, Results, markdown
from benchmarks.gpu.settings import Settings
from efficientdet.commands import typed_flags
from efficientdet.config import Config
from efficientdet.config_files import PROJECT
from efficientdet.console import console, log_to_console
from efficientdet.errors import UsageError

PARTS = ("step", "effdet", "memory", "postprocess", "oom", "auto", "training")
ONLY = flags.DEFINE_list("only", list(PARTS), f"Parts to do, of {', '.join(PARTS)}.")
MINUTES = flags.DEFINE_float("minutes", 9.5, "Ends after so many, whatever is left.", 0.1)
JOB_MINUTES = flags.DEFINE_float("job_minutes", 3.0, "A job that takes longer is ended.", 0.1)
OUT = flags.DEFINE_string("out", "gpu_figures", "Folder of the figures.")
FRAMES = flags.DEFINE_string("frames", None, "Pattern of what --prepare wrote.")
MODELS = flags.DEFINE_list("models", "efficientdet-d0,efficientdet-d2", "The first in every part.")
SIZE = flags.DEFINE_string("size", "1280x384", "Input, width x height.")
BATCHES = flags.DEFINE_list("batches", "4,16,64", "Batch sizes of step and effdet, rising.")
SECONDS = flags.DEFINE_float("seconds", 3.0, "For which a figure is timed; training: 20 times.", 0)
LIMIT_GB = flags.DEFINE_float("limit_gb", 4.0, "Memory that oom and auto run out of.", 0.1)
AT_ONCE = flags.DEFINE_integer("at_once", None, "Jobs that get ready at once.", 1)
REHEARSE = flags.DEFINE_bool("rehearse", False, "Tiny, on the CPU.")
PREPARE = flags.DEFINE_string("prepare", None, "Write frames to NAME-0.npz, ... and end.")
RECORDS = flags.DEFINE_string("train_file_pattern", None, "Records for --prepare.")
COUNT = flags.DEFINE_integer("count", 120, "Frames for --prepare.", 2)
PART_MB = flags.DEFINE_float("part_mb", 48.0, "Size of a part of them at most.", 1)

TINY = {
    "hparams": "image_size=128x64,num_classes=3,fpn_num_filters=8,fpn_cell_repeats=1,"
    "box_class_repeats=0,max_level=4,num_scales=1,survival_prob=1.0",
    "seconds": 0.02,
    "tiny": True,
}
EFFDET_TINY = {"hparams": TINY["hparams"] + ",image_size=256x128"}
LIMITED = ("oom", "auto")
LIMITED_TINY = {"hparams": TINY["hparams"] + ",image_size=1280x384", "limit_gb": 1.2}
# Compile fast rather than well: of these jobs no speed is told, or none that means anything.
FAST_ON_CPU = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
FAST_ON_GPU = "--xla_gpu_autotune_level=0"


def main() -> None:
    """Prepares frames, or does the parts."""
    if PREPARE.value:
        _prepare(Path(PREPARE.value))
        return
    if unknown := [name for name in ONLY.value if name not in PARTS]:
        raise UsageError(f"--only={unknown[0]}: no such part; there are {', '.join(PARTS)}")
    if FRAMES.value:
        frames.size_of(FRAMES.value)  # it is there
    out = Path(OUT.value)
    settings = [one for one in _settings() if one.part in ONLY.value]
    for one in settings:
        one.config()  # a model or a size that is none is told before anything is started
    todo = [(one, _environment(one, out)) for one in settings]
    (out / "logs").mkdir(parents=True, exist_ok=True)
    results = Results(out, f"python -m benchmarks.on_gpu {shlex.join(sys.argv[1:])}", ONLY.value)
    at_once = AT_ONCE.value or max(1, (os.cpu_count() or 1) // 4)
    start = time.monotonic()

    def add(row) -> None:
        results.add(row)
        told = row.error or "done"
        console.print(
            f"{time.monotonic() - start:4.0f} s  {row.part}, {row.what}: {told}", markup=False
        )

    jobs.run(
        todo, add, logs=out / "logs", at_once=at_once, until=start + 60 * MINUTES.value,
        job_seconds=60 * JOB_MINUTES.value,
    )  # fmt: skip
    console.print("\n".join(markdown(results.rows)), soft_wrap=True, markup=False)
    console.print(f"in {out}: {JSON}, {MARKDOWN}", markup=False)


def _settings() -> Iterator[Settings]:
    """All jobs, the most telling first; memory after the steps that have compiled its programs."""
    models, sizes = MODELS.value, _batches()
    base = {"hparams": f"image_size={SIZE.value},num_classes=8", "seconds": SECONDS.value}
    limited, oom_batch, auto_batch = {"precision": "float32", "limit_gb": LIMIT_GB.value}, 32, 1
    if REHEARSE.value:
        models, sizes, base = models[:1], [2], TINY
        limited |= LIMITED_TINY
        oom_batch, auto_batch = 16, 4
    base |= {"frames": FRAMES.value}
    for part, more in (("step", {}), ("effdet", EFFDET_TINY if REHEARSE.value else {})):
        for model in models:
            yield Settings(part, model, batch_sizes=sizes, **base | more)
    yield Settings("training", models[0], batch_sizes=[min(16, sizes[-1])], **_of_frames(base))
    for part, batch in (("oom", oom_batch), ("auto", auto_batch)):
        yield Settings(part, models[0], batch_sizes=[batch], **base | limited)
    for model in models:
        yield Settings("step", model, batch_sizes=sizes, **base, precision="float32")
    yield Settings("postprocess", models[0], batch_sizes=sorted({1, min(16, sizes[-1])}), **base)
    for model in models:
        for precision, remat, batch in (
            ("float32", False, sizes[0]),
            ("bfloat16", False, sizes[min(1, len(sizes) - 1)]),
            ("bfloat16", True, sizes[min(1, len(sizes) - 1)]),
        ):
            more = {"precision": precision, "remat": remat}
            yield Settings("memory", model, batch_sizes=[batch], **base, **more)


def _of_frames(base: dict) -> dict:
    """For training: longer, at the size that the frames have."""
    found = base | {"seconds": 20 * base["seconds"]}
    if FRAMES.value:
        found["hparams"] += f",image_size={frames.size_of(FRAMES.value)}"
    return found


def _batches() -> list[int]:
    if not BATCHES.value or not all(size.isdecimal() and int(size) for size in BATCHES.value):
        raise UsageError(f"--batches={','.join(BATCHES.value)}: expected numbers like 4,16")
    return sorted({int(size) for size in BATCHES.value})


def _environment(settings: Settings, out: Path) -> dict[str, str]:
    """What the job's process starts with; programs that were compiled once are kept in --out."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, (str(PROJECT), os.environ.get("PYTHONPATH")))),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "JAX_COMPILATION_CACHE_DIR": str(out.resolve() / "cache"),
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }
    flags_of_xla = [os.environ.get("XLA_FLAGS", "")]
    if REHEARSE.value:
        environment |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "-1"}
        flags_of_xla.append(FAST_ON_CPU)
    elif settings.part in LIMITED and (card := _card_gb()):
        environment.pop("XLA_PYTHON_CLIENT_MEM_FRACTION", None)  # JAX refuses both names of it
        environment |= limit_environment(LIMIT_GB.value, card)
        flags_of_xla.append(FAST_ON_GPU)
    return environment | {"XLA_FLAGS": " ".join(flags_of_xla).strip()}


def _card_gb() -> float | None:
    """Memory of the first NVIDIA card; None without one."""
    ask = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(ask, capture_output=True, text=True, check=True).stdout
        return int(said.split()[0]) * 2**20 / 1e9
    except (OSError, ValueError, IndexError, subprocess.CalledProcessError):
        return None


def _prepare(target: Path) -> None:
    if not RECORDS.value:
        raise UsageError("--prepare needs --train_file_pattern, the records to take frames from")
    if target.suffix != ".npz":
        raise UsageError(f"--prepare={target}: expected a name that ends in .npz")
    os.environ["KERAS_BACKEND"] = "tensorflow"  # the estimate walks through its graph
    from efficientdet.commands import quiet_tensorflow  # noqa: F401

    models = MODELS.value[:1] if REHEARSE.value else MODELS.value
    values = {"image_size": SIZE.value}
    configs = [Config.for_model(model).override(values) for model in models]
    paths = frames.prepare(target, RECORDS.value, COUNT.value, PART_MB.value, configs)
    for path in paths:
        console.print(f"{path}: {path.stat().st_size / 1e6:.1f} MB", markup=False)


def _start() -> None:
    log_to_console()
    main()


if __name__ == "__main__":
    ending.run(lambda: app.run(lambda argv: _start(), flags_parser=typed_flags.parse))
