"""A model_dir: config.yaml and label_map.txt, written at the start of a run and read back after."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from efficientdet.config import Config, flatten, load_yaml
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UsageError, UserError

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
        say: receives one line for each thing the user should know.
    """

    def __init__(self, path: str | Path, say: Callable[[str], None] = print):
        self.path, self._say = Path(path), say
        self._config_path = self.path / "config.yaml"
        self._label_map_path = self.path / "label_map.txt"

    @property
    def exists(self) -> bool:
        """Whether a run has been started here."""
        return self._config_path.exists()

    def config(
        self, model_name: str | None, overrides: Mapping[str, Any], label_map: LabelMap
    ) -> Config:
        """The configuration to run with: the model's table, config.yaml, then `overrides`.

        Args:
            model_name: as typed, or None.
            overrides: the hyper-parameters of the command line.
            label_map: gives `num_classes`.

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
            return Config.for_model(model_name or "efficientdet-d1").override(overrides)
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
            self._say(f"changed since the run began: {key} {before[key]!r} -> {after[key]!r}")
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

    def _read_config(self, num_classes: int) -> Config:
        values = load_yaml(self._config_path)
        # A config.yaml of AutoML's own main.py has keys for things that do not exist here.
        foreign = [key for key in values if key not in flatten(Config().to_dict())]
        kept = {key: value for key, value in values.items() if key not in foreign}
        if foreign:
            self._say(f"{self._config_path}: not used here: {', '.join(foreign)}")
            # Its num_classes counts logits, by default COCO's 90, whatever was trained; which of
            # them are taken is for --ckpt_classes to say.
            kept["num_classes"] = num_classes
        if kept.get("fpn_weight_method") is None:  # AutoML writes null for the model's own
            kept.pop("fpn_weight_method", None)
        try:
            return Config.for_model(kept.get("name", "efficientdet-d1")).override(kept)
        except UsageError as error:
            raise UserError(f"{self._config_path}: {error}") from None
