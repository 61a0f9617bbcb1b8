"""A detector that finds the same in every image, without a network."""

import numpy as np

from efficientdet.evaluation.frames import FrameDetections


class OneBox:
    """A car in every image, until the one it is to die at."""

    dies_at: str | None = None

    def detect(self, batch: dict[str, np.ndarray]) -> list[FrameDetections]:
        names = batch["source_id"][batch["valid"]].tolist()
        if self.dies_at in names:
            raise KeyboardInterrupt
        return [FrameDetections(name, [[0, 0, 4, 4]], [0.5], [1]) for name in names]
