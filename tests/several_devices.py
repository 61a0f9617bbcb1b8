"""A network of three blocks trained on one device, on two, and by two processes; prints nothing.

    KERAS_BACKEND=jax python tests/several_devices.py FOLDER alone
    KERAS_BACKEND=jax python tests/several_devices.py FOLDER begin PORT NUMBER
    KERAS_BACKEND=jax python tests/several_devices.py FOLDER resume PORT NUMBER

`alone` (with two devices forced) leaves the runs `one` and `two_devices`. `begin` leaves `straight`
and then `disturbed`, in whose eighth step process 1 kills itself; `resume` goes on with that, and
in the tenth step process 1 is told to end. Three losses in a row are no numbers, by an image that
is process 1's.
"""

from efficientdet.commands import runner  # isort: skip  # noqa: F401 (C++ is to be quiet)
from efficientdet.commands import quiet_tensorflow  # isort: skip  # noqa: F401

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from efficientdet import backend, mesh, processes
from efficientdet.commands import ending
from efficientdet.config import Config
from efficientdet.links import Meeting
from efficientdet.model import efficientnet
from efficientdet.run.checkpoints import CheckpointManager
from efficientdet.training.engine import TrainingEngine
from efficientdet.training.together import follow_writer
from efficientdet.training.trainer import Plan, Trainer

efficientnet.STAGES = tuple(
    efficientnet.Stage(*stage) for stage in ((3, 1, 1, 1, 4), (3, 1, 2, 1, 4), (3, 1, 2, 2, 8))
)
efficientnet.STEM_FILTERS = 8
SMALL = {
    "backbone_name": "efficientnet-tiny", "survival_prob": 1.0, "fpn_num_filters": 8,
    "image_size": 64, "num_classes": 2, "fpn_cell_repeats": 1, "box_class_repeats": 0,
    "max_level": 4, "num_scales": 1, "learning_rate": 0.5, "seed": 3,
}  # fmt: skip
BATCH, MICRO_BATCHES, STEPS, SAVED = 4, 2, 12, 5
KILLED, ENDED = 7, 9  # steps done before the one in which it happens
FOLDER = Path(sys.argv[1])


def image(number: int) -> dict[str, np.ndarray]:
    """One row of a batch, by its number alone."""
    rng = np.random.default_rng(number)
    return {
        "images": rng.normal(size=(64, 64, 3)).astype(np.float32),
        "boxes": np.float32([[10, 20, 50, 60], [0, 40, 60, 60]]) + number % 4,
        "classes": np.int32([1 + number % 2, -1]),
        "source_id": np.array(f"{number:06d}".encode()),
    }


class Run:
    """Starts on one folder, each with a stream of batches that is new."""

    def __init__(self, engine: TrainingEngine, name: str):
        self._engine, self._streams = engine, 0
        checkpoints = CheckpointManager(FOLDER / name)
        plan = Plan(BATCH, STEPS, num_epochs=1, save_steps=SAVED)
        self.trainer = Trainer(engine, plan, checkpoints, batches=self._batches, evaluate=None)

    def fit(self) -> None:
        if processes.is_writer():
            (FOLDER / "resumed").write_text(str(self.trainer.resume()))
        self.trainer.progress = follow_writer(self._engine.state, self.trainer.progress)
        with processes.blamed():
            self.trainer.fit()

    def _batches(self, epoch: int, skip: int) -> Iterator[dict[str, np.ndarray]]:
        self._streams += 1
        rows = backend.rows_of_process(BATCH, MICRO_BATCHES)
        for step in range(skip, STEPS):
            numbers = np.arange(BATCH) + step * BATCH
            made = [image(number) for number in (numbers if rows is None else numbers[rows])]
            batch = {key: np.stack([one[key] for one in made]) for key in made[0]}
            if step in (2, 3, 4) and self._streams == 1:
                bad = batch["source_id"] == f"{numbers[1]:06d}".encode()
                batch["images"][bad, 5, 5, 0] = np.nan
            yield batch


def make() -> TrainingEngine:
    changes = SMALL | {"grad_accum_steps": MICRO_BATCHES}
    return TrainingEngine(Config.for_model("efficientdet-d0").override(changes))


def at(engine: TrainingEngine, step: int, number: int) -> None:
    """Sends this process a signal in the midst of a step."""
    dispatch = engine.dispatch

    def send(batch: dict, *, step: int, learning_rate: float) -> object:
        if step == wanted:
            os.kill(os.getpid(), number)
        return dispatch(batch, step=step, learning_rate=learning_rate)

    wanted, engine.dispatch = step, send


def alone() -> None:
    Run(make(), "one").fit()
    backend.use_all_devices()
    assert backend.num_devices() == 2
    Run(make(), "two_devices").fit()


def one_of_two(part: str, number: int) -> None:
    engine = make()
    if part == "begin":
        start = engine.state.arrays()
        Run(engine, "straight").fit()
        engine.state.load(start)
    if number == 1:
        wanted = (KILLED, signal.SIGKILL) if part == "begin" else (ENDED, signal.SIGTERM)
        at(engine, *wanted)
    Run(engine, "disturbed").fit()


def main() -> None:
    if sys.argv[2] == "alone":
        alone()
        return
    _, _, part, port, number = sys.argv
    meeting = Meeting("127.0.0.1", int(port), 2, int(number), 300.0)
    with processes.joined(meeting) as address:
        mesh.join(meeting, address)
        one_of_two(part, int(number))


ending.run(main)
