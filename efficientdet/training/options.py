"""What `main.py` is asked for when it trains."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class TrainOptions:
    """The flags of main.py that training reads, under their names.

    Attributes:
        model_dir: folder of the run; a checkpoint in it is gone on from.
        val_file_pattern: evaluate on it after each epoch; None: never.
        hparams: hyper-parameters of the command line, by dotted key.
        ckpt, backbone_ckpt: weights that a fresh run begins with; not both.
        train_batch_size: images an update; None or `auto`: the run's own, else 64, or the most that
            fits.
        num_examples_per_epoch: None: those of the records.
        max_train_minutes: end after so much training, earlier starts of the run counted.
        verbose: print the tables of every evaluation, not of the last alone.
    """

    model_dir: str
    train_file_pattern: str
    val_file_pattern: str | None = None
    model_name: str | None = None
    hparams: Mapping[str, Any] = field(default_factory=dict)
    label_map_path: str | None = None
    ckpt: str | None = None
    backbone_ckpt: str | None = None
    ckpt_classes: Literal["auto", "by_id"] = "auto"
    init_classes_from_ckpt: bool = False
    allow_partial_ckpt: bool = False
    train_batch_size: int | Literal["auto"] | None = None
    eval_batch_size: int = 1
    num_examples_per_epoch: int | None = None
    max_train_minutes: float | None = None
    eval_samples: int | None = None
    save_checkpoints_steps: int = 1000
    keep_checkpoints: int = 3
    skip_preflight: bool = False
    verbose: bool = False

    @property
    def initial_weights(self) -> str | None:
        """The checkpoint that a fresh run reads, if any."""
        return self.ckpt or self.backbone_ckpt
