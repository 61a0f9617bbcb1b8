"""What each part of the KITTI recipe is worth: one training each, one part more every time.

    python benchmarks/recipes.py --train_file_pattern=train.record --val_file_pattern=val.record \
        --work_dir=recipes --minutes=60

The first row is configs/automl_defaults.yaml, the last one the recipe; a row in between has its own
part and those above it, and the baseline's values for the others. All else is alike: model,
optimizer, batch, seed, random weights to start from, minutes of training. The rows take turns, so
that what else the machine does meets all of them. Stopped or killed, the same command goes on.

Writes `recipes.md` (scores with their 95 % intervals over resampled drives) and
`before_after.png` (ten frames, first row on the left, last row on the right) to --work_dir.
"""

import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from efficientdet.commands import runner, quiet_tensorflow  # isort: skip  # noqa: F401
import keras
import numpy as np
import tensorflow as tf
import yaml
from absl import flags
from rich.console import Console
from rich.progress import track

from efficientdet import backend
from efficientdet.atomic import atomic_open
from efficientdet.config import Config, flatten, parse_hparams
from efficientdet.dataset.example import parse_example
from efficientdet.dataset.image import decode
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.splits import drive_of, looks_like_kitti
from efficientdet.errors import UserError
from efficientdet.evaluation import bootstrap
from efficientdet.evaluation.evaluate import evaluate
from efficientdet.evaluation.folders import CLASS_NAMES, read_result_folder
from efficientdet.evaluation.frames import FrameDetections, FrameTruth
from efficientdet.inference.truths import read_truths
from efficientdet.input.record_index import RecordIndex
from efficientdet.input.record_set import RecordSet
from efficientdet.run.checkpoints import CheckpointManager, Progress
from efficientdet.run.thresholds import Thresholds
from efficientdet.visualize.detections import draw_detections, draw_truth
from efficientdet.visualize.drawing import save_image, sheet

ROOT = Path(__file__).resolve().parents[1]
TRAIN = flags.DEFINE_string("train_file_pattern", None, "Training records.", required=True)
VAL = flags.DEFINE_string("val_file_pattern", None, "Validation records.", required=True)
WORK_DIR = flags.DEFINE_string("work_dir", None, "Folder of all runs and results.", required=True)
MODEL = flags.DEFINE_string("model_name", "efficientdet-d0", "Model of every row.")
MINUTES = flags.DEFINE_float("minutes", 60, "Training of each row, all starts together.")
TURN = flags.DEFINE_float("turn_minutes", 10, "Training of one row before the next has its turn.")
BATCH_SIZE = flags.DEFINE_integer("train_batch_size", 8, "Images an update.", lower_bound=1)
BASELINE = flags.DEFINE_string(
    "baseline", str(ROOT / "configs" / "automl_defaults.yaml"), "Hyper-parameters of the first row."
)
RECIPE = flags.DEFINE_string(
    "recipe", str(ROOT / "configs" / "kitti_from_scratch.yaml"), "Those of the last row."
)

# Name of a part -> the hyper-parameters that it consists of.
PARTS = {
    "wide input": ("image_size",),
    "fitted anchors": ("anchor_scale", "aspect_ratios", "min_level"),
    "ignore regions": ("ignore_regions",),
    "balance and augmentation": (
        "jitter_min", "jitter_max", "crop_prob", "photometric", "mosaic_prob", "copy_paste_prob",
        "repeat_threshold", "class_weights",
    ),
}  # fmt: skip
METRICS = (
    "AP", "AP50", "APs", "kitti/Car_moderate_R40", "kitti/Pedestrian_moderate_R40",
    "kitti/Cyclist_moderate_R40",
)  # fmt: skip
HEADINGS = ("AP", "AP50", "APs", "Car", "Pedestrian", "Cyclist")
# A number of steps that is not known beforehand needs a rate that does not depend on it.
OPEN_END = {"lr_decay_method": "constant", "num_epochs": 100_000}
NUM_PICTURES = 10


@dataclass(frozen=True)
class Row:
    """One line of the table, and the run behind it."""

    title: str
    hparams: Mapping[str, Any]
    folder: Path

    @property
    def progress(self) -> Progress:
        """Where its training is."""
        loaded = CheckpointManager(self.folder).load_latest()
        return loaded[1] if loaded else Progress()


def main() -> None:
    """Trains, scores and draws."""
    work_dir = Path(WORK_DIR.value)
    rows = make_rows(parse_hparams(BASELINE.value), parse_hparams(RECIPE.value), work_dir)
    console = Console()
    train_in_turns(rows, console)
    for row in track(rows, "evaluating", console=console, disable=not console.is_terminal):
        run_main(
            row, "eval", f"--val_file_pattern={VAL.value}", f"--eval_batch_size={BATCH_SIZE.value}"
        )
    records = RecordSet.open(VAL.value)
    truths = read_truths(records.files, records.label_map)
    found = [read_detections(row, truths, records.label_map) for row in rows]
    text = table(rows, truths, found, records.label_map)
    with atomic_open(work_dir / "recipes.md") as file:
        file.write(text)
    print(text)
    picture = before_after(records, truths, rows, found)
    save_image(picture, work_dir / "before_after.png")
    print(f"written to {work_dir}: recipes.md, before_after.png")


def make_rows(baseline: Mapping[str, Any], recipe: Mapping[str, Any], work_dir: Path) -> list[Row]:
    """The baseline, then one part of the recipe more in each row."""
    stock = flatten(Config.for_model(MODEL.value).to_dict())
    old = {key: baseline.get(key, stock[key]) for keys in PARTS.values() for key in keys}
    hparams = dict(recipe) | OPEN_END | old
    rows = [Row("baseline", hparams, work_dir / "0-baseline")]
    for number, (part, keys) in enumerate(PARTS.items(), start=1):
        hparams = hparams | {key: recipe.get(key, stock[key]) for key in keys}
        rows.append(Row(f"+ {part}", hparams, work_dir / f"{number}-{part.replace(' ', '-')}"))
    return rows


def train_in_turns(rows: Sequence[Row], console: Console) -> None:
    """Brings every row to `--minutes` of training."""
    turns = [
        (row, min(turn * TURN.value, MINUTES.value))
        for turn in range(1, math.ceil(MINUTES.value / TURN.value) + 1)
        for row in rows
    ]
    for row, minutes in track(turns, "training", console=console, disable=not console.is_terminal):
        if row.progress.seconds < 60 * minutes:
            console.print(f"{row.title}: to minute {minutes:g} of {MINUTES.value:g}")
            run_main(
                row,
                "train",
                f"--train_file_pattern={TRAIN.value}",
                f"--train_batch_size={BATCH_SIZE.value}",
                f"--max_train_minutes={minutes}",
                "--save_checkpoints_steps=250",
                "--keep_checkpoints=1",
            )


def run_main(row: Row, mode: str, *arguments: str) -> None:
    """main.py on one row; its output goes to `<mode>.log`.

    Raises:
        UserError: it failed.
    """
    row.folder.mkdir(parents=True, exist_ok=True)
    hparams, log = row.folder / "hparams.yaml", row.folder / f"{mode}.log"
    with atomic_open(hparams) as file:
        yaml.safe_dump(dict(row.hparams), file)
    words = [sys.executable, str(ROOT / "efficientdet" / "main.py"), f"--mode={mode}"]
    words += [f"--model_name={MODEL.value}", f"--model_dir={row.folder}", f"--hparams={hparams}"]
    with log.open("a", encoding="utf-8") as file:
        code = subprocess.run([*words, *arguments], stdout=file, stderr=file).returncode
    if code:
        raise UserError(f"{row.title}: main.py ended with exit code {code}; its output: {log}")


def read_detections(
    row: Row, truths: Sequence[FrameTruth], label_map: LabelMap
) -> list[FrameDetections]:
    """What the last evaluation of a row wrote, with class ids of the label map."""
    results = read_result_folder(row.folder / "eval" / "results", [t.source_id for t in truths])
    return [
        replace(frame, classes=np.array([label_map.id_of(CLASS_NAMES[c]) for c in frame.classes]))
        for frame in results.detections
    ]


def table(
    rows: Sequence[Row],
    truths: Sequence[FrameTruth],
    found: Sequence[Sequence[FrameDetections]],
    label_map: LabelMap,
) -> str:
    """Markdown: percent, 95 % intervals in brackets; last, what the whole recipe adds."""
    groups = _drives(truths)
    draws = [bootstrap.samples(truths, frames, label_map, METRICS, groups) for frames in found]
    values = [evaluate(truths, frames, label_map).metrics for frames in found]
    lines = [
        "| | minutes | steps | " + " | ".join(HEADINGS) + " |",
        "|---|---|---|" + "---|" * len(METRICS),
    ]
    for row, scores, samples in zip(rows, values, draws, strict=True):
        cells = [_cell(scores[name], samples[name]) for name in METRICS]
        done = row.progress
        minutes = f"{done.seconds / 60:.1f}"
        lines.append(f"| {row.title} | {minutes} | {done.step} | {' | '.join(cells)} |")
    gains = [
        _cell(values[-1][n] - values[0][n], draws[-1][n] - draws[0][n], sign="+") for n in METRICS
    ]
    lines.append(f"| last minus first | | | {' | '.join(gains)} |")
    return "\n".join([*lines, "", _caption(rows, truths), ""])


def _cell(value: float, samples: np.ndarray, sign: str = "") -> str:
    interval = bootstrap.Interval.of(samples)
    return f"{100 * value:{sign}.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def _caption(rows: Sequence[Row], truths: Sequence[FrameTruth]) -> str:
    first, last = (row.hparams["image_size"] for row in (rows[0], rows[-1]))
    drawn = bootstrap.resampled(_drives(truths))
    return (
        f"Percent, 95 % interval over {drawn} in brackets; Car, Pedestrian and Cyclist: KITTI "
        f"moderate R40. {MODEL.value} from random weights, batch {BATCH_SIZE.value}, input {first} "
        f"and {last}, {len(truths)} validation frames, {keras.backend.backend()} on "
        f"{backend.device()}."
    )


def _drives(truths: Sequence[FrameTruth]) -> list[str | None]:
    """The drive of each frame, None where it is not KITTI's."""
    is_kitti = looks_like_kitti({t.source_id: (t.width, t.height) for t in truths})
    return [drive_of(t.source_id) if is_kitti else None for t in truths]


def before_after(
    records: RecordSet,
    truths: Sequence[FrameTruth],
    rows: Sequence[Row],
    found: Sequence[Sequence[FrameDetections]],
) -> np.ndarray:
    """Frames with pedestrians or cyclists: found by the first row on the left, the last right."""
    index, label_map = RecordIndex(records.files), records.label_map
    ends = [(row, {f.source_id: f for f in found[i]}) for i, row in ((0, rows[0]), (-1, rows[-1]))]
    numbers = [
        i for i, t in enumerate(truths) if {"Pedestrian", "Cyclist"} & {o.type for o in t.objects}
    ]
    chosen = numbers[:: max(1, len(numbers) // NUM_PICTURES)][:NUM_PICTURES]
    pictures, captions = [], []
    for number in chosen:
        example = parse_example(index.read(tf.constant(number, tf.int64)))
        image = decode(example["image"].numpy())
        truth = truths[number]
        for row, frames in ends:
            picture, thresholds = draw_truth(image, truth, label_map), _thresholds(row, label_map)
            picture = draw_detections(picture, frames[truth.source_id], label_map, thresholds)
            pictures.append(picture)
            captions.append(f"{truth.source_id}   {row.title if row is rows[0] else 'recipe'}")
    return sheet(pictures, 2, captions, cell_width=900)


def _thresholds(row: Row, label_map: LabelMap) -> dict[int, float]:
    """Class id -> the score of best F1; a class that was never found rightly is not drawn."""
    scores = Thresholds.read(row.folder / "eval" / "thresholds.json").scores
    return {i: scores.get(name, math.inf) for i, name in label_map.names.items()}


if __name__ == "__main__":
    runner.run(main)
