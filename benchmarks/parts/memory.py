"""Memory of a training process after each epoch with its evaluation: it must level off."""

import sys
from collections.abc import Iterator

from benchmarks.material import Material
from benchmarks.timing import Row, run_process
from efficientdet.config_files import PROJECT
from efficientdet.run.metrics_log import MetricsLog

EPOCHS = 10
TINY = (
    "backbone_name=efficientnet-tiny,fpn_num_filters=16,fpn_cell_repeats=1,box_class_repeats=1,"
    "image_size=192x64,anchor_scale=1,lr_decay_method=constant"
)


def rows(material: Material, turns: int) -> Iterator[Row]:
    """A tiny network, so that what an epoch leaves behind is not lost beside the weights."""
    model_dir = material.folder / "epochs"
    seconds, _ = run_process(
        [
            sys.executable, PROJECT / "efficientdet/main.py", "--mode=train_and_eval",
            "--model_name=efficientdet-d0", f"--train_file_pattern={material.record}",
            f"--val_file_pattern={material.record}", f"--model_dir={model_dir}",
            "--train_batch_size=2", "--eval_batch_size=2", "--num_examples_per_epoch=40",
            f"--num_epochs={EPOCHS}", "--eval_samples=10", f"--hparams={TINY}",
        ]
    )  # fmt: skip
    records = MetricsLog(model_dir / "metrics.jsonl").read("train")
    by_epoch = {round(record["epoch"] + 0.49): record["rss_mb"] for record in records}
    for epoch, megabytes in sorted(by_epoch.items()):
        what = f"tiny network, after epoch {epoch}"
        yield Row("memory", what, seconds / EPOCHS, peak_mb=megabytes)
