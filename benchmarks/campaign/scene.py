"""What stands undisturbed: a tiny KITTI, its records, a trained run. Cases copy from it."""

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from PIL import Image

from benchmarks.campaign import commands
from benchmarks.campaign.commands import ROOT, Command

SIZE = (96, 48)  # of the images, width and height
NUM_FRAMES = 8
HPARAMS = (
    "backbone_name=efficientnet-tiny,fpn_num_filters=16,fpn_cell_repeats=1,box_class_repeats=1,"
    "image_size=64x32,anchor_scale=2,learning_rate=0.2,photometric=0.3"
)
_CLASSES = ("Car", "Van", "Pedestrian", "Cyclist", "DontCare")


@dataclass(frozen=True)
class Scene:
    """A folder, in which the parts are made once: `make` in the process that forks.

    Attributes:
        folder: KIT/, train.record, val.record and run/ lie in it.
        commands: names of COMMANDS that cases disturb; `train` is done for its run in any case.
    """

    folder: Path
    commands: tuple[str, ...] = ()

    @property
    def kitti(self) -> Path:
        """KITTI's folders, of eight frames."""
        return self.folder / "KIT"

    @property
    def run(self) -> Path:
        """A trained model_dir."""
        return self.folder / "run"

    @cached_property
    def frame_ids(self) -> list[str]:
        """The frames of `kitti`."""
        return [f"9{index:05d}" for index in range(NUM_FRAMES)]

    def make(self) -> "Scene":
        """Draws the frames, converts them, and does each of the commands undisturbed."""
        self.folder.mkdir()
        draw_frames(self.kitti)
        for subset in ("training", "validation"):
            _do(convert(subset), self.folder)
        for name, (command, needed) in COMMANDS.items():
            if name not in (*self.commands, "train"):
                continue
            reference = self.reference(name)
            reference.mkdir()
            self.copy(reference, *needed)
            events = _do(command(), reference)
            self.events_file(name).write_text("\n".join(events))
            if name == "train":
                shutil.copytree(reference / "run", self.run)
        return self

    def reference(self, name: str) -> Path:
        """Where the command `name` was done undisturbed."""
        return self.folder / f"undisturbed-{name}"

    def events_file(self, name: str) -> Path:
        """What that did to files, an event a line."""
        return self.folder / f"{name}.events"

    def copy_kitti(self, folder: Path, num_frames: int = NUM_FRAMES) -> Path:
        """A copy of the first frames in `folder`/KIT."""
        for part, suffix in (("image_2", ".png"), ("label_2", ".txt")):
            (folder / "KIT/training" / part).mkdir(parents=True)
            for name in self.frame_ids[:num_frames]:
                below = Path("training") / part / f"{name}{suffix}"
                shutil.copy2(self.kitti / below, folder / "KIT" / below)
        return folder / "KIT"

    def copy(self, folder: Path, *names: str) -> Path:
        """Copies files or folders of the scene, times included; returns `folder`."""
        for name in names:
            source, target = self.folder / name, folder / name
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, target)
        return folder


def _do(command: Command, folder: Path) -> list[str]:
    done = commands.run(command, folder)
    if done.code:
        raise RuntimeError(f"{command} fails undisturbed:\n{done.output}")
    return done.events


def draw_frames(root: Path) -> None:
    """Writes KITTI's folders: rectangles on noise, every object tightly boxed."""
    chance = random.Random(0)
    for part in ("image_2", "label_2"):
        (root / "training" / part).mkdir(parents=True, exist_ok=True)
    for index in range(NUM_FRAMES):
        image = Image.frombytes("RGB", SIZE, chance.randbytes(3 * SIZE[0] * SIZE[1]))
        lines = [_draw_object(image, chance, kind) for kind in chance.choices(_CLASSES, k=4)]
        lines.append(_draw_object(image, chance, "Car"))
        image.save(root / f"training/image_2/9{index:05d}.png")
        (root / f"training/label_2/9{index:05d}.txt").write_text("".join(lines))


def _draw_object(image: Image.Image, chance: random.Random, kind: str) -> str:
    left, top = chance.randrange(60), chance.randrange(20)
    right, bottom = left + chance.randrange(8, 36), top + chance.randrange(8, 28)
    image.paste(tuple(chance.randbytes(3)), (left, top, right, bottom))
    seen = "-1 -1 -10" if kind == "DontCare" else f"0.00 {chance.randrange(3)} -1.57"
    rest = "-1 -1 -1 -1000 -1000 -1000 -10" if kind == "DontCare" else "1.5 1.6 3.9 1 1.7 20 0.01"
    return f"{kind} {seen} {left}.00 {top}.00 {right}.00 {bottom}.00 {rest}\n"


def convert(subset: str, *more: str) -> Command:
    """create_kitti_tf_record.py: KIT/ -> train.record or val.record."""
    return Command(
        "create_kitti_tf_record.py", "--kitti_root=KIT", f"--subset={subset}", "--split=random",
        f"--output_path={'train' if subset == 'training' else 'val'}.record", "--val_fraction=0.25",
        f"--label_map_path={ROOT / 'label_map.txt'}", "--num_workers=2", *more,
    )  # fmt: skip


def train(*more: str) -> Command:
    """main.py: two epochs of three steps, evaluated after each."""
    return Command(
        "efficientdet/main.py", "--mode=train_and_eval", "--model_name=efficientdet-d0",
        "--train_file_pattern=train.record", "--val_file_pattern=val.record", "--model_dir=run",
        "--train_batch_size=2", "--num_epochs=2", "--save_checkpoints_steps=2",
        "--keep_checkpoints=2", "--deterministic", f"--hparams={HPARAMS}", *more,
    )  # fmt: skip


def evaluate(*more: str) -> Command:
    """main.py --mode=eval: scores the run's newest checkpoint."""
    return Command(
        "efficientdet/main.py", "--mode=eval", "--model_dir=run", "--val_file_pattern=val.record",
        *more,
    )  # fmt: skip


def predict(images: str = "KIT") -> Command:
    """predict.py: pictures, result files and detections.json in found/."""
    return Command(
        "efficientdet/predict.py", "--model_dir=run", f"--images={images}", "--output_dir=found",
        "--batch_size=2",
    )  # fmt: skip


def inspect() -> Command:
    """inspect_tfrecord.py, with its page."""
    return Command("inspect_tfrecord.py", "--input=val.record", "--report=report.html")


# What a kill or a fault meets: name -> (the command, what it needs of the scene).
COMMANDS: dict[str, tuple[Callable[[], Command], tuple[str, ...]]] = {
    "convert": (lambda: convert("training", "--num_shards=3"), ("KIT",)),
    "overwrite": (lambda: convert("validation", "--overwrite"), ("KIT", "val.record",
                                                                "val.record.manifest.json")),
    "train": (train, ("train.record", "train.record.manifest.json", "val.record",
                      "val.record.manifest.json")),
    "evaluate": (evaluate, ("run", "val.record", "val.record.manifest.json")),
    "predict": (predict, ("run", "KIT")),
}  # fmt: skip
