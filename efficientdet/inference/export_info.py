"""What an exported file says of itself; written into it by `deploy`, read by whoever runs it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from efficientdet import __version__
from efficientdet.checkpoint.identity import Identity
from efficientdet.config import Config
from efficientdet.dataset.label_map import LabelMap
from efficientdet.errors import UserError

# Asset of a SavedModel, file in the zip behind a TFLite file; key of ONNX' metadata_props.
FILE_NAME, KEY = "export.json", "efficientdet"


@dataclass(frozen=True)
class ExportInfo:
    """One exported file.

    Attributes:
        config: of the run; `image_size` and NMS are those of the file.
        thresholds: class name -> score from which a detection is worth showing.
        checkpoint: what it was made of.
        nms: whether its outputs are detections, or boxes and scores of all anchors.
    """

    config: Config
    label_map: LabelMap
    thresholds: Mapping[str, float]
    checkpoint: Identity
    nms: bool = True

    def to_json(self) -> str:
        """What `parse` reads; for programs in other languages, `labels` and `input_size` too."""
        height, width = self.config.image_hw
        of = self.checkpoint
        content = {
            "made_by": f"efficientdet-kitti {__version__}",
            "labels": list(self.label_map.names.values()),
            "input_size": {"width": width, "height": height},
            "thresholds": dict(self.thresholds),
            "nms": self.nms,
            "checkpoint": {"name": of.name, "step": of.step, "digest": of.digest},
            "label_map": [list(types) for types in self.label_map.types],
            "config": self.config.to_dict(),
        }
        return json.dumps(content, ensure_ascii=False, indent=1)

    @classmethod
    def parse(cls, text: str | bytes, path: str) -> "ExportInfo":
        """Reads what `to_json` wrote.

        Raises:
            UserError: something else; names `path`.
        """
        try:
            content: dict[str, Any] = json.loads(text)
            return cls(
                Config.for_model(content["config"]["name"]).override(content["config"]),
                LabelMap(tuple(tuple(map(str, types)) for types in content["label_map"])),
                {str(name): float(score) for name, score in content["thresholds"].items()},
                Identity(**content["checkpoint"]),
                bool(content["nms"]),
            )
        except (ValueError, LookupError, TypeError, AttributeError, UserError) as error:
            raise UserError(
                f"{path}: what it says of itself cannot be read ({error}); export it again"
            ) from None
