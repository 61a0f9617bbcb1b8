"""Small made-up frames for the metrics."""

import numpy as np
import pytest

from efficientdet.dataset.kitti import CLASSES, KittiObject
from efficientdet.dataset.label_map import LabelMap
from efficientdet.evaluation.frames import FrameDetections, FrameTruth


def _object(kind="Car", box=(0, 0, 100, 50), *, occluded=0, truncated=0.0, z=20.0):
    return KittiObject(kind, truncated, occluded, 0, *map(float, box), 1.5, 1.6, 4, 0, 1.7, z, 0)


def _detections(*rows, source_id="000000"):
    boxes = np.array([row[0] for row in rows], float).reshape(-1, 4)
    scores = np.array([row[1] for row in rows], float)
    return FrameDetections(source_id, boxes, scores, np.array([row[2] for row in rows], int))


def _random_boxes(random, count):
    """Boxes on a coarse grid: overlaps of every size, and many that are exactly equal."""
    corner = random.integers(0, 12, (count, 2)) * 8.0
    return np.concatenate([corner, corner + random.integers(2, 8, (count, 2)) * 8.0], axis=1)


# Car often, so that boxes of one class meet; DontCare can be no detection.
_KINDS = [*CLASSES, "Car", "Car", "Car", "Van", "Pedestrian"]


def _random_frames(seed, *, num_frames=4, ties=True):
    """Ground truth, and detections with the ids of all eight KITTI classes."""
    random = np.random.default_rng(seed)
    truths, detections = [], []
    for frame in range(num_frames):
        source_id = f"{frame:06d}"
        kinds = random.choice([*_KINDS, "DontCare"], random.integers(0, 8))
        levels = random.choice([0, 0, 1, 2, 3], len(kinds))
        boxes = _random_boxes(random, len(kinds))
        objects = [
            _object(str(kind), box, occluded=int(level), truncated=float(level) / 5)
            for kind, box, level in zip(kinds, boxes, levels, strict=True)
        ]
        found = random.permutation(np.concatenate([boxes, boxes + 1, _random_boxes(random, 4)]))
        found = found[: random.integers(0, 16)]
        scores = random.integers(1, 5, len(found)) / 4 if ties else random.random(len(found))
        classes = [CLASSES.index(kind) + 1 for kind in random.choice(_KINDS, len(found))]
        truths.append(FrameTruth(source_id, 200, 200, objects))
        detections.append(FrameDetections(source_id, found, scores, np.array(classes, int)))
    return truths, detections


@pytest.fixture(scope="session")
def make_object():
    """A function that makes a KittiObject of a type and a box."""
    return _object


@pytest.fixture(scope="session")
def make_detections():
    """A function that makes FrameDetections of (box, score, class id) rows."""
    return _detections


@pytest.fixture(scope="session")
def random_frames():
    """A function from a seed to truths and detections with ids of all eight KITTI classes."""
    return _random_frames


@pytest.fixture(scope="session")
def label_map():
    """Car 1, Pedestrian 2, Cyclist 3."""
    return LabelMap((("Car",), ("Pedestrian",), ("Cyclist",)))
