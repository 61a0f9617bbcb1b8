"""Judging as many frames as KITTI's validation set has; the network's time is not in these figures.

Frames and detections are made up: on average 6 objects and one DontCare region a frame, and 100
detections, a third of them near an object, so that there is much to match. The command gets files
of all of them and of 4 a frame, as many as a submission to KITTI has.
"""

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.material import Material
from benchmarks.timing import Limit, Row, in_turns, run_process
from efficientdet.dataset.kitti import CLASSES, DONT_CARE, KittiObject
from efficientdet.dataset.label_map import LabelMap
from efficientdet.evaluation.frames import FrameDetections, FrameTruth

FRAMES, DETECTIONS = 3769, 100
SHARES = (0.69, 0.07, 0.03, 0.11, 0.01, 0.04, 0.01, 0.04)  # of KITTI's objects, by class


def rows(material: Material, turns: int) -> Iterator[Row]:
    """Both metrics in this process, their intervals, and the command on folders of text."""
    from efficientdet.evaluation import bootstrap, coco, kitti
    from efficientdet.evaluation.evaluate import evaluate

    random = np.random.default_rng(0)
    label_map = LabelMap.kitti()
    frames = [make_frame(random, f"{i:06d}") for i in range(FRAMES)]
    truths, detections = map(list, zip(*frames, strict=True))
    data = (truths, detections, label_map)
    few, single = (truths[:250], detections[:250], label_map), [None] * 250
    cars = ["kitti/Car_moderate_R40"]
    seconds = in_turns(
        {
            "KITTI 2D AP": lambda: kitti.evaluate(truths, detections, label_map.names),
            "COCO metrics": lambda: coco.evaluate(*data),
            "both, with thresholds": lambda: evaluate(*data),
            "1000 resamples of 250 frames: AP": lambda: bootstrap.intervals(*few, ["AP"], single),
            "the same: Car moderate R40": lambda: bootstrap.intervals(*few, cars, single),
        },
        turns,
    )
    for name, value in seconds.items():
        count = 250 if "250" in name or "same" in name else FRAMES
        yield Row("metric", name, value, count, "frames")
    for most in (4, DETECTIONS):
        some = [_best(frame, most) for frame in detections]
        yield _command(material.folder / f"metric{most}", truths, some, most, turns)


def _best(frame: FrameDetections, most: int) -> FrameDetections:
    chosen = np.argsort(-frame.scores, kind="stable")[:most]
    boxes, scores, classes = (a[chosen] for a in (frame.boxes, frame.scores, frame.classes))
    return FrameDetections(frame.source_id, boxes, scores, classes)


def _command(
    folder: Path,
    truths: Sequence[FrameTruth],
    detections: Sequence[FrameDetections],
    most: int,
    turns: int,
) -> Row:
    """`kitti_eval` of three classes, beside reading the very files."""
    from efficientdet.evaluation.results import write_kitti

    labels, results = folder / "labels", folder / "results"
    labels.mkdir(parents=True)
    for truth in truths:
        lines = "\n".join(_line(kitti_object) for kitti_object in truth.objects)
        (labels / f"{truth.source_id}.txt").write_text(lines + "\n")
    write_kitti(results, detections, LabelMap.kitti())
    module = "efficientdet.commands.kitti_eval"
    words = [sys.executable, "-m", module, f"--labels={labels}", f"--results={results}"]
    peak = 0.0

    def command() -> None:
        nonlocal peak
        _, peak = run_process(words)

    def read() -> None:
        for path in (*labels.iterdir(), *results.iterdir()):
            path.read_bytes()

    whole, reading = in_turns({"command": command, "reading": read}, turns).values()
    limit = Limit("reading the files", reading)
    what = f"kitti_eval, the process, {most} a frame"
    return Row("metric", what, whole, FRAMES, "frames", limit, peak)


def _line(kitti_object: KittiObject) -> str:
    return " ".join(map(str, dataclasses.astuple(kitti_object)[:15]))


def make_frame(random: np.random.Generator, source_id: str) -> tuple[FrameTruth, FrameDetections]:
    kinds = random.choice(len(CLASSES), 1 + random.poisson(5), p=SHARES)
    boxes = make_boxes(random, len(kinds))
    objects = [make_object(CLASSES[kind], box) for kind, box in zip(kinds, boxes, strict=True)]
    objects.append(make_object(DONT_CARE, make_boxes(random, 1)[0]))
    near = random.integers(len(kinds), size=DETECTIONS // 3)
    size = np.tile(boxes[near, 2:] - boxes[near, :2], 2)
    found = boxes[near] + random.normal(scale=0.06, size=size.shape) * size
    found = np.concatenate([found, make_boxes(random, DETECTIONS - len(near))])
    others = random.choice(len(CLASSES), DETECTIONS - len(near), p=SHARES)
    classes = np.concatenate([kinds[near], others]) + 1
    scores = random.beta(2, 5, DETECTIONS).astype(np.float32)
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
