"""An input size and anchors that fit a data set, a model and the memory there is."""

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import yaml

from efficientdet.config import Config, parse_image_size
from efficientdet.dataset.statistics import Objects
from efficientdet.errors import UsageError
from efficientdet.inspection import coverage
from efficientdet.inspection.anchor_report import (
    FIT_OBJECTS,
    AnchorRow,
    anchor_row,
    ratios_of,
)
from efficientdet.model.anchors import Anchors
from efficientdet.wording import NBSP, counted

OBJECTIVE = (
    "The smallest input that shows 98 % of the objects at 16 pixels or more, else the largest that "
    "the memory and the images' own size allow; then the anchors of which objects lack least: the "
    f"share of {coverage.ENOUGH} anchors of IoU 0.5 or more that an object does not have, each "
    "class and size counted by the square root of its number. The model's own scale stays, and "
    "then its own shapes, where a fit saves less than a hundredth."
)
CUDA_BYTES = 2**30  # of the budget: cuDNN's workspace and the CUDA context
_SEEN_PX, _SEEN_SHARE, _SAME_SCALE = 16, 0.98, 0.99
_MAX_PIXELS, _MAX_SIDE = 2**23, 2**14
_SAMPLE = 4000  # objects that a fit looks at
_FEW = 20  # objects of a class and size that count with the others
# A level that a COCO checkpoint has no weights for must find so many of the lost, if many are.
_WORTH_NEW_LEVEL, _LOST_MUCH = 0.5, 0.05

Costs = tuple[float, float]  # bytes of a step: whatever the input, and of each pixel of the batch


@dataclass(frozen=True)
class Candidate:
    """One configuration: what its objects lack, and what it needs.

    Attributes:
        lacking: as of `Coverage`, each class and size counted by the square root of its number.
    """

    config: Config
    row: AnchorRow
    num_bytes: float
    lacking: float

    @property
    def pixels(self) -> int:
        """Pixels of an input."""
        height, width = self.config.image_hw
        return height * width

    @property
    def lost(self) -> float:
        """Share of the objects without an anchor of IoU 0.5."""
        return self.row.coverage.missed["all"]


@dataclass(frozen=True)
class Recommendation:
    """What was compared, and the one chosen.

    Attributes:
        candidates: the model's own input first.
        batch_size: images that the memory must hold.
        notes: what limits the choice.
    """

    candidates: list[Candidate]
    chosen: Candidate
    batch_size: int
    memory_gb: float
    notes: list[str] = field(default_factory=list)

    def yaml(self, source: str) -> str:
        """The text of a file for --hparams.

        Args:
            source: where the objects were found: `train.record`.
        """
        config, row = self.chosen.config, self.chosen.row
        lost = row.coverage.missed
        comments = [
            f"{config.name} for {counted(row.num_objects, 'object')} of {source}, by "
            "inspect_tfrecord.py --recommend. Give it to main.py as --hparams=THIS_FILE; after a "
            "recipe, --hparams=RECIPE,THIS_FILE, it replaces these keys.",
            OBJECTIVE,
            f"Lost: {', '.join(f'{name} {100 * share:.1f} %' for name, share in lost.items())}.",
            f"Memory of {counted(self.batch_size, 'image')}: {_gb(self.chosen.num_bytes)} GB by "
            f"estimate, of {self.memory_gb:g} GB with 1 GB left to CUDA.",
            f"It {row.coco_head}. Other aspect_ratios or num_scales keep fewer: a row without its "
            "shape is adapted from the nearest.",
            *self.notes,
        ]
        keys = ["image_size", "anchor_scale", "aspect_ratios"]
        default = Config.for_model(config.name)
        others = ("num_scales", "min_level", "max_level", "mixed_precision", "grad_checkpoint")
        keys += [key for key in others if getattr(config, key) != getattr(default, key)]
        values = {key: config.to_dict()[key] for key in keys}
        text = yaml.safe_dump(values, sort_keys=False, default_flow_style=None)
        return "".join(f"{_comment(line)}\n" for line in comments) + text


def recommend(
    objects: Objects,
    config: Config,
    costs: Callable[[Config], Costs],
    *,
    memory_gb: float,
    batch_size: int,
    sizes: Sequence[str | int] = (),
) -> Recommendation:
    """See `OBJECTIVE`.

    Args:
        objects: those that training learns from; N >= 1.
        config: the model, and what else the memory depends on.
        costs: what a training step of a configuration needs.
        memory_gb: of the device, in 2**30 bytes.
        batch_size: images in a micro-batch.
        sizes: inputs to choose from; empty: all multiples of the coarsest stride.

    Raises:
        UsageError: not even the smallest input fits.
    """
    fixed, per_pixel = costs(config)
    affordable = (memory_gb * 2**30 - CUDA_BYTES - fixed) / (per_pixel * batch_size)
    measure = _Measure(objects, {config.min_level: (fixed, per_pixel)}, batch_size)
    inputs, wanted, notes = _choose_input(objects, config, affordable, sizes)
    if not inputs:
        raise UsageError(
            f"--memory_gb={memory_gb:g}: {config.name} with {counted(batch_size, 'image')} needs "
            f"more, whatever the input; take --batch_size=1, a smaller model, or "
            "--hparams=mixed_precision=True,grad_checkpoint=True"
        )
    chosen_size, smaller = inputs[-1], inputs[: len(inputs) - 1][-1:]
    fits = [measure.fit(_at(config, size)) for size in (*smaller, chosen_size)]
    candidates = [measure(config), *(one for some in fits for one in some)]
    chosen = _simplest(fits[-1])
    if wanted > affordable:
        notes.append(
            f"The memory decides the input. One of {wanted:,} pixels would show the objects "
            f"better and needs {_gb(fixed + CUDA_BYTES + per_pixel * batch_size * wanted)} GB"
            f"{_savings(config)}."
        )
    if chosen.lost > _LOST_MUCH and config.min_level == 3:
        finer = _at(config, chosen_size).override({"min_level": 2})
        measure.costs[2] = costs(finer)
        new = _simplest(measure.fit(finer))
        candidates.append(new)
        fits_too = new.num_bytes + CUDA_BYTES <= memory_gb * 2**30
        if fits_too and new.lost < _WORTH_NEW_LEVEL * chosen.lost:
            chosen = new
            notes.append("min_level=2: a COCO checkpoint has no weights for that pyramid level.")
    if len(objects) < FIT_OBJECTS:
        notes.append(
            f"Only {counted(len(objects), 'object')}, where a fit needs {FIT_OBJECTS}: the shapes "
            "stay as they are, and the scale may follow chance."
        )
    return Recommendation(_distinct(candidates), chosen, batch_size, memory_gb, notes)


class _Measure:
    """Configurations -> candidates; `costs` of each min_level."""

    def __init__(self, objects: Objects, costs: dict[int, Costs], batch_size: int):
        self.objects, self.costs, self.batch_size = objects, costs, batch_size
        self.weights = _weights(objects)
        self.sample = np.arange(0, len(objects), max(1, len(objects) // _SAMPLE))

    def __call__(self, config: Config, fitted: bool = False) -> Candidate:
        fixed, per_pixel = self.costs[config.min_level]
        height, width = config.image_hw
        matches = coverage.match(self.objects, Anchors(config).boxes, config.image_hw)
        return Candidate(
            config,
            anchor_row(self.objects, config, fitted, matches),
            fixed + per_pixel * self.batch_size * height * width,
            float(self.weights @ matches.lacking),
        )

    def fit(self, config: Config) -> list[Candidate]:
        """As configured; the best scale; that of fitted shapes, where objects are enough."""
        few, weights = self.objects[self.sample], self.weights[self.sample]
        weights = weights / weights.sum()
        ratios = [ratios_of(config)]
        if len(self.objects) >= FIT_OBJECTS:
            ratios.append(coverage.fitted_ratios(few, weights, ratios[0]))

        def make_anchors(scale: float, aspects: Sequence[float]) -> np.ndarray:
            changes = {"anchor_scale": scale, "aspect_ratios": list(aspects)}
            return Anchors(config.override(changes)).boxes

        found = [self(config)]
        for one in ratios:
            _, scale = coverage.best_scale(few, weights, config.image_hw, make_anchors, one)
            changes = {"anchor_scale": scale, "aspect_ratios": one}
            found.append(self(config.override(changes), fitted=one is not ratios[0]))
        return found


def _simplest(found: Sequence[Candidate]) -> Candidate:
    """The first, unless a later one is worth it: heads that are trained know their own anchors."""
    chosen = found[0]
    for one in found[1:]:
        if chosen.lacking - one.lacking >= coverage.WORTH_A_FIT:
            chosen = one
    return chosen


def _choose_input(
    objects: Objects, config: Config, affordable: float, sizes: Sequence[str | int]
) -> tuple[list[str], int, list[str]]:
    """One input of about half the pixels, if there is one, and the chosen one; none if none fits.

    Also the pixels that would be chosen with all memory, and notes.
    """
    step = 2**config.max_level
    image_hw, images = np.unique(objects.image_hw, axis=0, return_counts=True)
    if sizes:
        inputs = np.array([parse_image_size(size) for size in sizes])
    else:
        ends = (-(-image_hw.max(0) // step) * step).clip(max=_MAX_SIDE).tolist()
        grid = np.meshgrid(*(np.arange(step, end + 1, step) for end in ends), indexing="ij")
        inputs = np.stack(grid, -1).reshape(-1, 2)
        inputs = inputs[inputs.prod(1) <= max(_MAX_PIXELS, step**2)]
    scales = np.minimum(1, (inputs[:, None] / image_hw).min(2))  # [inputs, image sizes]
    order = np.lexsort((-(scales @ images), inputs.prod(1)))
    inputs, scales = inputs[order], scales[order]
    if not sizes:  # those that show images larger than any of fewer pixels does
        mean = scales @ images
        best = np.maximum.accumulate(np.append(0, mean))[:-1]
        inputs, scales = inputs[mean > best], scales[mean > best]
    side = np.minimum(objects.widths, objects.heights)
    index = np.unique(objects.image_hw, axis=0, return_inverse=True)[1].reshape(-1)
    seen = np.array([(side * row[index] >= _SEEN_PX).mean() for row in scales])
    pixels = inputs.prod(1)
    floor = np.prod(config.image_hw) if not sizes else 0

    mean = scales @ images

    def choose(fit: np.ndarray) -> int:
        enough = fit & (pixels >= min(floor, pixels[fit].max()))
        shown = enough & (seen >= _SEEN_SHARE)
        if not shown.any():
            shown = enough & (mean >= _SAME_SCALE * mean[enough].max())
        return int(np.flatnonzero(shown)[0])

    wanted = int(pixels[choose(np.full(len(pixels), True))])
    fit = pixels <= affordable
    if not fit.any():
        return [], wanted, []
    chosen = choose(fit)
    half = int(np.abs(pixels[:chosen] - pixels[chosen] / 2).argmin()) if chosen else chosen
    names = [f"{width}x{height}" for height, width in inputs[sorted({half, chosen})]]
    notes = [f"It shows {100 * seen[chosen]:.1f} % of the objects at {_SEEN_PX} pixels or more."]
    return names, wanted, notes


def _weights(objects: Objects) -> np.ndarray:
    """Weights [N] that sum to 1; a class and size has the square root of its count in all."""
    groups = np.char.add(np.char.add(objects.types, "/"), objects.sizes)
    _, inverse, counts = np.unique(groups, return_inverse=True, return_counts=True)
    inverse = np.where(counts[inverse] < _FEW, len(counts), inverse)  # the few are one group
    weights = 1 / np.sqrt(np.bincount(inverse))[inverse]
    return weights / weights.sum()


def _at(config: Config, size: str) -> Config:
    return config.override({"image_size": size})


def _distinct(candidates: Sequence[Candidate]) -> list[Candidate]:
    kept: dict[str, Candidate] = {}
    for one in candidates:
        kept.setdefault(one.row.typed, one)
    return list(kept.values())


def _savings(config: Config) -> str:
    names = [name for name in ("mixed_precision", "grad_checkpoint") if not getattr(config, name)]
    return f"; --hparams={','.join(f'{name}=True' for name in names)} lowers that" if names else ""


def _comment(text: str) -> str:
    text = textwrap.fill(
        " ".join(text.split()),
        100,
        initial_indent="# ",
        subsequent_indent="#   ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return text.replace(NBSP, " ")


def _gb(num_bytes: float) -> str:
    return f"{num_bytes / 2**30:.1f}"
