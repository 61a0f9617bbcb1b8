"""What several processes that train one model hold against each other, and hand to each other."""

import dataclasses
from typing import Any

from efficientdet import backend, processes
from efficientdet.config import flatten
from efficientdet.input.record_set import RecordSet
from efficientdet.run import journal, record_prints
from efficientdet.run.checkpoints import Progress
from efficientdet.training.options import TrainOptions
from efficientdet.training.train_state import TrainState

_PATHS = ("model_dir", "train_file_pattern", "label_map_path", "ckpt", "backbone_ckpt")


def agree_on_command(options: TrainOptions) -> None:
    """Raises UserError where another process was started otherwise; paths may differ."""
    if processes.count() == 1:
        return
    flags = dataclasses.asdict(options)
    hparams = flatten(flags.pop("hparams"))
    for name in _PATHS:
        del flags[name]
    flags["val_file_pattern"] = bool(flags["val_file_pattern"])
    processes.agree(
        journal.this_command()["versions"]
        | {f"--{name}": value for name, value in flags.items()}
        | {f"--hparams={name}": value for name, value in hparams.items()}
        | {"devices": [backend.num_devices() // processes.count(), backend.device()]}
    )


def agree_on_records(records: RecordSet, validation: RecordSet | None) -> None:
    """Raises UserError where another process has other records; their places may differ."""
    if processes.count() > 1:
        sets = {"training": records, "validation": validation}
        processes.agree({f"{name} records": one and _facts(one) for name, one in sets.items()})


def _facts(records: RecordSet) -> dict[str, Any]:
    prints = record_prints.fingerprint(records)
    return {
        "files": [f"{one['num_bytes']} bytes, SHA-256 {one['sha256'][:16]}" for one in prints],
        "images": records.num_examples,
        "classes": str(records.label_map),
    }


def follow_writer(state: TrainState, progress: Progress) -> Progress:
    """Gives every process the writer's state; returns where the writer is."""
    if processes.count() == 1:
        return progress
    arrays = processes.from_writer(state.arrays)
    place = processes.from_writer(lambda: dataclasses.asdict(progress))
    if processes.is_writer():
        return progress
    state.load(arrays)
    return Progress(**place)
