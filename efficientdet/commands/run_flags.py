"""The flags by which predict.py and export.py choose a checkpoint of a run."""

from typing import Literal

from absl import flags

from efficientdet.errors import UsageError

flags.disclaim_key_flags()  # they belong to the command that defines them


def define_flags() -> None:
    """`--model_dir`, `--model_name`, `--ckpt`, `--ckpt_classes`, `--best`, `--newest`."""
    flags.DEFINE_string("model_dir", None, "Folder of the run.")
    flags.DEFINE_string(
        "model_name", None, "Needed only with --ckpt where no run stands in model_dir."
    )
    flags.DEFINE_string("ckpt", None, "Another checkpoint than the run's own: prefix or folder.")
    flags.DEFINE_enum(
        "ckpt_classes", "auto", ["auto", "by_id"],
        "by_id: of a checkpoint with more classes, take the rows of ids 1..K.",
    )  # fmt: skip
    flags.DEFINE_bool(
        "best", False, "Take the best checkpoint (archive/): the default where there is one."
    )
    flags.DEFINE_bool(
        "newest", False, "Take the newest checkpoint, also where there is a best one."
    )


def which() -> Literal["best", "newest"] | None:
    """What `--best` or `--newest` says.

    Raises:
        UsageError: both, or one of them beside `--ckpt`.
    """
    values = flags.FLAGS
    if values.best and values.newest:
        raise UsageError("--best and --newest exclude each other: take one of the two")
    if values.ckpt and (values.best or values.newest):
        raise UsageError("--ckpt and --best or --newest exclude each other: take one of them")
    return "best" if values.best else "newest" if values.newest else None
