"""Finds objects in images and videos: pictures with boxes, KITTI result files, COCO json.

    python efficientdet/predict.py --model_dir=savedmodel/exp \\
        --images=KITTI/testing/image_2 --output_dir=found

--images takes files, folders, globs, records (val.record) and videos, by commas. A KITTI root
stands for its training images; use --image_list=ImageSets/val.txt to take some of them. Of a folder
without images those in its folders are taken: cam1/000001. Boxes below --min_score are not drawn;
the result files keep them all, as KITTI's evaluation wants.
"""

import sys
from pathlib import Path

if not __package__:  # typed by path: the package is found where it lies, installed or not
    _here = Path(__file__).resolve().parent
    sys.path = [str(_here.parent), *(path for path in sys.path if Path(path).resolve() != _here)]

from efficientdet.commands import runner  # isort: skip (says what is not installed)
from absl import flags

from efficientdet.commands import export_flags, run_flags
from efficientdet.config import parse_hparams
from efficientdet.errors import UsageError

FLAGS = flags.FLAGS
run_flags.define_flags()
export_flags.define_flags()
flags.DEFINE_string("images", None, "Images, folders, globs, records or videos, by commas.")
flags.DEFINE_string("image_list", None, "Text file of frame ids: take only those.")
flags.DEFINE_string(
    "compare_labels", None, "Folder of labels (label_2) or record: what was found, missed or "
    "invented is drawn in three colours, and counted.",
)  # fmt: skip
flags.DEFINE_bool("draw", True, "Make pictures and videos; --nodraw: result files alone.")
flags.DEFINE_string("submission", None, "Zip to write for KITTI's server; of testing/image_2.")
flags.DEFINE_string("output_dir", "predictions", "Where pictures, videos and results go.")
flags.DEFINE_float(
    "min_score", None, "Draw boxes from this score on. Default: per class, the best F1 in the "
    "evaluation of this checkpoint; 0.3 where there was none or it is below 0.1.",
    lower_bound=0, upper_bound=1,
)  # fmt: skip
flags.DEFINE_integer(
    "max_images", None, "Stop after so many images; of each video, after so many frames.",
    lower_bound=1,
)  # fmt: skip
flags.DEFINE_integer("batch_size", 4, "Images at once.", lower_bound=1)
flags.DEFINE_multi_string(
    "hparams", [], "Hyper-parameters, as for main.py; say nms_configs.max_output_size=20"
)


def main() -> None:
    """Checks what the flags leave out and hands over."""
    export = export_flags.chosen()
    for name in ("images",) if export else ("model_dir", "images"):
        if not FLAGS[name].value:
            raise UsageError(f"--{name} is missing: {FLAGS[name].help}")
    which = run_flags.which()
    hparams = parse_hparams(FLAGS.hparams)
    from efficientdet.input.images import find_videos, require_images
    from efficientdet.input.videos import require_pyav
    from efficientdet.run.checkpoints import checkpoint_of

    if not (FLAGS.ckpt or export):
        checkpoint_of(Path(FLAGS.model_dir), which, to="predict with")
    require_images(FLAGS.images)
    require_pyav(find_videos(FLAGS.images))
    # TensorFlow takes seconds to import: --help, bad flags and missing files should not.
    from efficientdet.commands import quiet_tensorflow  # isort: skip  # noqa: F401
    from efficientdet.inference.prediction import PredictOptions, predict

    predict(runner.options(PredictOptions, hparams=hparams, which=which, export=export))


if __name__ == "__main__":
    sys.exit(runner.run(main))
