"""Made-up runs: six frames of one car each, which run `a` finds all and `b` every other one."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from efficientdet.checkpoint.identity import Identity
from efficientdet.config import Config
from efficientdet.dataset.example import Annotation, make_example
from efficientdet.dataset.image import read_header
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.tfrecord import write_record
from efficientdet.evaluation.frames import FrameDetections
from efficientdet.evaluation.results import write_coco
from efficientdet.input.record_set import RecordSet
from efficientdet.run import record_prints
from efficientdet.run.checkpoints import CheckpointManager, Progress
from efficientdet.run.directory import RunDirectory
from efficientdet.run.metrics_log import MetricsLog
from efficientdet.run.scored_frames import ScoredFrames
from efficientdet.run.thresholds import Thresholds

LABEL_MAP = LabelMap((("Car",), ("Pedestrian",)))
BOX = (20, 20, 90, 60)
LINE = f"Car 0 0 0 {BOX[0]} {BOX[1]} {BOX[2]} {BOX[3]} 1.5 1.6 4 0 1.7 20 0"
IDS = tuple(f"f{number}" for number in range(6))
EVERY_OTHER = np.array([1, 0, 1, 0, 1, 0])


def found(hits: Sequence[int], source_ids: Sequence[str] = IDS) -> list[FrameDetections]:
    return [
        FrameDetections(source_id, [BOX], [0.9], [1]) if hit else FrameDetections(source_id)
        for source_id, hit in zip(source_ids, hits, strict=True)
    ]


def write_frames(path: Path, source_ids: Sequence[str] = IDS) -> RecordSet:
    """A record of such frames."""
    buffer = io.BytesIO()
    Image.new("RGB", (200, 80), (90, 90, 90)).save(buffer, "PNG")
    encoded = buffer.getvalue()
    with path.open("wb") as file:
        for source_id in source_ids:
            car = Annotation(BOX, 1, "Car", line=LINE)
            example = make_example(encoded, read_header(encoded), source_id, [car])
            write_record(file, example)
    return RecordSet.open(str(path), of_run=LABEL_MAP)


def write_run(
    folder: Path,
    records: RecordSet | None = None,
    hits: Sequence[int] | None = None,
    *,
    source_ids: Sequence[str] = IDS,
    label_map: LabelMap = LABEL_MAP,
    is_older: bool = False,
    **hparams: object,
) -> Path:
    """The folder of a run that was trained for two epochs of three."""
    values = {"num_classes": label_map.num_classes, "num_epochs": 3, **hparams}
    RunDirectory(folder).write(Config.for_model("efficientdet-d0").override(values), label_map)
    progress = Progress(8, 2, 0, steps_per_epoch=4, batch_size=2, seconds=90.0)
    CheckpointManager(folder).save({"weight": np.array(1.0)}, progress)
    log = MetricsLog(folder / "metrics.jsonl")
    for step in (4, 8):
        losses = {"det_loss": 2.0 / step, "cls_loss": 1.0 / step, "learning_rate": 0.1}
        log.append("train", step, step / 4, losses)
        if hits is not None:
            metrics = {"AP": step / 100, "AP_/Car": 0.1, "num_images": len(source_ids)}
            log.append("eval", step, step / 4, metrics | {"val_det_loss": 1.0 / step})
    if records:
        record_prints.write(folder, {"val": records})
    if hits is not None:
        frames, checkpoint = found(hits, source_ids), Identity("model.ckpt-8", 8, "0")
        (folder / "eval").mkdir()
        if is_older:
            write_coco(folder / "eval/detections.json", frames)
            Thresholds({"Car": 0.5}, checkpoint).write(folder / "eval/thresholds.json")
        else:
            prints, files = record_prints.fingerprint(records), list(map(str, records.files))
            stored = ScoredFrames(frames, label_map, checkpoint, prints, files, "2026-01-02")
            stored.write(folder / "eval/detections.npz")
    return folder
