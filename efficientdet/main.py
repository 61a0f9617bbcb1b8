"""Trains and evaluates EfficientDet on KITTI records.

    python efficientdet/main.py --mode=train_and_eval \\
        --model_name=efficientdet-d0 --model_dir=savedmodel/exp \\
        --train_file_pattern=train.record --val_file_pattern=val.record \\
        --ckpt=efficientdet-d0/model --train_batch_size=4 \\
        --hparams=configs/kitti_d0.yaml

The same command again goes on where the run stopped. `--mode=eval` scores the newest checkpoint of
`--model_dir`, with `--best` its best, or the one that `--ckpt` names. What the run itself trained
gets its point on the run's curve and may become its best, with `--watch` while `--mode=train` goes
on. Number of classes, examples and boxes come from the manifest beside the records.

--helpfull lists AutoML's other flags, too. Each is accepted, with a line that says why it does
nothing here, or refused with what to do instead.
"""

import logging
import re
import sys
from pathlib import Path
from typing import Literal

if not __package__:  # typed by path: the package is found where it lies, installed or not
    _here = Path(__file__).resolve().parent
    sys.path = [str(_here.parent), *(path for path in sys.path if Path(path).resolve() != _here)]

from efficientdet.commands import runner  # isort: skip (says what is not installed)
from absl import flags

from efficientdet import automl_names
from efficientdet.commands import export_flags, process_flags
from efficientdet.config import Config, parse_hparams
from efficientdet.config_files import PROJECT
from efficientdet.errors import UsageError

FLAGS = flags.FLAGS
_NAMES_OF_WEIGHTS = ("imagenet", "efficientnet-")  # may mean no file
logger = logging.getLogger("efficientdet.main")
flags.DEFINE_enum("mode", "train", ["train", "eval", "train_and_eval"], "What to do.")
flags.DEFINE_string("model_name", None, "efficientdet-d0 ... d7x, efficientdet-lite0 ... lite4.")
flags.DEFINE_string("model_dir", None, "Folder of the run: config, checkpoints, metrics, events.")
flags.DEFINE_string("train_file_pattern", None, "Training records: a path, a glob, or several.")
flags.DEFINE_string("val_file_pattern", None, "Validation records, in the same forms.")
flags.DEFINE_string(
    "ckpt", None,
    "Weights to start from: a prefix (efficientdet-d0/model), a folder, a .tar.gz or a .h5.",
)  # fmt: skip
flags.DEFINE_string(
    "backbone_ckpt", None,
    "As --ckpt, but only its backbone is taken; or `imagenet`, for the model's own; or a .pth.",
)  # fmt: skip
flags.DEFINE_string(
    "train_batch_size",
    None,
    "Images an update (the effective batch); `auto`: the most that fits. Default: the run's own "
    "where it goes on, else 64.",
)
flags.DEFINE_integer(
    "eval_batch_size", 1, "Images a batch in evaluation; no metric depends on it.", lower_bound=1
)
flags.DEFINE_integer(
    "num_epochs", None, "Epochs; the default is the hyper-parameter num_epochs.", lower_bound=0
)
flags.DEFINE_float(
    "max_train_minutes", None,
    "End after so much training, earlier starts of the run counted, evaluations not.",
    lower_bound=0,
)  # fmt: skip
flags.DEFINE_integer(
    "num_examples_per_epoch", None, "Default: the number in the manifest.", lower_bound=1
)
flags.DEFINE_integer(
    "eval_samples", None, "Evaluate the first so many images; default, and 0: all.", lower_bound=0
)
flags.DEFINE_multi_string(
    "hparams", [],
    "Hyper-parameters: key=value pairs, .yaml files, or both, comma-separated; given again it adds "
    "to what stands before.",
)  # fmt: skip
flags.DEFINE_enum(
    "strategy", "", ["", "None", "gpus", "tpu"],
    "gpus: all GPUs of this machine (JAX backend); of several machines: --coordinator.",
)  # fmt: skip
flags.DEFINE_integer("tf_random_seed", None, "The hyper-parameter seed, under AutoML's name.")
flags.DEFINE_integer(
    "grad_accum_steps", None, "Cut every batch into so many micro-batches.", lower_bound=1
)
flags.DEFINE_integer("save_checkpoints_steps", 1000, "Steps between checkpoints.", lower_bound=1)
flags.DEFINE_integer("keep_checkpoints", 3, "Checkpoints to keep besides the best.", lower_bound=1)
flags.DEFINE_string(
    "best_metric", None,
    "The metric by which the best checkpoint is kept; the default is the hyper-parameter.",
)  # fmt: skip
flags.DEFINE_string("label_map_path", None, "Only for records that have no manifest.")
flags.DEFINE_integer(
    "memory_limit_mb", None, "Cap the GPU, to rehearse a smaller card.", lower_bound=1
)
flags.DEFINE_bool("skip_preflight", False, "Start without looking at the records first.")
flags.DEFINE_bool("allow_partial_ckpt", False, "Train even if most of the backbone is missing.")
flags.DEFINE_enum(
    "ckpt_classes", "auto", ["auto", "by_id"],
    "by_id: of a checkpoint with more classes, take the rows of ids 1..K.",
)  # fmt: skip
flags.DEFINE_bool(
    "init_classes_from_ckpt", False,
    "Start Pedestrian, Cyclist, Car, Truck, Tram from COCO's person, bicycle, car, truck, train.",
)  # fmt: skip
flags.DEFINE_bool("zero_shot", False, "With --mode=eval: judge a COCO model by a class map.")
flags.DEFINE_string(
    "class_map",
    str(PROJECT / "configs" / "coco_to_kitti.yaml"),
    "With --zero_shot: which COCO class stands for which KITTI class.",
)
flags.DEFINE_bool("self_check", False, "With --mode=eval: judge the ground truth by itself.")
flags.DEFINE_bool(
    "best", False, "With --mode=eval: the best checkpoint (archive/), not the newest."
)
flags.DEFINE_bool("watch", False, "With --mode=eval: evaluate every new checkpoint, until Ctrl-C.")
flags.DEFINE_integer(
    "min_eval_interval", 180, "Seconds between two looks of --watch.", lower_bound=1
)
flags.DEFINE_bool(
    "verbose", False, "Print the tables of every evaluation; else a line each, and them at the end."
)
flags.DEFINE_bool("deterministic", False, "Bit-identical repetition, somewhat slower.")
export_flags.define_flags()
process_flags.define_flags()
automl_names.define_flags()


def main() -> None:
    """Checks the flags and hands over."""
    overrides = _check_flags()
    _check_files()
    # TensorFlow takes seconds to import: --help, bad flags and missing files should not.
    from efficientdet.commands import quiet_tensorflow  # isort: skip  # noqa: F401
    from efficientdet import backend, processes

    if FLAGS.memory_limit_mb:
        backend.limit_memory(FLAGS.memory_limit_mb)
    if FLAGS.deterministic:
        backend.make_deterministic()
    computed = {"hparams": overrides, "eval_samples": FLAGS.eval_samples or None}
    meeting = process_flags.chosen()
    with processes.joined(meeting) as address:
        if meeting:
            from efficientdet import mesh

            mesh.join(meeting, address)
        elif FLAGS.strategy == "gpus":
            backend.use_all_devices()
        if (meeting or FLAGS.strategy == "gpus") and not backend.has_gpu():
            flag = "coordinator" if meeting else "strategy=gpus"
            logger.warning(f"--{flag}: no GPU is seen here, it computes on the CPU")
        _work(computed)


def _work(computed: dict) -> None:
    """Evaluates or trains."""
    if FLAGS.mode == "eval":
        from efficientdet.inference import scoring

        computed["export"] = export_flags.chosen()
        options = runner.options(scoring.EvaluateOptions, **computed)
        if options.export:
            scoring.evaluate_export(options)
        elif FLAGS.self_check:
            scoring.check_metrics(options)
        elif FLAGS.zero_shot:
            scoring.zero_shot(options)
        else:
            scoring.evaluate(options)
        return
    from efficientdet.training.options import TrainOptions
    from efficientdet.training.train import train

    computed["train_batch_size"] = _batch_size()
    if FLAGS.mode == "train":
        computed["val_file_pattern"] = None
    train(runner.options(TrainOptions, **computed))


def _check_flags() -> dict:
    """All that can be said against a command without looking at a file of the run.

    Returns the hyper-parameters of the command line.
    """
    automl_names.check_flags(FLAGS)
    export = export_flags.chosen()
    if export and (FLAGS.mode != "eval" or FLAGS.zero_shot or FLAGS.self_check or FLAGS.watch):
        raise UsageError(f"{export} is an exported file: it goes with a plain --mode=eval alone")
    needed = {
        "model_dir": not (FLAGS.zero_shot or FLAGS.self_check or export),
        "train_file_pattern": FLAGS.mode != "eval",
        "val_file_pattern": FLAGS.mode != "train",
    }
    for name, is_needed in needed.items():
        if is_needed and not FLAGS[name].value:
            raise UsageError(f"--{name} is missing, --mode={FLAGS.mode} needs it")
    for name in ("zero_shot", "self_check", "watch", "best"):
        if FLAGS[name].value and FLAGS.mode != "eval":
            raise UsageError(f"--{name} goes with --mode=eval, not --mode={FLAGS.mode}")
    if FLAGS.zero_shot and not FLAGS.ckpt:
        raise UsageError("--zero_shot needs --ckpt, a COCO checkpoint of 90 classes")
    for name in ("ckpt", "watch"):
        if FLAGS.best and FLAGS[name].value:
            raise UsageError(f"--best and --{name} exclude each other: take one of the two")
    if FLAGS.strategy == "tpu":
        raise UsageError("--strategy=tpu: TPUs are not supported; leave it out, or say gpus")
    if FLAGS.ckpt and FLAGS.backbone_ckpt:
        raise UsageError("--ckpt and --backbone_ckpt exclude each other: the first has both")
    _batch_size()
    process_flags.chosen()
    overrides = _overrides()
    Config.for_model(FLAGS.model_name or "efficientdet-d1").override(overrides)
    return overrides


def _check_files() -> None:
    """Looks whether there are the records, and the checkpoint that is to be evaluated."""
    from efficientdet.checkpoint.finding import find_weights
    from efficientdet.dataset.tfrecord import expand_pattern
    from efficientdet.run.checkpoints import checkpoint_of

    if FLAGS.mode != "eval":
        expand_pattern(FLAGS.train_file_pattern)
    if FLAGS.mode != "train":
        expand_pattern(FLAGS.val_file_pattern)
    weights = FLAGS.ckpt or FLAGS.backbone_ckpt
    if weights and not weights.startswith(_NAMES_OF_WEIGHTS) and not _goes_on():
        find_weights(Path(weights), weights)
    if export_flags.chosen():
        return
    if FLAGS.mode == "eval" and not (FLAGS.ckpt or FLAGS.watch or FLAGS.self_check):
        which = "best" if FLAGS.best else "newest"
        checkpoint_of(Path(FLAGS.model_dir), which, to="evaluate")


def _goes_on() -> bool:
    """Whether a run is trained further, which is past the weights that it started from."""
    run = Path(FLAGS.model_dir or "")
    return FLAGS.mode != "eval" and any(run.glob("model.ckpt-*.index"))


def _overrides() -> dict:
    overrides = parse_hparams(FLAGS.hparams)
    for name, flag in (
        ("num_epochs", "num_epochs"),
        ("grad_accum_steps", "grad_accum_steps"),
        ("best_metric", "best_metric"),
        ("seed", "tf_random_seed"),
    ):
        if FLAGS[flag].value is not None:  # a flag wins over --hparams
            overrides[name] = FLAGS[flag].value
    return overrides


def _batch_size() -> int | Literal["auto"] | None:
    """Images an update, as typed."""
    text = FLAGS.train_batch_size
    if text in (None, "auto"):
        return text
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) == 0:
        raise UsageError(f"--train_batch_size={text}: expected a positive number or `auto`")
    return int(text)


if __name__ == "__main__":
    sys.exit(runner.run(main))
