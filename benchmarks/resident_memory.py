"""Memory of a training process over its epochs: it must level off.

    python benchmarks/resident_memory.py --epochs=10

Trains and evaluates a tiny network on made-up frames through main.py, and prints the resident
memory at the end of each epoch.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from efficientdet.commands import runner  # isort: skip (says what is not installed)
from absl import flags

from efficientdet.run.metrics_log import MetricsLog

ROOT = Path(__file__).resolve().parents[1]
EPOCHS = flags.DEFINE_integer("epochs", 10, "Epochs, each with its evaluation.", lower_bound=2)
FRAMES = flags.DEFINE_integer("frames", 40, "Frames; a quarter of them for evaluation.")
HPARAMS = flags.DEFINE_string(
    "hparams",
    "backbone_name=efficientnet-tiny,fpn_num_filters=16,fpn_cell_repeats=1,box_class_repeats=1,"
    "image_size=192x64,anchor_scale=1,lr_decay_method=constant",
    "Network and input.",
)


def main() -> None:
    from efficientdet.synthetic.scenes import render_set

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        render_set(folder, FRAMES.value)
        for subset in ("training", "validation"):
            run(
                "create_kitti_tf_record.py", f"--kitti_root={folder}", "--split=random",
                f"--output_path={folder / subset}.record", f"--subset={subset}",
                f"--label_map_path={ROOT / 'label_map.txt'}", "--val_fraction=0.25",
            )  # fmt: skip
        run(
            "efficientdet/main.py", "--mode=train_and_eval", "--model_name=efficientdet-d0",
            f"--train_file_pattern={folder}/training.record", "--train_batch_size=2",
            f"--val_file_pattern={folder}/validation.record", "--eval_batch_size=2",
            f"--model_dir={folder / 'run'}", f"--num_epochs={EPOCHS.value}",
            f"--hparams={HPARAMS.value}",
        )  # fmt: skip
        records = MetricsLog(folder / "run" / "metrics.jsonl").read("train")
    by_epoch = {round(record["epoch"] + 0.49): record["rss_mb"] for record in records}
    for epoch, megabytes in sorted(by_epoch.items()):
        print(f"epoch {epoch:3d}: {megabytes:.0f} MB")


def run(script: str, *arguments: str) -> None:
    """One of the project's commands; its output is shown only if it fails."""
    words = [sys.executable, str(ROOT / script), *arguments]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)


if __name__ == "__main__":
    runner.run(main)
