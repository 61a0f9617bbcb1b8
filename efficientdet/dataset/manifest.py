"""What stands in a record, told beside it: `train.record` has `train.record.manifest.json`."""

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from efficientdet.atomic import atomic_open
from efficientdet.dataset.checked_json import checked, read_json
from efficientdet.dataset.label_map import LabelMap
from efficientdet.dataset.tfrecord import MANIFEST_SUFFIX, UNFINISHED, base_path, expand_pattern
from efficientdet.errors import UserError
from efficientdet.wording import counted, meant

FORMAT_VERSION = 1
Count = Annotated[int, range(2**53)]
Positive = Annotated[int, range(1, 2**53)]
Objects = Annotated[int, range(1_000_000)]  # of one image


class UnfinishedConversion(UserError):
    """A record whose files are half written, by a conversion that was killed or goes on."""

    def __init__(self, manifest: Path, inputs_sha256: str):
        record = manifest.with_name(manifest.name.removesuffix(MANIFEST_SUFFIX))
        super().__init__(f"{record}: {UNFINISHED}")
        self.inputs_sha256 = inputs_sha256


@dataclass(frozen=True)
class Shard:
    """One record file."""

    name: str
    num_examples: Count
    num_bytes: Count
    sha256: str


@dataclass
class Manifest:
    """The facts of one record (all of its shards), or of several records together.

    Attributes:
        num_examples: images.
        label_map: the ids that the record was written with.
        max_objects_per_image: objects and ignore regions of the fullest image.
        class_counts: KITTI type -> objects, DontCare and filtered ones included.
        ignored_counts: KITTI type -> objects that a filter or the label map took out of training.
        difficulty_counts: KITTI type -> easy, moderate, hard, beyond -> objects, each counted once.
        size_counts: KITTI type -> small, medium, large (COCO's, in original pixels) -> objects.
        image_sizes: `1242x375` -> images.
        drives: drive -> images; images of no known drive are not in it, and it is empty where the
            images are not KITTI's, whatever their names.
        subset, split, seed: how the frames were chosen; `blocks` is `--split=drive` of frames
            whose drives are not known.
        source_ids: in the order of the record.
        shards: the files, in order.
        left_out: `file:line: what` of the frames that --skip_bad left out.
        options: the converter's flags that shape the record.
        inputs_sha256: of options, label map, labels, and names, sizes and times of images; where it
            is another, the converter compares the bytes.
        converter: version of this project.
        notes: what the converter assumed of its input; the field is left out where it is empty.
    """

    num_examples: Positive
    label_map: LabelMap
    max_objects_per_image: Objects
    class_counts: dict[str, Count]
    ignored_counts: dict[str, Count] = field(default_factory=dict)
    difficulty_counts: dict[str, dict[str, Count]] = field(default_factory=dict)
    size_counts: dict[str, dict[str, Count]] = field(default_factory=dict)
    image_sizes: dict[str, Count] = field(default_factory=dict)
    drives: dict[str, Count] = field(default_factory=dict)
    subset: str = ""
    split: str = ""
    seed: int = 0
    source_ids: list[str] = field(default_factory=list)
    shards: list[Shard] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    inputs_sha256: str = ""
    converter: str = ""
    notes: list[str] = field(default_factory=list)
    format_version: int = FORMAT_VERSION

    @property
    def origin(self) -> str:
        """How the frames were chosen, in a few words."""
        if self.split == "file":
            return f"listed in {self.options.get('split_file')}"
        if self.subset in ("all", "testing"):
            return self.subset
        seed = "" if self.split == "chen" else f", seed {self.seed}"
        return f"{self.subset} side of the {self.split} split{seed}"

    def summary(self) -> str:
        """A few lines for the terminal."""
        counts = ", ".join(f"{name} {count}" for name, count in self.class_counts.items())
        lines = [
            f"{self.num_examples} images ({self.origin}), at most {self.max_objects_per_image} "
            "objects and ignore regions on one",
            f"  objects: {counts or 'none'}",
        ]
        if self.ignored_counts:
            ignored = ", ".join(f"{name} {count}" for name, count in self.ignored_counts.items())
            lines.append(f"  ignored in training: {ignored}")
        if absent := self._absent():
            lines.append(f"  in no label here: {', '.join(absent)}")
        lines += [f"  {note}" for note in self.notes]
        if self.left_out:
            lines.append(
                f"  left out: {counted(len(self.left_out), 'problem')}; first {self.left_out[0]}"
            )
        return "\n".join(lines)

    def write(self, record: str | Path) -> None:
        """Writes the manifest beside the record `record` (the name without a shard's ending)."""
        values = dataclasses.asdict(self) | {"label_map": self.label_map.to_dict()}
        if not self.notes:
            del values["notes"]
        with atomic_open(manifest_path(record)) as file:
            json.dump(values, file, indent=1)
            file.write("\n")

    def _absent(self) -> list[str]:
        """The classes of the map that no label names, with what may be meant instead."""
        counts = self.class_counts
        others = [name for name in counts if self.label_map.id_of(name) is None]
        names = [name for types in self.label_map.types for name in types]
        absent = [name for name in names if counts and name not in counts]
        hints = [meant(name, others).removeprefix("; ") for name in absent]
        return [f"{n} ({hint})" if hint else n for n, hint in zip(absent, hints, strict=True)]

    @classmethod
    def read(cls, records: str | Path | Sequence[str | Path]) -> "Manifest | None":
        """The manifest of the records that a pattern names; several are merged.

        Returns:
            None where a record has no manifest (another tool wrote it).

        Raises:
            UserError: no such record, a manifest that is damaged, or label maps that differ.
        """
        files = expand_pattern(records)
        paths = list(dict.fromkeys(manifest_path(path) for path in files))
        if not all(path.exists() for path in paths):
            return None
        manifests = [cls.load(path)._keep({file.name for file in files}) for path in paths]
        merged = manifests[0]
        for path, other in zip(paths[1:], manifests[1:], strict=True):
            if other.label_map != merged.label_map:
                raise UserError(
                    f"{path}: its label map is {other.label_map.names}, but {paths[0]} has "
                    f"{merged.label_map.names}; convert both with one label map"
                )
            merged = merged._merge(other)
        return merged

    def shards_exist(self, folder: Path) -> bool:
        """Whether every shard lies in `folder` with its size."""
        return all(
            (path := folder / shard.name).exists() and path.stat().st_size == shard.num_bytes
            for shard in self.shards
        )

    @staticmethod
    def mark_unfinished(record: str | Path, inputs_sha256: str) -> None:
        """Puts in the manifest's place that the record's files are about to be replaced.

        It comes before the first of them and goes with the manifest after the last: whatever ends a
        conversion in between, no reader takes a manifest for that of other bytes, and the same
        command knows its own unfinished work.
        """
        values = {"format_version": FORMAT_VERSION, "unfinished": True}
        with atomic_open(manifest_path(record)) as file:
            json.dump(values | {"inputs_sha256": inputs_sha256}, file)
            file.write("\n")

    @classmethod
    def load(cls, path: Path) -> "Manifest":
        """Reads one `*.manifest.json`.

        Raises:
            UnfinishedConversion: its record is half written.
            UserError: damaged, or of a newer version; names the field.
        """
        try:
            values = checked(read_json(path), dict[str, Any], "")
            version = checked(values.get("format_version"), int, "format_version")
            if version > FORMAT_VERSION:
                raise UserError(f"{path}: written by a newer version of this project; update it")
            if values.get("unfinished") is True:
                raise UnfinishedConversion(path, checked(values, _Unfinished, "").inputs_sha256)
            manifest = checked(values, cls, "")
            manifest._check()
        except (OSError, ValueError) as error:
            what = getattr(error, "strerror", None) or error
            raise UserError(f"{path}: damaged manifest ({what}); convert again") from None
        return manifest

    def _check(self) -> None:
        """Raises ValueError where the fields contradict one another."""
        if self.format_version != FORMAT_VERSION:
            raise ValueError(f"format_version is {self.format_version}, expected {FORMAT_VERSION}")
        for index, name in enumerate(names := [shard.name for shard in self.shards]):
            if name in ("", "..") or Path(name).name != name or "\0" in name:
                raise ValueError(f"shards[{index}].name is {name!r}, expected a file's name alone")
            if name in names[:index]:
                raise ValueError(f"shards[{index}].name is {name!r}, which stands twice")
        if self.shards and (total := sum(s.num_examples for s in self.shards)) != self.num_examples:
            raise ValueError(f"num_examples is {self.num_examples}, its shards have {total}")
        if self.class_counts and self.max_objects_per_image > sum(self.class_counts.values()):
            most = f"max_objects_per_image is {self.max_objects_per_image}"
            raise ValueError(f"{most}, but class_counts has fewer objects in all")
        checked(self.options.get("classes") or [], list[str], "options.classes")

    def _keep(self, names: set[str]) -> "Manifest":
        """Restricts the number of examples to the shards named; the other counts stay whole."""
        shards = [shard for shard in self.shards if shard.name in names] or self.shards
        if not shards:  # made by hand
            return self
        num_examples = sum(shard.num_examples for shard in shards)
        return dataclasses.replace(self, shards=shards, num_examples=num_examples)

    def _merge(self, other: "Manifest") -> "Manifest":
        return dataclasses.replace(
            self,
            num_examples=self.num_examples + other.num_examples,
            max_objects_per_image=max(self.max_objects_per_image, other.max_objects_per_image),
            class_counts=_add(self.class_counts, other.class_counts),
            ignored_counts=_add(self.ignored_counts, other.ignored_counts),
            difficulty_counts=_add_nested(self.difficulty_counts, other.difficulty_counts),
            size_counts=_add_nested(self.size_counts, other.size_counts),
            image_sizes=_add(self.image_sizes, other.image_sizes),
            drives=_add(self.drives, other.drives),
            subset=self.subset if self.subset == other.subset else f"{self.subset}+{other.subset}",
            split=self.split if self.split == other.split else f"{self.split}+{other.split}",
            source_ids=self.source_ids + other.source_ids,
            shards=self.shards + other.shards,
            left_out=self.left_out + other.left_out,
            notes=self.notes + other.notes,
        )


@dataclass(frozen=True)
class _Unfinished:
    """What stands in a manifest's place while the record's files are replaced."""

    format_version: int
    unfinished: Any
    inputs_sha256: str


def manifest_path(record: str | Path) -> Path:
    """`train.record.manifest.json` of `train.record` or of one of its shards."""
    base = base_path(Path(record))
    return base.with_name(base.name + MANIFEST_SUFFIX)


def _add(first: dict[str, int], second: dict[str, int]) -> dict[str, int]:
    return dict(Counter(first) + Counter(second))


def _add_nested(first: dict[str, dict], second: dict[str, dict]) -> dict[str, dict]:
    return {key: _add(first.get(key, {}), second.get(key, {})) for key in first | second}
