"""Class names <-> ids 1..K, from label_map.txt and the other forms that people have."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from efficientdet.atomic import atomic_open
from efficientdet.dataset.kitti import BENCHMARK, CLASSES, DONT_CARE, class_name
from efficientdet.dataset.text_file import read_bytes
from efficientdet.errors import UsageError, UserError, shown

_MAX_NAME = 200  # letters
_MAX_BYTES = 2**18
_ID = r"-?[0-9]{1,9}"
_HEADER = "# id: class; several classes on one line share the id. What no line names is ignored.\n"


@dataclass(frozen=True)
class LabelMap:
    """The classes that a detector tells apart.

    Attributes:
        types: for id 1..K (in order), the names of labels that carry this id; the first names it.
            In whatever order they are given, that is a class of KITTI's benchmark if one is there:
            else the Car row would be gone where `Van, Car` share an id.
    """

    types: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        """Puts the types of the benchmark first."""
        ordered = (sorted(names, key=lambda name: name not in BENCHMARK) for names in self.types)
        object.__setattr__(self, "types", tuple(map(tuple, ordered)))

    @property
    def num_classes(self) -> int:
        """K, the number of ids."""
        return len(self.types)

    @cached_property
    def names(self) -> dict[int, str]:
        """Id 1..K -> what tables, result files and KITTI's metric call it."""
        return {index: types[0] for index, types in enumerate(self.types, start=1)}

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {name.lower(): i for i, types in enumerate(self.types, start=1) for name in types}

    def __str__(self) -> str:
        return ", ".join(f"{i}: {'+'.join(types)}" for i, types in enumerate(self.types, start=1))

    def id_of(self, name: str) -> int | None:
        """The id of a class in any letter case, or None where the map does not name it."""
        return self._ids.get(name.lower())

    def spelt(self, name: str) -> str:
        """A class as this map spells it; as it stands where the map does not name it."""
        return self._spelling.get(name.lower(), name)

    @cached_property
    def _spelling(self) -> dict[str, str]:
        return {name.lower(): name for types in self.types for name in types}

    def only(self, names: Collection[str]) -> "LabelMap":
        """The map of these classes alone, ids 1..k in this map's order.

        Raises:
            UsageError: a class that this map does not name.
        """
        if absent := [name for name in names if self.id_of(name) is None]:
            raise UsageError(
                f"--classes names {', '.join(absent)}, but the label map has only {self}; add it "
                "there, or leave it out"
            )
        chosen = {name.lower() for name in names}
        kept = (tuple(name for name in types if name.lower() in chosen) for types in self.types)
        return LabelMap(tuple(names for names in kept if names))

    @classmethod
    def kitti(cls) -> "LabelMap":
        """All eight classes, ids 1..8 in KITTI's order."""
        return cls(tuple((name,) for name in CLASSES))

    @classmethod
    def read(cls, path: str | Path) -> "LabelMap":
        """Reads `id: name`, `name id`, one name a line, pbtxt or YAML.

        Names may be merged with commas (`1: Car, Van`); `#` starts a comment.

        Raises:
            UserError: unreadable, a class that stands twice, ids that are not 1..K; names the line.
        """
        try:
            text = read_bytes(path, "a label map", _MAX_BYTES).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: not UTF-8 text (byte {error.start})") from None
        if Path(path).suffix in (".yaml", ".yml"):
            read = _read_yaml
        else:
            read = _read_pbtxt if re.search(r"\bitem\s*\{", text) else _read_lines
        return cls._from_entries(list(read(text, str(path))), str(path))

    @classmethod
    def _from_entries(cls, entries: list["_Entry"], path: str) -> "LabelMap":
        by_id: dict[int, tuple[str, ...]] = {}
        seen: dict[str, int] = {}
        for entry in entries:
            if entry.id < 1:
                raise UserError(
                    f"{entry.where}: id {entry.id}; ids start at 1, 0 is the background"
                )
            if entry.id in by_id:
                raise UserError(
                    f"{entry.where}: id {entry.id} stands twice; merge classes on one line, "
                    f"`{entry.id}: {', '.join((*by_id[entry.id], *entry.names))}`"
                )
            by_id[entry.id] = tuple(_checked(name, entry.where) for name in entry.names)
            for name in by_id[entry.id]:
                if name.lower() in seen:
                    known = seen[name.lower()]
                    raise UserError(f"{entry.where}: {name} has id {known} already")
                seen[name.lower()] = entry.id
        if not by_id:
            raise UserError(f"{path}: no class; expected lines like `1: Car`")
        for missing in range(1, max(by_id)):
            if missing not in by_id:
                where = next(entry.where for entry in entries if entry.id > missing)
                raise UserError(
                    f"{where}: ids must be 1..K without a gap, and {missing} is missing"
                )
        return cls(tuple(by_id[index] for index in sorted(by_id)))

    def write(self, path: str | Path) -> None:
        """Writes the form of label_map.txt, which `read` reads back."""
        with atomic_open(path) as file:
            file.write(_HEADER)
            file.writelines(f"{i}: {', '.join(types)}\n" for i, types in enumerate(self.types, 1))

    def to_dict(self) -> dict[str, list[str]]:
        """Plain values for JSON and YAML: id as text -> names."""
        return {str(index): list(types) for index, types in enumerate(self.types, start=1)}

    @classmethod
    def from_dict(cls, values: Mapping[Any, list[str] | str]) -> "LabelMap":
        """The inverse of `to_dict`; keys may be ints.

        Raises:
            UserError: anything else.
        """
        if not isinstance(values, Mapping):
            raise UserError("label map: expected ids with names")
        entries = []
        for key, names in values.items():
            listed = [names] if isinstance(names, str) else names
            if not isinstance(listed, list | tuple) or not all(isinstance(n, str) for n in listed):
                raise UserError(f"label map: id {shown(str(key))} without a list of names")
            entries.append(_entry(key, ", ".join(listed), "label map"))
        return cls._from_entries(entries, "label map")


@dataclass(frozen=True)
class _Entry:
    """One id as written: `where` is `file:line`."""

    id: int
    names: tuple[str, ...]
    where: str


def _checked(text: str, where: str) -> str:
    name = class_name(text)
    if name == DONT_CARE:
        raise UserError(f"{where}: {DONT_CARE} is no class; its regions are ignored without an id")
    if not name.isprintable() or len(name) > _MAX_NAME or re.match(r"-?\d+ ?[:=]", name):
        raise UserError(f"{where}: {shown(name)} is no name of a class")
    return name


def _entry(index: Any, names: str, where: str) -> _Entry:
    if not re.fullmatch(_ID, str(index)):
        raise UserError(f"{where}: {shown(str(index))} is no id; expected a whole number")
    split = tuple(name for part in names.split(",") if (name := part.strip().strip("'\"")))
    if not split:
        raise UserError(f"{where}: id {index} without a class name")
    return _Entry(int(index), split, where)


def _read_lines(text: str, path: str) -> Iterator[_Entry]:
    """`1: Car, Van`, `Car 1`, or one name (or merged names) a line, numbered from 1."""
    forms: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        line = " ".join(line.partition("#")[0].split())
        where = f"{path}:{number}"
        if not line:
            continue
        if match := re.fullmatch(rf"({_ID}) ?[:= ] ?(.*)", line):
            form, index, names = "`id: name`", match[1], match[2]
        elif match := re.fullmatch(rf"(.*?) ?[:= ] ?({_ID})", line):
            form, index, names = "`name id`", match[2], match[1]
        else:
            form, index, names = "names without ids", len(forms) + 1, line
        forms.append(form)
        if form != forms[0]:
            raise UserError(f"{where}: {form} after {forms[0]}; use one form in the whole file")
        yield _entry(index, names, where)


def _read_pbtxt(text: str, path: str) -> Iterator[_Entry]:
    """`item { id: 1 name: 'Car' }` of the TF Object Detection API; comments start with #."""
    text = re.sub(r"#.*", "", text)
    for item in re.finditer(r"item\s*\{([^}]*)\}", text):
        where = f"{path}:{text.count(chr(10), 0, item.start()) + 1}"
        fields = dict(re.findall(r"\b(\w+)\s*:\s*('[^']*'|\"[^\"]*\"|[^\s,]+)", item[1]))
        if "id" not in fields or "name" not in fields:
            raise UserError(f"{where}: expected `item {{ id: 1 name: 'Car' }}`")
        yield _entry(fields["id"], fields["name"].strip("'\""), where)


def _read_yaml(text: str, path: str) -> Iterator[_Entry]:
    """`1: Car`, `Car: 1`, a list of names, or any of them under one key such as `label_map`."""
    try:
        node = yaml.compose(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # the latter: nested too deep
        text = " ".join(str(error).split())[:300]
        raise UserError(f"{path}: not readable as YAML: {text}") from None
    if isinstance(node, yaml.MappingNode) and len(node.value) == 1:
        key, value = node.value[0]
        if not (str(key.value).isdigit() or isinstance(value, yaml.ScalarNode)):
            node = value
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value, start=1):
            where = _yaml_place(item, path)
            yield _entry(number, _yaml_names(item, where), where)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            where = _yaml_place(key, path)
            index, names = (_yaml_names(part, where) for part in (key, value))
            if not re.fullmatch(_ID, index):
                index, names = names, index
            yield _entry(index, names, where)
    else:
        raise UserError(f"{path}: expected `id: name` lines")


def _yaml_place(node: yaml.Node, path: str) -> str:
    return f"{path}:{node.start_mark.line + 1}"


def _yaml_names(node: yaml.Node, where: str) -> str:
    """`Car` or `[Car, Van]`, as text."""
    nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
    if not all(isinstance(item, yaml.ScalarNode) for item in nodes):
        raise UserError(f"{where}: expected a name or a list of names")
    return ", ".join(item.value for item in nodes)
