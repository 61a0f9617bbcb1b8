"""The checkpoints of a run: AutoML's files (`model.ckpt-N`, `checkpoint`), where training is."""

import dataclasses
import json
import math
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from efficientdet.atomic import atomic_open, atomic_path
from efficientdet.checkpoint.bundle import DATA_SUFFIX, INDEX_SUFFIX, read_bundle, write_bundle
from efficientdet.errors import UserError

_PROGRESS = "state/progress"


@dataclass
class Progress:
    """Where a run is; stored in every checkpoint.

    `epoch` and `step_in_epoch` count what is done. `data_epoch` and `data_examples` are the
    position in the input: they differ from the former when `num_examples_per_epoch` is not the
    number of records. `seconds` is the time spent in training, over all starts; `max_seconds` the
    limit of the last start.
    """

    step: int = 0
    epoch: int = 0
    step_in_epoch: int = 0
    steps_per_epoch: int = 1
    data_epoch: int = 0
    data_examples: int = 0
    lr_factor: float = 1.0  # halved by each return from non-finite losses
    bad_streak: int = 0
    rollbacks: int = 0
    batch_size: int = 0  # of the last start
    max_seconds: float = math.inf
    seconds: float = field(default=0.0, compare=False)  # no two runs take the same

    @property
    def schedule_step(self) -> int:
        """Step of the schedule: equals `step` unless the batch size was changed on the way."""
        return self.epoch * self.steps_per_epoch + self.step_in_epoch

    def rescaled(self, steps_per_epoch: int) -> "Progress":
        """The same place in the run when an epoch now has `steps_per_epoch` steps."""
        done = round(self.step_in_epoch * steps_per_epoch / self.steps_per_epoch)
        return dataclasses.replace(
            self, steps_per_epoch=steps_per_epoch, step_in_epoch=min(done, steps_per_epoch)
        )


class Checkpoints:
    """Saves, finds, reads and prunes the checkpoints in `folder`.

    Args:
        folder: the model_dir.
        keep: how many of the newest stay; the best ones live in `archive/` and are not counted.
        warn: receives one line for each damaged checkpoint that was passed over.
    """

    def __init__(self, folder: Path, *, keep: int = 3, warn: Callable[[str], None] = print):
        self.folder, self._keep, self._warn = Path(folder), keep, warn

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, oldest first."""
        names = (path.name for path in self.folder.glob(f"model.ckpt-*{INDEX_SUFFIX}"))
        found = (re.fullmatch(rf"model\.ckpt-(\d+){re.escape(INDEX_SUFFIX)}", n) for n in names)
        return sorted(int(match[1]) for match in found if match)

    def prefix(self, step: int) -> Path:
        """Path of one checkpoint without its suffixes."""
        return self.folder / f"model.ckpt-{step}"

    def save(self, arrays: Mapping[str, np.ndarray], progress: Progress) -> Path:
        """Writes one checkpoint, then drops those beyond `keep`."""
        stored = dict(arrays)
        stored["global_step"] = np.int64(progress.step)
        stored[_PROGRESS] = np.array(json.dumps(dataclasses.asdict(progress)).encode())
        prefix = self.prefix(progress.step)
        write_bundle(prefix, stored)
        for step in self.steps()[: -self._keep]:
            self._remove(step)
        self._write_state_file(self.folder, [self.prefix(step).name for step in self.steps()])
        return prefix

    def load_latest(self) -> tuple[dict[str, np.ndarray], Progress] | None:
        """The newest readable checkpoint, or None if there never was one.

        A damaged one is passed over with a warning, and removed so that it is not tried again.

        Raises:
            UserError: there are checkpoints, but none is readable.
        """
        for unfinished in self.folder.glob(".model.ckpt-*.tmp"):  # of a run that was killed
            shutil.rmtree(unfinished)
        steps = self.steps()
        for step in reversed(steps):
            try:
                arrays = read_bundle(self.prefix(step))
            except UserError as error:
                self._warn(f"warning: {error}; going back to the checkpoint before it")
                continue
            progress = _read_progress(arrays, step)
            for newer in (s for s in steps if s > step):
                self._remove(newer)
            self._write_state_file(self.folder, [self.prefix(s).name for s in self.steps()])
            return arrays, progress
        if steps:
            raise UserError(f"{self.folder}: none of its {len(steps)} checkpoints is readable")
        return None

    def archive(self, step: int, metric: str, value: float, metrics: Mapping[str, float]) -> None:
        """Copies a checkpoint to `archive/` as the best so far (AutoML's folder and file names)."""
        archive = self.folder / "archive"
        for suffix in (DATA_SUFFIX, INDEX_SUFFIX):
            with atomic_path(archive / f"{self.prefix(step).name}{suffix}") as temporary:
                shutil.copyfile(f"{self.prefix(step)}{suffix}", temporary)
        self._write_state_file(archive, [self.prefix(step).name])
        for unfinished in archive.glob(".*.tmp"):  # of a run that was killed
            unfinished.unlink()
        for old in archive.glob("model.ckpt-*"):
            if not old.name.startswith(f"{self.prefix(step).name}."):
                old.unlink()
        with atomic_open(archive / "best_objective.txt") as file:
            file.write(f"{value}\n")
        with atomic_open(archive / "best_eval.txt") as file:
            json.dump({"best_metric": metric, "step": step, **metrics}, file, indent=1)

    def _remove(self, step: int) -> None:
        # Index first: a bundle without its index does not exist.
        for suffix in (INDEX_SUFFIX, DATA_SUFFIX):
            Path(f"{self.prefix(step)}{suffix}").unlink(missing_ok=True)

    @staticmethod
    def _write_state_file(folder: Path, names: list[str]) -> None:
        """The `checkpoint` file that `tf.train.latest_checkpoint` and AutoML read."""
        with atomic_open(folder / "checkpoint") as file:
            file.write(f'model_checkpoint_path: "{names[-1]}"\n')
            file.writelines(f'all_model_checkpoint_paths: "{name}"\n' for name in names)


def _read_progress(arrays: dict[str, np.ndarray], step: int) -> Progress:
    text = arrays.pop(_PROGRESS, None)
    if text is None:
        raise UserError(
            f"model.ckpt-{step} was not written by this program: it holds weights but not where "
            "the run was. Name it with --ckpt and train into another --model_dir"
        )
    return Progress(**json.loads(text.item() if hasattr(text, "item") else text))
