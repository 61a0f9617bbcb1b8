"""One evaluation: the network over all validation records, losses, both metrics, a picture."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
from rich.console import Console

from efficientdet import processes
from efficientdet.checkpoint.identity import Identity, identify
from efficientdet.config import Config, near_name
from efficientdet.console import console, wrapped
from efficientdet.dataset.example import parse_example
from efficientdet.dataset.image import decode
from efficientdet.errors import UsageError
from efficientdet.evaluation.evaluate import Result, evaluate
from efficientdet.evaluation.frames import FrameDetections
from efficientdet.evaluation.kitti_table import MODERATE_MEAN
from efficientdet.evaluation.results import write_coco, write_kitti
from efficientdet.inference.detector import Detector, text_of
from efficientdet.inference.truths import read_truths
from efficientdet.input.images import as_objects
from efficientdet.input.pipeline import InputPipeline, to_pixels
from efficientdet.input.record_set import RecordSet
from efficientdet.model.losses import loss_names
from efficientdet.progress import track
from efficientdet.run import journal, record_prints, scored_frames, thresholds
from efficientdet.run.curve import is_own
from efficientdet.run.directory import RunDirectory
from efficientdet.run.history import History
from efficientdet.run.lock import writing_alone
from efficientdet.run.scored_frames import ScoredFrames
from efficientdet.run.thresholds import Thresholds
from efficientdet.visualize import curves, eval_report
from efficientdet.visualize.detections import comparison_keys, draw_detections, draw_truth
from efficientdet.visualize.drawing import save_image, sheet
from efficientdet.visualize.legend import add_legend
from efficientdet.wording import counted

logger = logging.getLogger(__name__)

Batch = Mapping[str, np.ndarray]
STRIP_IMAGES = 6
STRIP_SCORE = 0.3
REPORT = "report.html"


@dataclass(frozen=True)
class Evaluated:
    """What one evaluation found.

    Attributes:
        metrics: name -> value, the losses as `val_cls_loss` and so on; `num_images`.
        strip: uint8 [H, W, 3]: the first images with predicted (solid) and true (dashed) boxes.
        checkpoint: which was judged, where one was named.
    """

    metrics: dict[str, float]
    result: Result
    detections: list[FrameDetections]
    strip: np.ndarray
    checkpoint: Identity | None = None

    @cached_property
    def pictures(self) -> dict[str, np.ndarray]:
        """The strip and both metrics' curves, uint8 [H, W, 3], by name."""
        names = self.result.label_map.names
        kitti = self.result.kitti  # of own classes there is none
        of_kitti = {"kitti_curves": curves.pixels(curves.kitti_figure(kitti))} if kitti else {}
        return {
            "predicted_and_true": self.strip,
            **of_kitti,
            "coco_curves": curves.pixels(curves.coco_figure(self.result.coco, names)),
        }


class Validator:
    """Evaluates on one set of records; reads their ground truth once.

    Args:
        records: what to evaluate on.
        batch_size: images at once; no figure depends on it.
        num_images: the first so many.
        strict: as in `read_truths`.
        originals: batches have the images as they were, too, for an `ExportedDetector`.
    """

    def __init__(
        self,
        records: RecordSet,
        config: Config,
        batch_size: int,
        *,
        num_images: int,
        strict: bool = True,
        originals: bool = False,
        console: Console = console,
    ):
        self._originals = originals
        self._config, self._console = config, console
        self.label_map = records.label_map
        records.require_at_most(config.max_instances_per_image)
        self.truths = read_truths(
            records.files,
            records.label_map,
            num_images=num_images,
            max_instances=config.max_instances_per_image,
            strict=strict,
        )
        self._pipeline = InputPipeline(
            records.files,
            config,
            batch_size=batch_size,
            training=False,
            num_classes=config.num_classes,
            max_instances=max(1, records.max_objects),
            examples_per_epoch=num_images,
        )
        self._num_batches = math.ceil(len(self.truths) / batch_size)
        self._numbers = {truth.source_id: i for i, truth in enumerate(self.truths)}
        self._split = records.manifest.split if records.manifest else "unknown"
        self._prints = record_prints.fingerprint(records)  # now: they may be replaced meanwhile
        self._files = [str(file.resolve()) for file in records.files]

    @property
    def metric_names(self) -> list[str]:
        """What an evaluation will name; no metric for what these images have no object of."""
        losses = [f"val_{name}" for name in loss_names(self._config)]
        return [*evaluate(self.truths, [], self.label_map).metrics, *losses]

    def __call__(self, detector: Detector) -> Evaluated | None:
        """Runs `detector` over everything and scores it.

        Losses are sums over all images divided by all positives + 1: they do not depend on how the
        images were cut into batches. Several processes share the images; all but the writer get
        None.
        """
        detections: list[FrameDetections] = []
        of_batches: list[dict[str, float]] = []
        pictures: list[np.ndarray] = []
        for batch, found, losses in detector.evaluate_each(self.batches()):
            detections += found
            of_batches.append(losses)
            for row, frame in enumerate(found[: STRIP_IMAGES - len(pictures)]):
                pictures.append(self._picture(batch, row, frame))
        detections, of_batches = _of_all_processes(detections, of_batches)
        if not processes.is_writer():
            return None
        sums: dict[str, float] = {}
        for losses in of_batches:
            sums = {key: sums.get(key, 0.0) + value for key, value in losses.items()}
        with self._console.status("scoring the detections"):
            result = evaluate(self.truths, detections, self.label_map)
        normaliser = sums.pop("num_positives") + 1.0
        losses = {f"val_{key}": value / normaliser for key, value in sums.items()}
        metrics = result.metrics | losses | {"num_images": len(self.truths)}
        keys = comparison_keys(self.truths[: len(pictures)], self.label_map, STRIP_SCORE)
        strip = add_legend(sheet(pictures), keys)
        return Evaluated(metrics, result, detections, strip)

    def detect(self, detector: Detector) -> list[FrameDetections]:
        """Only the detections; class ids are the detector's."""
        return [frame for _, found in detector.detect_each(self.batches()) for frame in found]

    def show(self, evaluated: Evaluated) -> None:
        """Prints the tables and the losses."""
        evaluated.result.print_table(self._console)
        text = ", ".join(
            f"{name.removeprefix('val_').removesuffix('_loss')} {value:.4f}"
            for name, value in evaluated.metrics.items()
            if name.startswith("val_")
        )
        images = counted(len(self.truths), "image")
        line = f"{images}, split {self._split}" + (f": losses {text}" if text else "")
        if self._console.is_terminal:
            line = wrapped(line, self._console.width)
        self._console.print(line, soft_wrap=True)

    def write(
        self, evaluated: Evaluated, folder: Path, checkpoint: Identity, history: History
    ) -> None:
        """Writes report, pictures, thresholds, and the detections: as KITTI, COCO, and compact.

        Args:
            checkpoint: which was judged; report and thresholds name it.
            history: of the run up to here, this evaluation included.
        """
        result = evaluated.result
        write_kitti(folder / "results", evaluated.detections, self.label_map)
        write_coco(folder / "detections.json", evaluated.detections)
        now = datetime.now().astimezone()
        stored = ScoredFrames(
            evaluated.detections,
            self.label_map,
            checkpoint,
            self._prints,
            self._files,
            now.isoformat(timespec="seconds"),
            journal.this_command(),
        )
        stored.write(folder / scored_frames.FILE_NAME)
        names = self.label_map.names
        scores = {names[i]: score for i, score in result.drawn_thresholds.items()}
        Thresholds(scores, checkpoint).write(folder / thresholds.FILE_NAME)
        for name, picture in evaluated.pictures.items():
            save_image(picture, folder / f"{name}.png")
        images = {frame.source_id: self._pixels(frame.source_id) for frame in result.worst_frames}
        subject = eval_report.Subject(
            self._config.name,
            checkpoint.name,
            checkpoint.step,
            self._split,
            date=now,
            best_metric=self._config.best_metric,
            training=history.training,
            evaluations=history.evaluations,
        )
        eval_report.write(folder / REPORT, result, images, subject)

    def batches(self) -> Iterator[Batch]:
        """What `detect` takes, over all records, or this process' share of them."""
        first, end = processes.share_of(self._num_batches)
        batches = islice(self._pipeline.batches(skip_batches=first), end - first)
        batches = track(batches, "evaluating", end - first)
        for number, batch in enumerate(batches, first):
            rows = number * len(batch["valid"]) + np.arange(len(batch["valid"]))
            batch |= {"valid": rows < len(self.truths)}
            if self._originals:
                ids = (text_of(one) for one in batch["source_id"])
                batch["originals"] = as_objects([self._pixels(one) for one in ids])
            yield batch

    def _pixels(self, source_id: str) -> np.ndarray:
        """The original image of one frame, uint8 [H, W, 3]."""
        example = parse_example(self._pipeline.index.read(self._numbers[source_id]))
        return decode(example["image"].numpy())

    def _picture(self, batch: Batch, row: int, frame: FrameDetections) -> np.ndarray:
        """The network's view of one frame with true (dashed) and predicted (solid) boxes."""
        scale = batch["image_scale"][row]
        height, width = np.rint(batch["original_hw"][row] / scale).astype(int)
        pixels = to_pixels(batch["images"][row][:height, :width], self._config)
        truth = self.truths[self._numbers[frame.source_id]]
        pixels = draw_truth(pixels, truth, self.label_map, scale=scale)
        scores = dict.fromkeys(self.label_map.names, STRIP_SCORE)
        return draw_detections(pixels, frame, self.label_map, scores, scale=scale, beside=truth)


class EpochEvaluation:
    """A `Validator` that writes what it finds, and prints it: at the end, or each time.

    Args:
        folder: `model_dir/eval`.
        verbose: print the tables of every evaluation.

    Attributes:
        kept: of the files it writes, those that an archived checkpoint takes along.
        num_images: how many it evaluates on.
    """

    def __init__(self, validator: Validator, folder: Path, verbose: bool = False):
        self._validator, self._folder, self._verbose = validator, folder, verbose
        self._unseen: Evaluated | None = None
        self.num_images = len(validator.truths)
        names = (REPORT, thresholds.FILE_NAME, scored_frames.FILE_NAME)
        self.kept = tuple(folder / name for name in names)

    def __call__(self, detector: Detector, checkpoint: str | Path) -> Evaluated:
        """Evaluates `detector`, which has the weights of `checkpoint`."""
        identity = identify(checkpoint)  # now: training may drop it meanwhile
        evaluated = self._validator(detector)
        self._unseen = evaluated
        if self._verbose:
            self.show_last()
        return replace(evaluated, checkpoint=identity)

    def help(self, detector: Detector) -> None:
        """Evaluates the share of a process that is not the writer."""
        self._validator(detector)

    def show_last(self) -> None:
        """Prints the tables of the last evaluation, if there was one and they were not yet."""
        if self._unseen is not None:
            self._validator.show(self._unseen)
            self._unseen = None

    @contextmanager
    def written(self, evaluated: Evaluated) -> Iterator[None]:
        """Writes the files; while entered, no other process changes them, nor curve and archive."""
        checkpoint, run = evaluated.checkpoint, RunDirectory(self._folder.parent)
        with writing_alone(self._folder):
            history = History()
            if is_own(Path(checkpoint.name), run):
                history = History.read(run.path).until(checkpoint.step, evaluated.metrics)
            with console.status("writing the evaluation's report"):
                self._validator.write(evaluated, self._folder, checkpoint, history)
            yield


def _of_all_processes(
    detections: list[FrameDetections], of_batches: list[dict[str, float]]
) -> tuple[list[FrameDetections], list[dict[str, float]]]:
    """In the writer what all processes found, in the order of the records; elsewhere nothing."""
    if processes.count() == 1:
        return detections, of_batches
    plain = [
        [one.source_id, one.boxes.tolist(), one.scores.tolist(), one.classes.tolist()]
        for one in detections
    ]
    shares = processes.collect([plain, of_batches]) or []
    return (
        [FrameDetections(*one) for frames, _ in shares for one in frames],
        [losses for _, batches in shares for losses in batches],
    )


def check_metric(name: str, known: Sequence[str]) -> None:
    """Raises UsageError if an evaluation will not name the best_metric `name`."""
    if name == MODERATE_MEAN and name not in known:
        raise UsageError(
            f"--best_metric={name}: the validation records have no Car, Pedestrian or Cyclist of "
            "moderate difficulty; say --best_metric=AP, which is COCO's"
        )
    if name not in known:
        raise UsageError(
            f"--best_metric={name}: these validation records have no such metric"
            f"{near_name(name, known)}"
        )


def count_images(name: str, said: int | None, found: int) -> int:
    """What the flag `name` says, with one warning where the records say something else."""
    if said is not None and said != found:
        logger.warning(f"--{name}={said}, the records hold {found}; going by the flag")
    return said or found
