"""Table, learning curves and pictures of several runs on the same records; for recipes.py."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from efficientdet.atomic import atomic_open
from efficientdet.dataset.example import parse_example
from efficientdet.dataset.image import decode
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.splits import drive_of, looks_like_kitti
from efficientdet.evaluation import bootstrap
from efficientdet.evaluation.evaluate import evaluate
from efficientdet.evaluation.folders import CLASS_NAMES, read_result_folder
from efficientdet.evaluation.frames import FrameDetections, FrameTruth
from efficientdet.inference.truths import read_truths
from efficientdet.input.record_index import RecordIndex
from efficientdet.input.record_set import RecordSet
from efficientdet.run.checkpoints import CheckpointManager, Progress
from efficientdet.run.metrics_log import MetricsLog
from efficientdet.run.thresholds import Thresholds
from efficientdet.visualize import curves
from efficientdet.visualize.detections import draw_detections, draw_truth
from efficientdet.visualize.drawing import save_image, sheet

METRICS = {
    "AP": "AP", "AP50": "AP50", "APs": "APs", "Car": "kitti/Car_moderate_R40",
    "Pedestrian": "kitti/Pedestrian_moderate_R40", "Cyclist": "kitti/Cyclist_moderate_R40",
}  # fmt: skip
CURVES = ("AP50", "Car", "Pedestrian", "Cyclist")
NUM_PICTURES = 10


@dataclass(frozen=True)
class Run:
    """A model_dir with its name, and its title in the table."""

    name: str
    title: str
    folder: Path
    is_finished: bool


@dataclass(frozen=True)
class RecipeReport:
    """Scores, curves and pictures of runs.

    Args:
        runs: all of them; those that are not finished are in the curves alone.
        comparisons: name -> names of the runs before and after.
        records: the validation records of all.
        batch_size: images an update, in all.
    """

    runs: Sequence[Run]
    comparisons: Mapping[str, tuple[str, str]]
    records: RecordSet
    batch_size: int

    @property
    def finished(self) -> list[Run]:
        """The runs that came to their end."""
        return [run for run in self.runs if run.is_finished]

    @cached_property
    def truths(self) -> list[FrameTruth]:
        """The ground truth of all frames."""
        return read_truths(self.records.files, self.records.label_map)

    @cached_property
    def found(self) -> dict[str, list[FrameDetections]]:
        """By name of a finished run, what its last evaluation found; the label map's classes."""
        label_map = self.records.label_map
        return {run.name: _detections(run, self.truths, label_map) for run in self.finished}

    @cached_property
    def metrics(self) -> dict[str, str]:
        """Heading -> tag; none for what these frames have no object of."""
        known = evaluate(self.truths, [], self.records.label_map).metrics
        return {heading: tag for heading, tag in METRICS.items() if tag in known}

    def write(self, folder: Path) -> None:
        """Writes `recipes.md`, `curves.png` and `before_after_<comparison>.png`."""
        with atomic_open(folder / "recipes.md") as file:
            file.write(self.table())
        curves.save(curve_figure(self.runs, self.batch_size), folder / "curves.png")
        for name, runs in self._comparisons().items():
            picture = before_after(self, runs)
            save_image(picture, folder / f"before_after_{name.replace(' ', '_')}.png")

    def table(self) -> str:
        """Markdown: scores of each run, then differences; percent, 95 % intervals in brackets."""
        return "\n".join([*self._rows(), "", *self._differences(), "", self._caption(), ""])

    def _rows(self) -> list[str]:
        lines = [
            _line("arm", "images", "minutes", *self.metrics),
            _line(*["---"] * (3 + len(self.metrics))),
        ]
        for run in self.finished:
            progress = _progress(run)
            cells = [
                _cell(self._scores[run.name][n], self._draws[run.name][n]) for n in self.metrics
            ]
            images, minutes = progress.step * self.batch_size, f"{progress.seconds / 60:.0f}"
            lines.append(_line(run.title, images, minutes, *cells))
        return lines

    def _differences(self) -> list[str]:
        lines = [
            _line("what it is worth", *self.metrics),
            _line(*["---"] * (1 + len(self.metrics))),
        ]
        for name, (before, after) in self._comparisons().items():
            values, draws = ((x[after.name], x[before.name]) for x in (self._scores, self._draws))
            cells = [
                _cell(values[0][n] - values[1][n], draws[0][n] - draws[1][n], sign="+")
                for n in self.metrics
            ]
            lines.append(_line(name, *cells))
        return lines

    @cached_property
    def _scores(self) -> dict[str, dict[str, float]]:
        """By run and heading."""
        label_map, scores = self.records.label_map, {}
        for name, frames in self.found.items():
            metrics = evaluate(self.truths, frames, label_map).metrics
            scores[name] = {heading: metrics[tag] for heading, tag in self.metrics.items()}
        return scores

    @cached_property
    def _draws(self) -> dict[str, dict[str, np.ndarray]]:
        """By run and heading: the same draws of drives for every run."""
        tags, groups, draws = [*self.metrics.values()], _drives(self.truths), {}
        for name, frames in self.found.items():
            drawn = bootstrap.samples(self.truths, frames, self.records.label_map, tags, groups)
            draws[name] = {heading: drawn[tag] for heading, tag in self.metrics.items()}
        return draws

    def _comparisons(self) -> dict[str, tuple[Run, Run]]:
        """Those of which both runs are finished."""
        runs = {run.name: run for run in self.finished}
        return {
            name: (runs[before], runs[after])
            for name, (before, after) in self.comparisons.items()
            if before in runs and after in runs
        }

    def _caption(self) -> str:
        drawn = bootstrap.resampled(_drives(self.truths))
        device = ", ".join(dict.fromkeys(_device(run) for run in self.finished)) or "nothing yet"
        return (
            f"Percent, 95 % interval over {drawn} in brackets; Car, Pedestrian and Cyclist: KITTI "
            f"moderate R40. Batch {self.batch_size}, {len(self.truths)} validation "
            f"frames, {device}."
        )


def curve_figure(runs: Sequence[Run], batch_size: int) -> Figure:
    """Scores over images seen, one plot for each of `CURVES`, of all runs that were evaluated."""
    figure = Figure(figsize=(4.0 * len(CURVES), 4.4), layout="constrained")
    plots = figure.subplots(1, len(CURVES))
    for index, run in enumerate(runs):
        rows = MetricsLog(run.folder / "metrics.jsonl").read("eval")
        images = [row["step"] * batch_size for row in rows]
        for heading, plot in zip(CURVES, plots, strict=True):
            values = [100 * (row.get(METRICS[heading]) or 0.0) for row in rows]
            label = f"{run.name}: {run.title}" if rows else None
            plot.plot(images, values, marker="o", markersize=3.5, color=f"C{index}", label=label)
    for heading, plot in zip(CURVES, plots, strict=True):
        title = heading if heading == "AP50" else f"{heading}, moderate R40"
        plot.set(title=f"{title}, %", xlabel="images seen")
        plot.locator_params(axis="x", nbins=5)  # longer numbers would touch
        plot.set_xlim(left=0)
        plot.set_ylim(bottom=0)
        plot.grid(color="#dddddd", linewidth=0.6)
        plot.spines[["top", "right"]].set_visible(False)
    handles, labels = plots[0].get_legend_handles_labels()
    if labels:
        figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return figure


def before_after(report: RecipeReport, runs: tuple[Run, Run]) -> np.ndarray:
    """Frames with pedestrians or cyclists: what the first run found on the left, the second right.

    True boxes are dashed.
    """
    index, label_map = RecordIndex(report.records.files), report.records.label_map
    found = [{frame.source_id: frame for frame in report.found[run.name]} for run in runs]
    thresholds = [_thresholds(run, label_map) for run in runs]
    numbers = [
        number
        for number, truth in enumerate(report.truths)
        if {"Pedestrian", "Cyclist"} & {one.type for one in truth.objects}
    ]
    chosen = numbers[:: max(1, len(numbers) // NUM_PICTURES)][:NUM_PICTURES]
    pictures, captions = [], []
    for number in chosen:
        example = parse_example(index.read(tf.constant(number, tf.int64)))
        image = decode(example["image"].numpy())
        truth = report.truths[number]
        for run, frames, scores in zip(runs, found, thresholds, strict=True):
            picture = draw_truth(image, truth, label_map)
            frame = frames[truth.source_id]
            pictures.append(draw_detections(picture, frame, label_map, scores))
            captions.append(f"{truth.source_id}   {run.title}")
    return sheet(pictures, 2, captions, cell_width=900)


def _detections(
    run: Run, truths: Sequence[FrameTruth], label_map: LabelMap
) -> list[FrameDetections]:
    """What the last evaluation of a run wrote, with class ids of the label map."""
    results = read_result_folder(run.folder / "eval" / "results", [t.source_id for t in truths])
    return [
        replace(frame, classes=np.array([label_map.id_of(CLASS_NAMES[c]) for c in frame.classes]))
        for frame in results.detections
    ]


def _progress(run: Run) -> Progress:
    loaded = CheckpointManager(run.folder).load_latest()
    return loaded[1] if loaded else Progress()


def _device(run: Run) -> str:
    """`CPU (tensorflow)`, from what main.py said it computes on."""
    log = (run.folder / "train.log").read_text(encoding="utf-8", errors="replace")
    said = re.findall(r"M parameters, \w+ on (.+ \(\w+\))$", log, re.MULTILINE)
    return said[-1] if said else "unknown device"


def _thresholds(run: Run, label_map: LabelMap) -> dict[int, float]:
    """Class id -> the score of best F1; a class that was never found rightly is not drawn."""
    scores = Thresholds.read(run.folder / "eval" / "thresholds.json").scores
    return {i: scores.get(name, np.inf) for i, name in label_map.names.items()}


def _drives(truths: Sequence[FrameTruth]) -> list[str | None]:
    """The drive of each frame, None where it is not KITTI's."""
    is_kitti = looks_like_kitti({t.source_id: (t.width, t.height) for t in truths})
    return [drive_of(t.source_id) if is_kitti else None for t in truths]


def _head(*cells: str) -> list[str]:
    return [_line(*cells), _line(*["---"] * len(cells))]


def _line(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _cell(value: float, samples: np.ndarray, sign: str = "") -> str:
    interval = bootstrap.Interval.of(samples)
    return f"{100 * value:{sign}.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
