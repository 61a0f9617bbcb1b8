"""The checkpoints of a run: AutoML's files (`model.ckpt-N`, `checkpoint`), where training is."""

import dataclasses
import itertools
import json
import logging
import math
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from efficientdet.atomic import atomic_open, atomic_path, remove_stale
from efficientdet.checkpoint.bundle import (
    DATA_SUFFIX,
    INDEX_SUFFIX,
    DamagedCheckpoint,
    read_bundle,
    read_entry,
    write_bundle,
)
from efficientdet.errors import UserError

logger = logging.getLogger(__name__)

_PROGRESS = "state/progress"


@dataclass
class Progress:
    """Where a run is; stored in every checkpoint.

    `epoch` and `step_in_epoch` count what is done. `data_epoch` and `data_examples` are the
    position in the input: they differ from the former when `num_examples_per_epoch` is not the
    number of records. `seconds` is the time spent in training steps, over all starts, without
    compilation: a step that compiled (the first of each start, as a rule) counts as much as the
    mean of the others. `max_seconds` is the limit of the last start. `rows` are the logs of the
    steps since the last line of metrics, which the next line will be the mean of.
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
    # No two runs take the same time, and the rows hold times.
    seconds: float = field(default=0.0, compare=False)
    rows: list[dict[str, float]] = field(default_factory=list, compare=False)

    @classmethod
    def parse(cls, text: str | bytes, prefix: Path) -> "Progress":
        """Reads what `save` stored in the checkpoint at `prefix`.

        Raises:
            UserError: something else.
        """
        try:
            progress = cls(**json.loads(text))
            for one in dataclasses.fields(cls):
                if not _is_sound(one.type, value := getattr(progress, one.name)):
                    raise ValueError(f"{one.name}={str(value)[:40]}")
            if not progress.steps_per_epoch:
                raise ValueError("steps_per_epoch=0")
        except (ValueError, TypeError, RecursionError) as error:
            raise UserError(
                f"{prefix}: does not tell where the run was ({error!r}); name it with --ckpt and "
                "train into another --model_dir"
            ) from None
        return progress

    @property
    def schedule_step(self) -> int:
        """Step of the schedule: equals `step` unless the batch size was changed on the way."""
        return self.epoch * self.steps_per_epoch + self.step_in_epoch

    @property
    def fraction(self) -> float:
        """Epochs done, the part of the present one included."""
        return self.epoch + self.step_in_epoch / self.steps_per_epoch

    def rescaled(self, steps_per_epoch: int) -> "Progress":
        """The same place in the run when an epoch now has `steps_per_epoch` steps."""
        done = round(self.step_in_epoch * steps_per_epoch / self.steps_per_epoch)
        return dataclasses.replace(
            self, steps_per_epoch=steps_per_epoch, step_in_epoch=min(done, steps_per_epoch)
        )


def _is_sound(kind: type, value: Any) -> bool:
    """Whether a field of `Progress` can have this value."""
    if kind is int:
        return type(value) is int and 0 <= value < 2**63
    if kind is float:
        return type(value) in (int, float) and value >= 0
    return isinstance(value, list) and all(
        isinstance(row, dict) and all(isinstance(number, float) for number in row.values())
        for row in value
    )


@dataclass(frozen=True)
class HeldCheckpoint:
    """A checkpoint whose files are open: it can be copied even after training has dropped it.

    Attributes:
        epoch: that training had reached; None in a checkpoint of another program.
        files: by suffix.
    """

    prefix: Path
    step: int
    epoch: float | None
    files: Mapping[str, BinaryIO]


@contextmanager
def hold(prefix: Path) -> Iterator[HeldCheckpoint]:
    """Opens the checkpoint `model.ckpt-N` at `prefix`.

    Raises:
        UserError: it is damaged, or gone: training keeps only the newest.
    """
    with ExitStack() as stack:
        try:
            files = {
                suffix: stack.enter_context(Path(f"{prefix}{suffix}").open("rb"))
                for suffix in (DATA_SUFFIX, INDEX_SUFFIX)
            }
        except FileNotFoundError as error:
            raise UserError(f"{error.filename}: {error.strerror}") from None
        text = read_entry(prefix, _PROGRESS)
        progress = None if text is None else Progress.parse(text, prefix)
        yield HeldCheckpoint(
            prefix,
            step=int(prefix.name.rpartition("-")[2]),
            epoch=progress and progress.fraction,
            files=files,
        )


class CheckpointManager:
    """Saves, finds, reads and prunes the checkpoints in `folder`.

    Args:
        folder: the model_dir.
        keep: how many of the newest stay; the best ones live in `archive/` and are not counted.
    """

    def __init__(self, folder: Path, *, keep: int = 3):
        self.folder, self._keep = Path(folder), keep

    def steps(self) -> list[int]:
        """Steps of the complete checkpoints, oldest first."""
        return self._steps(INDEX_SUFFIX)

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
        kept = self.steps()[-self._keep :]
        for step in self._steps(
            INDEX_SUFFIX, DATA_SUFFIX
        ):  # with what a process left that was killed while it removed
            if step < kept[0]:
                self._remove(step)
        self._write_state_file(self.folder, [self.prefix(step).name for step in kept])
        return prefix

    def load_latest(self) -> tuple[dict[str, np.ndarray], Progress] | None:
        """The newest undamaged checkpoint, or None if there never was one.

        Damaged ones before it are passed over with a warning and renamed (`.damaged`), so that they
        are not tried again; nothing is deleted.

        Raises:
            UserError: all are damaged, or one could not be read for a reason that may pass; the
                files are then as they were.
        """
        for unfinished in self.folder.glob(".model.ckpt-*.tmp"):  # of a run that was killed
            shutil.rmtree(unfinished)
        damaged: list[int] = []
        for step in reversed(self.steps()):
            try:
                arrays = read_bundle(self.prefix(step))
            except DamagedCheckpoint as error:
                logger.warning(f"{error}; going back to the checkpoint before it")
                damaged.append(step)
                continue
            except UserError as error:
                raise UserError(
                    f"{error}; it may be whole, so everything stays as it is: start the same "
                    "command again when the file can be read"
                ) from error
            progress = self._take_progress(arrays, step)
            for newer in damaged:
                self._set_aside(newer)
            self._write_state_file(self.folder, [self.prefix(s).name for s in self.steps()])
            return arrays, progress
        if damaged:
            raise UserError(f"{self.folder}: none of its {len(damaged)} checkpoints is readable")
        return None

    def newest_batch_size(self) -> int | None:
        """Images an update of the newest checkpoint; 0 where it does not tell, None: there is none.

        Of a checkpoint that can be read, only the progress is.

        Raises:
            UserError: as `load_latest`.
        """
        steps = self.steps()
        if not steps:
            return None
        prefix = self.prefix(steps[-1])
        try:
            text = read_entry(prefix, _PROGRESS)
        except UserError:  # damaged, say; which one comes before it is decided there
            text = None
        if text is not None:
            return Progress.parse(text, prefix).batch_size
        loaded = self.load_latest()
        return None if loaded is None else loaded[1].batch_size

    def archive(
        self,
        checkpoint: HeldCheckpoint,
        metric: str,
        value: float,
        metrics: Mapping[str, float],
        beside: Sequence[Path] = (),
    ) -> None:
        """Copies a checkpoint to `archive/` as the best so far (AutoML's folder and file names).

        Args:
            beside: files of its evaluation, copied along.
        """
        archive, name = self.folder / "archive", checkpoint.prefix.name
        for suffix, source in checkpoint.files.items():
            source.seek(0)
            with atomic_open(archive / f"{name}{suffix}", "wb") as file:
                shutil.copyfileobj(source, file)
        self._write_state_file(archive, [name])
        remove_stale(archive)
        for old in archive.glob("model.ckpt-*"):
            if not old.name.startswith(f"{name}."):
                old.unlink()
        for path in beside:
            with atomic_path(archive / path.name) as temporary:
                shutil.copyfile(path, temporary)
        with atomic_open(archive / "best_objective.txt") as file:
            file.write(f"{value}\n")
        with atomic_open(archive / "best_eval.txt") as file:
            json.dump({"best_metric": metric, "step": checkpoint.step, **metrics}, file, indent=1)

    def _take_progress(self, arrays: dict[str, np.ndarray], step: int) -> Progress:
        """Takes it out of what was read."""
        text = arrays.pop(_PROGRESS, None)
        if text is None:
            raise UserError(
                f"model.ckpt-{step} was not written by this program: it holds weights but not "
                "where the run was. Name it with --ckpt and train into another --model_dir"
            )
        return Progress.parse(text.item() if hasattr(text, "item") else text, self.prefix(step))

    def _steps(self, *suffixes: str) -> list[int]:
        """Those of which a file with one of the suffixes is there, oldest first."""
        number = r"model\.ckpt-(0|[1-9][0-9]*)"  # as `prefix` writes it
        found = {
            int(match[1])
            for suffix in suffixes
            for path in self.folder.glob(f"model.ckpt-*{suffix}")
            if (match := re.fullmatch(number, path.name.removesuffix(suffix)))
        }
        return sorted(found)

    def _remove(self, step: int) -> None:
        # Index first: a bundle without its index does not exist.
        for suffix in (INDEX_SUFFIX, DATA_SUFFIX):
            Path(f"{self.prefix(step)}{suffix}").unlink(missing_ok=True)

    def _set_aside(self, step: int) -> None:
        for suffix in (INDEX_SUFFIX, DATA_SUFFIX):
            path = Path(f"{self.prefix(step)}{suffix}")
            names = (f"{path}.damaged{number or ''}" for number in itertools.count())
            if path.exists():
                path.rename(next(name for name in names if not Path(name).exists()))

    @staticmethod
    def _write_state_file(folder: Path, names: list[str]) -> None:
        """The `checkpoint` file that `tf.train.latest_checkpoint` and AutoML read."""
        with atomic_open(folder / "checkpoint") as file:
            file.write(f'model_checkpoint_path: "{names[-1]}"\n')
            file.writelines(f'all_model_checkpoint_paths: "{name}"\n' for name in names)


def newest_checkpoint(model_dir: Path, *, to: str) -> Path:
    """Prefix of the newest checkpoint in a model_dir, `to` do something with.

    Raises:
        UserError: there is none.
    """
    checkpoints = CheckpointManager(model_dir)
    steps = checkpoints.steps()
    if not steps:
        raise UserError(
            f"{model_dir}: no checkpoint to {to} (model.ckpt-N.index); train first, or name "
            "one with --ckpt"
        )
    return checkpoints.prefix(steps[-1])


def checkpoint_of(model_dir: Path, which: Literal["best", "newest"] | None, *, to: str) -> Path:
    """Prefix of a run's checkpoint, `to` do something with.

    Args:
        which: `best` is in `archive/`; None takes it where there is one, else the newest.

    Raises:
        UserError: there is none.
    """
    archive = CheckpointManager(model_dir / "archive")
    steps = [] if which == "newest" else archive.steps()
    if steps:
        return archive.prefix(steps[-1])
    if which != "best":
        return newest_checkpoint(model_dir, to=to)
    raise UserError(
        f"{archive.folder}: no best checkpoint; --mode=train_and_eval and --mode=eval keep one. "
        "Leave out --best to take the newest"
    )
