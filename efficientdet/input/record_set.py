"""The records that a pattern names, and the facts about them that a run needs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.manifest import Manifest
from efficientdet.dataset.tfrecord import expand_pattern
from efficientdet.errors import UserError
from efficientdet.input.records import RecordIndex


@dataclass(frozen=True)
class RecordSet:
    """Record files with what their manifest says.

    Attributes:
        files: in order.
        num_examples: images.
        max_objects: objects and ignore regions of the fullest image.
        manifest: None where another tool wrote the records.
    """

    files: Sequence[Path]
    label_map: LabelMap
    num_examples: int
    max_objects: int
    manifest: Manifest | None

    @classmethod
    def open(
        cls,
        pattern: str,
        label_map_path: str | None = None,
        say: Callable[[str], None] = print,
    ) -> "RecordSet":
        """Finds the files; without a manifest, counts what is in them (one pass over the files).

        Raises:
            UserError: no such record, a damaged one, or a label map that contradicts the manifest.
        """
        files = expand_pattern(pattern)
        manifest = Manifest.read(pattern)
        named = LabelMap.read(label_map_path) if label_map_path else None
        if manifest is not None:
            if named not in (None, manifest.label_map):
                raise UserError(
                    f"{pattern} was made with the classes {manifest.label_map}, but "
                    f"{label_map_path} says {named}; leave out --label_map_path, or "
                    "convert with it"
                )
            most = manifest.max_objects_per_image
            return cls(files, manifest.label_map, manifest.num_examples, most, manifest)
        label_map = named or LabelMap.kitti()
        source = label_map_path or "KITTI's eight classes (name yours with --label_map_path)"
        say(f"{pattern}: no manifest; class ids are read as {source}")
        objects = RecordIndex(files).objects()
        return cls(files, label_map, len(objects), max(len(o.classes) for o in objects), None)
