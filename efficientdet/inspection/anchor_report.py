"""The anchor report: which objects a configuration's anchors miss, and anchors that fit better."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from efficientdet.checkpoint.head_rows import AnchorShapes
from efficientdet.config import Config
from efficientdet.dataset.statistics import Objects
from efficientdet.inspection import coverage
from efficientdet.inspection.coverage import WORTH_A_FIT, Coverage, Matches
from efficientdet.model.anchors import Anchors

# A fit to fewer may follow chance; KITTI's shapes are learnt from fewer. Of 9 anchors at 1280x384
# all its objects lack, fitted to six draws (mean; worst): 25 objects 6.2; 7.3 %, 50: 5.5; 6.1 %,
# 200: 5.4; 5.5 %, 400: 5.9; 7.3 %. To all of them: 5.4. Without a fit, anchor_scale=4: 8.5.
FIT_OBJECTS = 400


@dataclass(frozen=True)
class AnchorRow:
    """One configuration and what its anchors cover.

    Attributes:
        input_size: `1280x384`.
        hparams: the anchors as they are typed into --hparams.
        fitted: proposed by `coverage.fit`, not configured.
        num_anchors, num_stock: anchors at a position, and how many of them have the shape of one
            that a COCO checkpoint was trained with.
        num_objects: objects that were looked at, and fitted to.
    """

    input_size: str
    hparams: str
    fitted: bool
    coverage: Coverage
    num_anchors: int
    num_stock: int
    num_objects: int

    @property
    def typed(self) -> str:
        """Input and anchors, as --hparams takes them."""
        return f"image_size={self.input_size},{self.hparams}"

    @property
    def coco_head(self) -> str:
        """What training makes of the prediction rows of a COCO checkpoint."""
        if self.num_stock == self.num_anchors:
            return f"keeps all {self.num_stock} rows of a COCO checkpoint's heads"
        return (
            f"keeps {self.num_stock} of {self.num_anchors} rows of a COCO checkpoint's heads; the "
            "others are adapted from the nearest shape"
        )


def anchor_rows(
    objects: Objects, config: Config, input_sizes: Sequence[str | int], fit: bool = True
) -> list[AnchorRow]:
    """For each input size, the anchors of `config` and then the fitted ones.

    Args:
        objects: those that training learns from; N >= 1.
        config: all but its image_size.
        input_sizes: `512`, `1280x384`, ...
        fit: also propose anchors (a few seconds a size).
    """
    return [row for size in input_sizes for row in _rows(objects, config, size, fit)]


def best_row(rows: Sequence[AnchorRow]) -> AnchorRow:
    """The one whose objects lack least; a fit to at least FIT_OBJECTS that is worth it."""
    sound = [row for row in rows if row.num_objects >= FIT_OBJECTS or not row.fitted]
    return min(sound, key=lambda row: row.coverage.lacking["all"] + WORTH_A_FIT * row.fitted)


def _rows(objects: Objects, config: Config, size: str | int, fit: bool) -> Iterator[AnchorRow]:
    config = config.override({"image_size": size})

    def make_anchors(scale: float, ratios: Sequence[float]) -> np.ndarray:
        changes = {"anchor_scale": scale, "aspect_ratios": list(ratios)}
        return Anchors(config.override(changes)).boxes

    yield anchor_row(objects, config, fitted=False)
    if fit:
        scale, ratios = coverage.fit(objects, config.image_hw, make_anchors, ratios_of(config))
        changes = {"anchor_scale": scale, "aspect_ratios": ratios}
        yield anchor_row(objects, config.override(changes), fitted=True)


def ratios_of(config: Config) -> list[float]:
    """Width/height of each of `aspect_ratios`."""
    return [one if isinstance(one, float) else one[0] / one[1] for one in config.aspect_ratios]


def anchor_row(
    objects: Objects, config: Config, fitted: bool, matches: Matches | None = None
) -> AnchorRow:
    """What the anchors of `config` cover of N >= 1 objects; `matches`: of each, if known."""
    height, width = config.image_hw
    if matches is None:
        matches = coverage.match(objects, Anchors(config).boxes, config.image_hw)
    shapes = AnchorShapes.of(config)
    return AnchorRow(
        f"{width}x{height}",
        _hparams(config),
        fitted,
        coverage.summary(objects, matches, config.image_hw),
        len(shapes),
        len(shapes.matches(AnchorShapes.of(Config()))),
        len(objects),
    )


def _hparams(config: Config) -> str:
    """`anchor_scale=2.0,aspect_ratios=1.0*2.0*0.5`."""
    values = {"anchor_scale": config.anchor_scale, "aspect_ratios": config.aspect_ratios}
    values |= {"min_level": config.min_level} if config.min_level != Config().min_level else {}
    return ",".join(f"{key}={_typed(value)}" for key, value in values.items())


def _typed(value: object) -> str:
    if not isinstance(value, list):
        return str(value)
    return "*".join(str(item).replace(" ", "") for item in value)
