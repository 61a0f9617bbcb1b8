"""Each exported file is run by its own runtime, and held against the network it was made of."""

import json
import logging
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path

import numpy as np
from rich.table import Table

from efficientdet.atomic import atomic_open
from efficientdet.config import Config
from efficientdet.console import console
from efficientdet.deploy.agreement import CHANCE, MIN_SCORE, Agreement, compare
from efficientdet.errors import UserError
from efficientdet.evaluation.evaluate import evaluate
from efficientdet.evaluation.frames import FrameDetections
from efficientdet.inference.detector import Detector
from efficientdet.inference.export_info import ExportInfo
from efficientdet.inference.exported import ExportedDetector, open_export
from efficientdet.inference.validation import Batch, Validator, count_images
from efficientdet.input.images import original_batch
from efficientdet.input.record_set import RecordSet
from efficientdet.progress import track
from efficientdet.synthetic.scenes import render_frame

logger = logging.getLogger(__name__)

REPORT = "export_report.json"
_MADE_UP, _TIMED, _WARM_UP = 4, 20, 3
_RUNTIMES = ("tensorflow", "ai-edge-litert", "onnxruntime")


@dataclass(frozen=True)
class Tolerance:
    """How far a file may be from the network it was made of.

    Attributes:
        score, box: of a detection, the latter in pixels; None: not limited.
        unmatched: share of detections without a counterpart.
        ap_loss, ap50_loss: in points.
    """

    score: float | None = None
    box: float | None = None
    unmatched: float | None = None
    ap_loss: float | None = None
    ap50_loss: float | None = None


# int8 is promised for what was made for it: with swish, and gates that multiply, the range of a
# tensor is too wide for 256 steps.
TOLERANCES = {
    "fp32": Tolerance(score=1e-3, box=0.5, unmatched=CHANCE, ap_loss=0.1, ap50_loss=0.1),
    "fp16": Tolerance(ap_loss=0.5, ap50_loss=0.5),
    "int8": Tolerance(ap50_loss=2.0),
    "int8, swish": Tolerance(),
}


@dataclass(frozen=True)
class Frames:
    """What all are run on.

    Attributes:
        batches: gives batches of one image each, with `originals`; anew at each call.
        score: gives metrics of detections; None where there is no truth.
        what: in words.
    """

    batches: Callable[[], Iterator[Batch]]
    score: Callable[[Sequence[FrameDetections]], Mapping[str, float]] | None
    what: str


@dataclass(frozen=True)
class Row:
    """One line of the table. Latency is of one image, the median, with everything around it."""

    name: str
    megabytes: float | None
    latency_ms: float
    agreement: Agreement | None = None
    ap: float | None = None
    ap50: float | None = None
    beyond: str = ""  # which tolerance is not kept, in words


def frames_of(records: RecordSet | None, config: Config, eval_samples: int | None) -> Frames:
    """The images of validation records, or a few made-up ones."""
    if records is None:
        images = [np.asarray(render_frame(0, number)[0]) for number in range(_MADE_UP)]
        batches = [original_batch(image, f"{i:06d}", config) for i, image in enumerate(images)]
        return Frames(lambda: iter(batches), None, f"{_MADE_UP} made-up images")
    count = count_images("eval_samples", eval_samples, records.num_examples)
    validator = Validator(records, config, 1, num_images=count, originals=True)

    def score(detections: Sequence[FrameDetections]) -> Mapping[str, float]:
        return evaluate(validator.truths, detections, validator.label_map).metrics

    return Frames(validator.batches, score, f"{count:,} validation images")


def validate(
    files: Mapping[Path, str], reference: Detector, frames: Frames, folder: Path, info: ExportInfo
) -> None:
    """Runs `reference` and every file on `frames`; prints the table, writes the report.

    Args:
        files: path -> precision.

    Raises:
        UserError: a file is beyond its tolerance; all was printed and written before.
    """
    expected = _run(reference, frames, "Keras")
    rows = [_row("Keras", None, reference, frames, expected)]
    for path, precision in files.items():
        kind = precision
        if precision == "int8" and info.config.act_type != "relu6":
            kind = "int8, swish"
        detector = open_export(path)
        found = _run(detector, frames, path.name)
        row = _row(path.name, megabytes(path), detector, frames, found)
        row = replace(row, agreement=compare(expected, found))
        rows.append(replace(row, beyond=_beyond(row, rows[0], TOLERANCES[kind])))
    console.print(_table(rows, frames, console.width))
    _write(folder / REPORT, rows, files, frames, info)
    bad = [row for row in rows if row.beyond]
    if bad:
        raise UserError(
            f"{', '.join(f'{row.name}: {row.beyond}' for row in bad)}; the files stay, "
            f"{folder / REPORT} tells more"
        )


def megabytes(path: Path) -> float:
    """Of a file, or of all in a folder."""
    files = [one for one in path.rglob("*") if one.is_file()] if path.is_dir() else [path]
    return sum(one.stat().st_size for one in files) / 1e6


def _run(detector: Detector | ExportedDetector, frames: Frames, name: str) -> list[FrameDetections]:
    batches = track(frames.batches(), f"running {name}")
    return [frame for batch in batches for frame in detector.detect(batch)]


def _row(
    name: str,
    size: float | None,
    detector: Detector | ExportedDetector,
    frames: Frames,
    found: Sequence[FrameDetections],
) -> Row:
    metrics = frames.score(found) if frames.score else {}
    milliseconds = latency(detector, next(frames.batches()))
    return Row(name, size, milliseconds, ap=metrics.get("AP"), ap50=metrics.get("AP50"))


def latency(detector: Detector | ExportedDetector, batch: Batch) -> float:
    """Milliseconds for a batch: the median of some calls, after some that do not count."""
    times = []
    for _ in range(_WARM_UP + _TIMED):
        start = time.perf_counter()
        detector.detect(batch)
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[_WARM_UP:])


def _beyond(row: Row, keras: Row, tolerance: Tolerance) -> str:
    """The first tolerance that is not kept, in words; empty where all are."""
    agreement = row.agreement
    loss, loss50 = _points(keras.ap, row.ap), _points(keras.ap50, row.ap50)
    for value, limit, unit in (
        (agreement.score, tolerance.score, "between scores"),
        (agreement.box, tolerance.box, "pixels between boxes"),
        (agreement.unmatched_share, tolerance.unmatched, "of the detections have no counterpart"),
        (loss, tolerance.ap_loss, "points of AP lost"),
        (loss50, tolerance.ap50_loss, "points of AP50 lost"),
    ):
        if value is not None and limit is not None and not value <= limit:
            return f"{value:.4g} {unit}, at most {limit:g} are tolerated"
    return ""


def _points(before: float | None, after: float | None) -> float | None:
    return None if before is None or after is None else 100 * (before - after)


def _table(rows: Sequence[Row], frames: Frames, width: int) -> Table:
    """As many columns as fit into `width` characters, the verdict and AP in any case."""
    columns: dict[str, Callable[[Row], str]] = {
        "MB": lambda row: _number(row.megabytes, ".1f"),
        "ms": lambda row: f"{row.latency_ms:.0f}",
        "AP": lambda row: _number(row.ap, ".2f", 100),
        "AP50": lambda row: _number(row.ap50, ".2f", 100),
        "score": lambda row: _number(row.agreement and row.agreement.score, ".2g"),
        "box px": lambda row: _number(row.agreement and row.agreement.box, ".2g"),
        "verdict": lambda row: "differs" if row.beyond else "ok" if row.agreement else "",
    }
    for name, needed in {"box px": 80, "score": 71, "MB": 61}.items():
        if width < needed:
            del columns[name]
    table = Table(title=f"run again on {frames.what}", title_justify="left")
    table.add_column("file", overflow="fold")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    if "score" in columns:
        table.caption = (
            f"score, box: largest difference of 999 in 1,000 detections from {MIN_SCORE} on"
        )
    for row in rows:
        table.add_row(row.name, *(cell(row) for cell in columns.values()))
    return table


def _number(value: float | None, style: str, factor: float = 1) -> str:
    return "" if value is None else format(factor * value, style)


def _write(
    path: Path, rows: Sequence[Row], files: Mapping[Path, str], frames: Frames, info: ExportInfo
) -> None:
    precisions = {one.name: precision for one, precision in files.items()}
    content = {
        "images": frames.what,
        "model": info.config.name,
        "input_size": list(reversed(info.config.image_hw)),
        "checkpoint": asdict(info.checkpoint),
        "nms": info.nms,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "versions": {name: metadata.version(name) for name in _RUNTIMES if _is_installed(name)},
        "tolerances": {name: asdict(tolerance) for name, tolerance in TOLERANCES.items()},
        "rows": [
            asdict(row) | {"precision": precisions.get(row.name, "fp32"), "ok": not row.beyond}
            for row in rows
        ],
    }
    with atomic_open(path) as file:
        json.dump(content, file, indent=1)


def _is_installed(name: str) -> bool:
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False
