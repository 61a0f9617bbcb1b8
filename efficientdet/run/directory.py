"""A model_dir: config.yaml and label_map.txt, written at the start of a run and read back after."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efficientdet import automl_names
from efficientdet.atomic import remove_stale
from efficientdet.checkpoint.trained_with import configure
from efficientdet.config import Config, flatten, load_yaml
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UsageError, UserError

logger = logging.getLogger(__name__)

# What decides the shape or the meaning of the weights: a run cannot change it on the way.
STRUCTURE = (
    "name", "backbone_name", "num_classes", "act_type", "min_level", "max_level",
    "fpn_num_filters", "fpn_cell_repeats", "fpn_weight_method", "box_class_repeats", "num_scales",
    "aspect_ratios", "anchor_scale", "mean_rgb", "stddev_rgb", "optimizer",
)  # fmt: skip


class RunDirectory:
    """The files of one run.

    Args:
        path: the model_dir; it need not exist yet.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._config_path = self.path / "config.yaml"
        self._label_map_path = self.path / "label_map.txt"

    @property
    def exists(self) -> bool:
        """Whether a run has been started here."""
        return self._config_path.exists()

    def config(
        self,
        model_name: str | None,
        overrides: Mapping[str, Any],
        label_map: LabelMap,
        ckpt: str | None = None,
    ) -> Config:
        """The configuration to run with: the model's table, config.yaml, then `overrides`.

        Args:
            model_name: as typed, or None.
            overrides: the hyper-parameters of the command line.
            label_map: gives `num_classes`.
            ckpt: weights that a new run begins with; what they were trained with comes before
                `overrides`.

        Raises:
            UsageError: `overrides` names another number of classes.
            UserError: the folder holds a run of another model, or one that `overrides` would
                change in shape.
        """
        said = overrides.get("num_classes", label_map.num_classes)
        if said != label_map.num_classes:
            raise UsageError(
                f"num_classes={said}, but the records have {label_map.num_classes} classes "
                f"({label_map}); leave it out, it is read from the records"
            )
        overrides = dict(overrides) | {"num_classes": label_map.num_classes}
        if not self.exists:
            model = Config.for_model(model_name or "efficientdet-d1")
            return configure(model, overrides, ckpt)
        saved = self._read_config(label_map.num_classes)
        if model_name and model_name != saved.name:
            raise UserError(
                f"{self.path} holds a run of {saved.name}, --model_name says {model_name}; take "
                "another --model_dir, or drop --model_name to go on with this run"
            )
        config = saved.override(overrides)
        before, after = flatten(saved.to_dict()), flatten(config.to_dict())
        changed = [key for key in before if before[key] != after[key]]
        for key in changed:
            if key in STRUCTURE:
                raise UserError(
                    f"{self._config_path} says {key}={before[key]!r}, the command line says "
                    f"{after[key]!r}; a run cannot change it: take another --model_dir"
                )
            logger.info(f"changed since the run began: {key} {before[key]!r} -> {after[key]!r}")
        return config

    @property
    def stored_label_map(self) -> LabelMap | None:
        """The label map that the run was started with; None where there is no run yet."""
        return LabelMap.read(self._label_map_path) if self._label_map_path.exists() else None

    def label_map(self, of_records: LabelMap | None) -> LabelMap:
        """The run's label map: stored here, else that of the records.

        Raises:
            UserError: the records' map is another one than the run's.
        """
        if (stored := self.stored_label_map) is None:
            return of_records or LabelMap.kitti()
        if of_records is not None and of_records != stored:
            raise UserError(
                f"{self._label_map_path} names {stored}, the records were made with "
                f"{of_records}; convert with --label_map_path={self._label_map_path} and without "
                "--classes, or take another --model_dir"
            )
        return stored

    def write(self, config: Config, label_map: LabelMap) -> None:
        """Stores both."""
        self.path.mkdir(parents=True, exist_ok=True)
        config.save(self._config_path)
        label_map.write(self._label_map_path)

    def remove_stale(self) -> None:
        """Removes what processes that are dead left half written."""
        for name in ("", "archive", "bad_batches", "eval", "eval/results"):
            remove_stale(self.path / name)

    def _read_config(self, num_classes: int) -> Config:
        # A config.yaml of AutoML's own main.py has keys for things that do not exist here. How that
        # run was trained is past; what its network is must be the same.
        values, unused = automl_names.sort_out(load_yaml(self._config_path))
        known = flatten(Config().to_dict())
        foreign = [one.key for one in unused] + [key for key in values if key not in known]
        kept = {key: value for key, value in values.items() if key in known}
        if foreign:
            logger.info(f"{self._config_path}: not used here: {', '.join(foreign)}")
            # Its num_classes counts logits, by default COCO's 90, whatever was trained; which of
            # them are taken is for --ckpt_classes to say.
            kept["num_classes"] = num_classes
        try:
            for one in unused:
                if one.rule.structural:
                    one.rule.check(one.key, one.value)
            return Config.for_model(kept.get("name", "efficientdet-d1")).override(kept)
        except UsageError as error:
            raise UserError(f"{self._config_path}: {error}") from None
