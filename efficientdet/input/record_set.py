"""The records that a pattern names, and the facts about them that a run needs."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.manifest import Manifest
from efficientdet.dataset.tfrecord import expand_pattern
from efficientdet.errors import UserError
from efficientdet.input.records import RecordIndex, RecordObjects


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
        of_run: LabelMap | None = None,
    ) -> "RecordSet":
        """Finds the files; without a manifest, counts what is in them (one pass over the files).

        Args:
            of_run: the label map of the run that the records are for; it names the ids of records
                that have no manifest where no `label_map_path` does.

        Raises:
            UserError: no such record, a damaged one, or a label map that contradicts the manifest
                or the records.
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
            _warn_of_unchosen(pattern, manifest, say)
            most = manifest.max_objects_per_image
            return cls(files, manifest.label_map, manifest.num_examples, most, manifest)
        label_map = named or of_run or LabelMap.kitti()
        source = label_map_path or (
            f"the run's: {of_run}"
            if of_run
            else "KITTI's eight classes (name yours with --label_map_path)"
        )
        say(f"{pattern}: no manifest; class ids are read as {source}")
        objects = RecordIndex(files).objects()
        _require_ids(pattern, objects, label_map)
        return cls(files, label_map, len(objects), max(len(o.classes) for o in objects), None)


def _require_ids(pattern: str, objects: Iterable[RecordObjects], label_map: LabelMap) -> None:
    """Raises UserError where the records name an object otherwise than `label_map` does its id."""
    for record in objects:
        for class_id, name in zip(record.classes.tolist(), record.types, strict=True):
            known = label_map.id_of(name)
            if class_id > label_map.num_classes or (class_id > 0 and known not in (None, class_id)):
                raise UserError(
                    f"{pattern}: {record.source_id} has a {name or 'object'} of class id "
                    f"{class_id}, but the label map says {label_map}; name the map that the "
                    "records were written with by --label_map_path"
                )


def _warn_of_unchosen(pattern: str, manifest: Manifest, say: Callable[[str], None]) -> None:
    """Records were made that kept classes which --classes had left without an object."""
    chosen = manifest.options.get("classes")
    named = [name for names in manifest.label_map.types for name in names]
    if chosen and (unchosen := [name for name in named if name not in chosen]):
        say(
            f"warning: {pattern} was made with --classes={','.join(chosen)}, but its label map has "
            f"{', '.join(unchosen)}, too, which no detector learns and AP counts as missed; "
            "convert again, with --overwrite"
        )
