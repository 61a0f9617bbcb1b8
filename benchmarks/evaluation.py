"""Time and memory of judging as many frames as KITTI's validation set has.

    python benchmarks/evaluation.py

Frames and detections are made up: on average 6 objects and one DontCare region a frame, and 100
detections, a third of them near an object, so that there is much to match. The network's time is
not in these figures.
"""

import resource
import time

import numpy as np
from absl import flags
from rich.console import Console
from rich.table import Table

from efficientdet.commands import runner
from efficientdet.dataset.kitti import CLASSES, DONT_CARE, KittiObject
from efficientdet.dataset.label_map import LabelMap
from efficientdet.evaluation.frames import FrameDetections, FrameTruth

FRAMES = flags.DEFINE_integer("frames", 3769, "How many frames.", lower_bound=1)
DETECTIONS = flags.DEFINE_integer("detections", 100, "Detections a frame.", lower_bound=1)
SEED = flags.DEFINE_integer("seed", 0, "Of the made-up frames.")

SHARES = (0.69, 0.07, 0.03, 0.11, 0.01, 0.04, 0.01, 0.04)  # of KITTI's objects, by class


def main() -> None:
    from efficientdet.evaluation import bootstrap, coco, kitti
    from efficientdet.evaluation.evaluate import evaluate

    random = np.random.default_rng(SEED.value)
    label_map = LabelMap.kitti()
    frames = [make_frame(random, f"{i:06d}") for i in range(FRAMES.value)]
    truths, detections = map(list, zip(*frames, strict=True))
    data = (truths, detections, label_map)
    table = Table(title=f"{FRAMES.value} frames, {DETECTIONS.value} detections each")
    for column in ("what", "seconds", "CPU seconds", "peak memory, MB"):
        table.add_column(column, justify="left" if column == "what" else "right")
    table.add_row("frames in memory", "", "", f"{peak_memory():.0f}")
    few, single = (truths[:250], detections[:250], label_map), [None] * len(truths[:250])
    cars = ["kitti/Car_moderate_R40"]
    for name, call, arguments in (
        ("KITTI 2D AP", kitti.evaluate, (truths, detections, label_map.names)),
        ("COCO metrics", coco.evaluate, data),
        ("evaluate(): both, thresholds", evaluate, data),
        ("1000 resamples of 250 frames: AP", bootstrap.intervals, (*few, ["AP"], single)),
        (
            "the same: Car moderate R40",
            bootstrap.intervals,
            (*few, cars, single),
        ),
    ):
        wall, cpu = time.perf_counter(), time.process_time()
        call(*arguments)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        table.add_row(name, f"{wall:.2f}", f"{cpu:.2f}", f"{peak_memory():.0f}")
    Console().print(table)


def make_frame(random: np.random.Generator, source_id: str) -> tuple[FrameTruth, FrameDetections]:
    kinds = random.choice(len(CLASSES), 1 + random.poisson(5), p=SHARES)
    boxes = make_boxes(random, len(kinds))
    objects = [make_object(CLASSES[kind], box) for kind, box in zip(kinds, boxes, strict=True)]
    objects.append(make_object(DONT_CARE, make_boxes(random, 1)[0]))
    near = random.integers(len(kinds), size=DETECTIONS.value // 3)
    size = np.tile(boxes[near, 2:] - boxes[near, :2], 2)
    found = boxes[near] + random.normal(scale=0.06, size=size.shape) * size
    found = np.concatenate([found, make_boxes(random, DETECTIONS.value - len(near))])
    others = random.choice(len(CLASSES), DETECTIONS.value - len(near), p=SHARES)
    classes = np.concatenate([kinds[near], others]) + 1
    scores = random.beta(2, 5, DETECTIONS.value).astype(np.float32)
    return (
        FrameTruth(source_id, 1242, 375, objects),
        FrameDetections(source_id, found, scores, classes),
    )


def make_boxes(random: np.random.Generator, count: int) -> np.ndarray:
    """Float [count, 4], left, top, right, bottom; higher boxes stand lower, as on a road."""
    height = np.exp(random.uniform(np.log(15), np.log(200), count))
    left, width = random.uniform(0, 1142, count), height * random.uniform(0.4, 2, count)
    top = 180 - 0.4 * height
    return np.stack([left, top, left + width, top + height], axis=1)


def make_object(kind: str, box: np.ndarray) -> KittiObject:
    return KittiObject(kind, 0, 0, 0, *box.tolist(), 1.5, 1.6, 4, 0, 1.7, 20, 0)


def peak_memory() -> float:
    """MB of this process, at its highest so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    runner.run(main)
