"""One run, or several side by side, as one page of HTML.

    python -m efficientdet.commands.report --output=compare.html \\
        --model_dir=savedmodel/a,savedmodel/b

What differs between their settings, their data, curves over each other, scores with intervals, the
frames on which they differ most, what the guards did, the commands that were typed. Nothing is
evaluated anew: the page takes what the last evaluations have left. A run may be in training.
"""

import logging
import sys
from pathlib import Path

from efficientdet.commands import runner  # isort: skip (says what is not installed)
from absl import flags

from efficientdet.errors import UsageError

FLAGS = flags.FLAGS
logger = logging.getLogger("efficientdet.commands.report")


def main() -> None:
    """Writes the page."""
    folders = [folder for folder in FLAGS.model_dir or [] if folder]
    if not folders:
        raise UsageError("--model_dir is missing: the folder of a run, or of several: a,b,c")
    output = Path(FLAGS.output)
    if output.is_dir():
        raise UsageError(f"--output={output}: a folder; expected a file, such as compare.html")
    for folder in folders:  # before anything slow
        if not Path(folder).is_dir():
            raise UsageError(f"--model_dir={folder}: no such folder; expected that of a run")
    from efficientdet.commands import quiet_tensorflow  # isort: skip  # noqa: F401
    from efficientdet.comparison import page
    from efficientdet.comparison.runs import read_runs
    from efficientdet.comparison.scores import judge

    runs, notes = read_runs(folders)
    scores = judge(runs, FLAGS.val_file_pattern, newest=FLAGS.newest, resamples=FLAGS.bootstrap)
    page.write(output, runs, scores, notes, num_frames=FLAGS.frames)
    for note in (*notes, *scores.notes):
        logger.warning(note)
    logger.info(f"{output}: {output.stat().st_size / 1e6:.1f} MB, open it in a browser")


if __name__ == "__main__":
    flags.DEFINE_list(
        "model_dir", None, "Folders of the runs; the first is what others differ from."
    )
    flags.DEFINE_string("output", "compare.html", "The page.")
    flags.DEFINE_string(
        "val_file_pattern", None,
        "Validation records; default: those that the evaluations name, where they still lie.",
    )  # fmt: skip
    flags.DEFINE_bool(
        "newest", False, "Take each run's last evaluation, not that of its best checkpoint."
    )
    flags.DEFINE_integer(
        "bootstrap", 1000, "Resamples for the intervals; 0: no intervals.", lower_bound=0
    )
    flags.DEFINE_integer(
        "frames", 6, "Frames to show under each run, the worst differences first.", lower_bound=0
    )
    sys.exit(runner.run(main))
