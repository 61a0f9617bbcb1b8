"""What a start, the recipe's levers and resolution are worth on KITTI, counted in images seen.

    python -m benchmarks.recipes --train_file_pattern=train.record --val_file_pattern=val.record \
        --work_dir=recipes

Each arm of the table below is one run of main.py in a folder of its own; all else is alike: model,
recipe, batch, seed, images, a cosine down to 0 at the end. Killed or stopped, the same command goes
on where it was. `--arms=imagenet,random` picks some, in that order.

After each arm `recipes.md` (scores and differences with 95 % intervals over resampled drives),
`curves.png` (scores over images seen) and `before_after_<comparison>.png` are written again, to
--work_dir.
"""

import fcntl
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.cpu_only import ENVIRONMENT  # isort: skip
from efficientdet.commands import runner  # isort: skip (says what is not installed)
import yaml
from absl import flags

from efficientdet.atomic import atomic_open
from efficientdet.config import Config, flatten, parse_hparams
from efficientdet.dataset.tfrecord import expand_pattern
from efficientdet.errors import UsageError, UserError

if TYPE_CHECKING:
    from benchmarks.recipe_report import RecipeReport

ROOT = Path(__file__).resolve().parents[1]
TRAIN = flags.DEFINE_string("train_file_pattern", None, "Training records.", required=True)
VAL = flags.DEFINE_string("val_file_pattern", None, "Validation records.", required=True)
WORK_DIR = flags.DEFINE_string("work_dir", None, "Folder of all runs and results.", required=True)
CHOSEN = flags.DEFINE_list("arms", None, "Arms to train, in this order. Default: all.")
MODEL = flags.DEFINE_string("model_name", "efficientdet-lite0", "Model of every arm.")
START = flags.DEFINE_string("backbone_ckpt", "imagenet", "Start of the arms that have one.")
RECIPE = flags.DEFINE_string(
    "recipe", None, "Default: configs/kitti_lite0.yaml, or kitti_from_imagenet.yaml for D0 to D7."
)
HPARAMS = flags.DEFINE_multi_string("hparams", [], "Added to the recipe, in every arm.")
BATCH_SIZE = flags.DEFINE_integer("train_batch_size", 8, "Images an update.", lower_bound=1)
SIZES = {
    "small": flags.DEFINE_string("small", "448x144", "Input of the arms of small size."),
    "medium": flags.DEFINE_string("medium", "768x240", "Input of those of medium size."),
    "large": flags.DEFINE_string("large", "1024x320", "Input of the long run."),
}
IMAGES = flags.DEFINE_integer("images", 9000, "Images that an arm sees.", lower_bound=1)
LONG_IMAGES = flags.DEFINE_integer(
    "long_images", 15000, "Images that the long arm sees unless it stops early.", lower_bound=1
)
EVAL_IMAGES = flags.DEFINE_integer(
    "eval_images", 1500, "Evaluate after each so many images seen.", lower_bound=1
)

# A lever -> its hyper-parameters; without it they are the model's own, as AutoML's.
FITTED = "fitted anchors"  # what the inspector says for the input
LEVERS = {
    FITTED: ("anchor_scale", "aspect_ratios"),
    "ignore regions": ("ignore_regions",),
    "balance and augmentation": (
        "jitter_min", "jitter_max", "crop_prob", "photometric", "mosaic_prob", "copy_paste_prob",
        "repeat_threshold", "class_weights",
    ),
}  # fmt: skip
AUTOML_BACKGROUND = {"ignore_regions": False}  # the one of them where our default is another


@dataclass(frozen=True)
class Arm:
    """One run.

    Attributes:
        size: of `SIZES`.
        levers: which of `LEVERS`.
        pretrained: starts from --backbone_ckpt, else from random weights.
        long: sees --long_images, or stops after four evaluations without a better one.
    """

    name: str
    what: str
    size: str = "small"
    levers: tuple[str, ...] = tuple(LEVERS)
    pretrained: bool = True
    long: bool = False

    @property
    def folder(self) -> Path:
        """Its model_dir."""
        return Path(WORK_DIR.value) / self.name

    @property
    def is_finished(self) -> bool:
        """Whether main.py came to its end."""
        return (self.folder / "finished").exists()

    @property
    def title(self) -> str:
        """Its row in the table."""
        return f"{MODEL.value.removeprefix('efficientdet-')}, {SIZES[self.size].value}, {self.what}"


# The most telling first.
ARMS = (
    Arm("imagenet", "ImageNet, all levers"),
    Arm("resolution", "ImageNet, all levers", "medium"),
    Arm("long", "ImageNet, all levers, long", "large", long=True),
    Arm("random", "random weights, all levers", pretrained=False),
    Arm("stock", "ImageNet, AutoML's anchors, background and jitter", levers=()),
    Arm("anchors", "ImageNet, + fitted anchors", levers=(FITTED,)),
    Arm("ignore", "ImageNet, + fitted anchors, ignore regions", levers=(FITTED, "ignore regions")),
)
COMPARISONS = {  # name: (before, after)
    "start": ("random", "imagenet"),
    "anchors": ("stock", "anchors"),
    "ignore regions": ("anchors", "ignore"),
    "balance and augmentation": ("ignore", "imagenet"),
    "all levers": ("stock", "imagenet"),
    "resolution": ("imagenet", "resolution"),
    "size and time": ("imagenet", "long"),
}
PATIENCE = 4


def main() -> None:
    """Trains arm by arm; scores and draws after each."""
    by_name = {arm.name: arm for arm in ARMS}
    if unknown := set(CHOSEN.value or ()) - set(by_name):
        raise UsageError(f"--arms={min(unknown)}: expected some of {', '.join(by_name)}")
    arms = [by_name[name] for name in CHOSEN.value or by_name]
    for pattern in (TRAIN.value, VAL.value):
        expand_pattern(pattern)
    from efficientdet.commands import quiet_tensorflow  # noqa: F401

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that a child is told, too
    Path(WORK_DIR.value).mkdir(parents=True, exist_ok=True)
    with (Path(WORK_DIR.value) / ".lock").open("w") as lock:
        hold(lock.fileno())
        unfinished = [arm for arm in arms if not arm.is_finished]
        for arm in unfinished:
            print(f"{arm.name}: log {arm.folder}/train.log", flush=True)
            train(arm, hparams_of(arm), lock.fileno())
            made = report()
            made.write(Path(WORK_DIR.value))
        if not unfinished:
            made = report()
            made.write(Path(WORK_DIR.value))
    print(made.table())
    print(f"written to {WORK_DIR.value}: recipes.md, curves.png, before_after_*.png")


def report() -> "RecipeReport":
    """Of all arms, as far as they are."""
    from benchmarks.recipe_report import RecipeReport, Run
    from efficientdet.input.record_set import RecordSet

    runs = [Run(arm.name, arm.title, arm.folder, arm.is_finished) for arm in ARMS]
    return RecipeReport(runs, COMPARISONS, RecordSet.open(VAL.value), BATCH_SIZE.value)


def hold(lock: int) -> None:
    """Waits for a training that outlived a killed start of this command: it holds the lock too."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"waiting for another process that trains in {WORK_DIR.value}", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)


def hparams_of(arm: Arm) -> dict[str, Any]:
    """The recipe with what this arm is without, and what its size and images ask for."""
    lite = "lite" in MODEL.value
    recipe = RECIPE.value or f"configs/kitti_{'lite0' if lite else 'from_imagenet'}.yaml"
    hparams = parse_hparams([recipe, *HPARAMS.value])
    stock = flatten(Config.for_model(MODEL.value).to_dict()) | AUTOML_BACKGROUND
    for lever, keys in LEVERS.items():
        if lever not in arm.levers:
            hparams |= {key: stock[key] for key in keys}
    if FITTED in arm.levers:
        hparams |= fitted_anchors(SIZES[arm.size].value)
    images = LONG_IMAGES.value if arm.long else IMAGES.value
    return hparams | {
        "image_size": SIZES[arm.size].value,
        "num_epochs": max(1, images // EVAL_IMAGES.value),
        "early_stopping_epochs": PATIENCE if arm.long else 0,
    }


def fitted_anchors(size: str) -> dict[str, Any]:
    """The anchors that the inspector chooses for the training records at this input."""
    from efficientdet.input.record_set import RecordSet
    from efficientdet.inspection import checks
    from efficientdet.inspection.anchor_report import anchor_rows, best_row

    files = RecordSet.open(TRAIN.value).files
    objects = checks.check_records(files, decode_images=False).sets[0].statistics.objects
    config = Config.for_model(MODEL.value)
    return parse_hparams(best_row(anchor_rows(objects[objects.trained], config, [size])).hparams)


def train(arm: Arm, hparams: Mapping[str, Any], lock: int) -> None:
    """main.py on one arm, to its end; its output goes to `train.log`.

    Raises:
        UserError: it failed, or the folder holds an arm that was begun with other settings.
    """
    from efficientdet.run.checkpoints import CheckpointManager

    folder, settings = arm.folder, arm.folder / "arm.yaml"
    begun = {
        "model_name": MODEL.value,
        "backbone_ckpt": START.value if arm.pretrained else None,
        "train_batch_size": BATCH_SIZE.value,
        "num_examples_per_epoch": EVAL_IMAGES.value,
        "hparams": dict(hparams),
    }
    text = yaml.safe_dump(begun)
    if CheckpointManager(folder).steps() and settings.read_text(encoding="utf-8") != text:
        raise UserError(f"{settings}: this arm was begun with other settings; take a new work_dir")
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in ((settings, text), (folder / "hparams.yaml", yaml.safe_dump(hparams))):
        with atomic_open(path) as file:
            file.write(content)
    words = [
        sys.executable, str(ROOT / "efficientdet" / "main.py"), "--mode=train_and_eval",
        f"--model_dir={folder}", f"--hparams={folder / 'hparams.yaml'}",
        f"--train_file_pattern={TRAIN.value}", f"--val_file_pattern={VAL.value}",
        f"--eval_batch_size={BATCH_SIZE.value}", "--save_checkpoints_steps=50",
        "--keep_checkpoints=1",
        *(f"--{key}={value}" for key, value in begun.items() if value and key != "hparams"),
    ]  # fmt: skip
    with (folder / "train.log").open("a", encoding="utf-8") as log:
        child = subprocess.Popen(words, stdout=log, stderr=log, env=ENVIRONMENT, pass_fds=[lock])
        try:
            code = child.wait()
        except BaseException:
            child.terminate()  # it writes a checkpoint
            child.wait()
            raise
    if code:
        raise UserError(f"{arm.name}: main.py ended with code {code}; its output: {log.name}")
    (folder / "finished").touch()


if __name__ == "__main__":
    runner.run(main)
