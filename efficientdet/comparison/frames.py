"""The frames on which runs differ most, drawn: the truth, and what each of them made of it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from efficientdet.comparison.scores import Scores
from efficientdet.dataset.example import parse_example
from efficientdet.dataset.image import decode
from efficientdet.input.record_index import RecordIndex
from efficientdet.visualize.detections import draw_truth
from efficientdet.visualize.eval_report import draw_mistakes
from efficientdet.visualize.html import image_uri

_WIDEST = 1400  # pixels of a picture in the page


@dataclass(frozen=True)
class View:
    """One picture of a frame.

    Attributes:
        number: of the judged run; None: the truth.
        counts: missed, false and found boxes.
    """

    number: int | None
    picture: str
    width: int
    counts: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Shown:
    """One frame under every run."""

    source_id: str
    difference: int
    views: Sequence[View]


def worst_differences(scores: Scores, most: int) -> list[Shown]:
    """The frames where the numbers of mistakes lie furthest apart, the worst first.

    Of one run alone: those with most mistakes. Each run at its own thresholds of best F1. Frames
    without a difference are left out.
    """
    if not scores.judged or not most:
        return []
    counts = np.array(
        [one.result.mistakes.counts(one.result.score_thresholds) for one in scores.judged]
    )
    lowest = counts.min(axis=0) if len(counts) > 1 else 0
    difference = counts.max(axis=0) - lowest
    order = np.argsort(-difference, kind="stable")[:most]
    chosen = [int(i) for i in order if difference[i]]
    mistakes = [
        one.result.mistakes.frames(chosen, one.result.score_thresholds) for one in scores.judged
    ]
    index = RecordIndex(scores.records.files)
    shown = []
    for row, frame in enumerate(chosen):
        truth = scores.truths[frame]
        with index.named_errors():
            encoded = parse_example(index.read(scores.numbers[frame]))["image"]
            image = decode(encoded.numpy())
        names = scores.records.label_map.names
        labelled = draw_truth(image, truth, scores.records.label_map)
        views = [View(None, *_picture(labelled))]
        for number, of_run in enumerate(mistakes):
            one = of_run[row]
            counted = (len(one.missed), len(one.false), len(one.found))
            views.append(View(number, *_picture(draw_mistakes(image, one, names)), counted))
        shown.append(Shown(truth.source_id, int(difference[frame]), views))
    return shown


def _picture(image: np.ndarray) -> tuple[str, int]:
    """As a `data:` URI, and its width."""
    height, width = image.shape[:2]
    if width > _WIDEST:
        size = (_WIDEST, max(1, round(height * _WIDEST / width)))
        image = np.asarray(Image.fromarray(image).resize(size))
    return image_uri(image, quality=80), image.shape[1]
