"""A trained run as an object: images in memory -> detections. For programs; commands use files."""

from pathlib import Path

import numpy as np

from efficientdet.checkpoint.stored import require
from efficientdet.config import Config
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UserError
from efficientdet.evaluation.frames import FrameDetections
from efficientdet.inference.detector import Detector, load_detector
from efficientdet.input.images import original_batch
from efficientdet.run.checkpoints import checkpoint_of
from efficientdet.run.directory import RunDirectory
from efficientdet.run.thresholds import DEFAULT, thresholds_of


class ImageDetector:
    """Finds the objects of single images; see `load_run`.

    Attributes:
        config: of the run.
        names: class id -> name.
        thresholds: class id -> score from which a detection is worth showing: the best F1 of the
            checkpoint's evaluation, 0.3 where there was none.
    """

    def __init__(
        self,
        detector: Detector,
        config: Config,
        label_map: LabelMap,
        thresholds: dict[int, float],
    ):
        self._detector, self.config = detector, config
        self.names, self.thresholds = dict(label_map.names), thresholds

    def detect(self, image: np.ndarray) -> FrameDetections:
        """All detections in one image, best first, weak ones included.

        Args:
            image: uint8 [H, W, 3], RGB, of any size.

        Raises:
            ValueError: of another type or shape.
        """
        image = np.asarray(image)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ValueError(
                f"expected an RGB image, uint8 [H, W, 3], got {image.dtype} {[*image.shape]}"
            )
        (found,) = self._detector.detect(original_batch(image, "", self.config))
        return found


def load_run(model_dir: str | Path, ckpt: str | Path | None = None) -> ImageDetector:
    """The detector that a run trained: its best checkpoint where one is kept, else the newest.

    Args:
        model_dir: folder of the run.
        ckpt: another checkpoint: a prefix or a folder, such as `model_dir`, the newest.

    Raises:
        UserError: no run there, no checkpoint, or a damaged one.
    """
    run = RunDirectory(model_dir)
    if not run.exists:
        raise UserError(f"{run.path}: no run (no config.yaml in it); expected a --model_dir")
    path = str(ckpt or checkpoint_of(run.path, None, to="detect with"))
    require(path)
    label_map = run.label_map(None)
    config = run.config(None, {}, label_map)
    best, _ = thresholds_of(path, run.path)
    thresholds = {i: best.get(name, DEFAULT) for i, name in label_map.names.items()}
    return ImageDetector(load_detector(config, path, label_map), config, label_map, thresholds)
