"""The records that a pattern names, and the facts about them that a run needs."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.manifest import Manifest, manifest_path
from efficientdet.dataset.shards import require_shards
from efficientdet.dataset.tfrecord import MANIFEST_SUFFIX, expand_pattern
from efficientdet.errors import UserError
from efficientdet.input.record_index import RecordIndex, RecordObjects

logger = logging.getLogger(__name__)


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
        of_run: LabelMap | None = None,
    ) -> "RecordSet":
        """Finds the files; without a manifest, counts what is in them (one pass over the files).

        Args:
            of_run: the label map of the run that the records are for; it names the ids of records
                that have no manifest where no `label_map_path` does.

        Raises:
            UserError: no such record, a damaged one, one that is not what its manifest says, or a
                label map that contradicts the manifest or the records.
        """
        files = expand_pattern(pattern)
        require_shards(files)
        manifest = Manifest.read(pattern)
        named = LabelMap.read(label_map_path) if label_map_path else None
        if manifest is not None:
            if named not in (None, manifest.label_map):
                raise UserError(
                    f"{pattern} was made with the classes {manifest.label_map}, but "
                    f"{label_map_path} says {named}; leave out --label_map_path, or "
                    "convert with it"
                )
            _warn_of_unchosen(pattern, manifest)
            _warn_of_unnamed(pattern, files)
            most = manifest.max_objects_per_image
            return cls(files, manifest.label_map, manifest.num_examples, most, manifest)
        label_map = named or of_run or LabelMap.kitti()
        source = label_map_path or (
            f"the run's: {of_run}"
            if of_run
            else "KITTI's eight classes (name yours with --label_map_path)"
        )
        logger.info(f"{pattern}: no manifest; class ids are read as {source}")
        objects = RecordIndex(files).objects()
        _require_ids(pattern, objects, label_map)
        return cls(files, label_map, len(objects), max(len(o.classes) for o in objects), None)

    def require_at_most(self, limit: int) -> None:
        """Raises UserError where an image has more than `limit` objects; ignore regions aside."""
        if self.max_objects <= limit:
            return
        index = RecordIndex(self.files)
        objects = index.objects()
        counts = [int(np.sum(record.classes > 0)) for record in objects]
        if (most := max(counts)) > limit:
            number = counts.index(most)
            raise UserError(
                f"{index.where(number)} (source_id {objects[number].source_id}) has {most} "
                f"objects, more than max_instances_per_image={limit}: set "
                f"--hparams=max_instances_per_image={most} or more"
            )


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


def _warn_of_unnamed(pattern: str, files: Sequence[Path]) -> None:
    """A pattern may name some shards of a record, if that is meant."""
    for path in dict.fromkeys(map(manifest_path, files)):
        whole = Manifest.load(path)
        named = Manifest.read([one for one in files if manifest_path(one) == path])
        if len(named.shards) < len(whole.shards):
            logger.warning(
                f"{pattern} names {len(named.shards)} of the {len(whole.shards)} files of "
                f"{path.name.removesuffix(MANIFEST_SUFFIX)}: {named.num_examples} of "
                f"{whole.num_examples} images"
            )


def _warn_of_unchosen(pattern: str, manifest: Manifest) -> None:
    """Records were made that kept classes which --classes had left without an object."""
    chosen = manifest.options.get("classes")
    named = [name for names in manifest.label_map.types for name in names]
    if chosen and (unchosen := [name for name in named if name not in chosen]):
        logger.warning(
            f"{pattern} was made with --classes={','.join(chosen)}, but its label map has "
            f"{', '.join(unchosen)}, too, which no detector learns and AP counts as missed; "
            "convert again, with --overwrite"
        )
