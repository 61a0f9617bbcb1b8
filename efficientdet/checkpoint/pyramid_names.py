"""Names of BiFPN variables in a pyramid of other levels, where the nodes are numbered otherwise."""

import re
from collections.abc import Iterable

from efficientdet.model.bifpn import bifpn_nodes

_NODE = re.compile(r"(fpn_cells/cell_\d+)/fnode(\d+)/(WSM|resample|op_after_combine)([_\d]*)(.*)")


class PyramidNames:
    """The numbering of one pyramid's maps: the cell's inputs, then its nodes."""

    def __init__(self, min_level: int, max_level: int):
        levels = range(min_level, max_level + 1)
        self.nodes = bifpn_nodes(min_level, max_level)
        self.num_inputs = len(levels)
        self.maps = [("input", level) for level in levels]
        for index, node in enumerate(self.nodes):
            self.maps.append(("down" if index < len(levels) - 1 else "up", node.level))

    @classmethod
    def of(cls, names: Iterable[str]) -> "PyramidNames | None":
        """From the variable names of a checkpoint; None if it has no class head."""
        found = [re.match(r"class_net/class-0-bn-(\d+)/", name) for name in names]
        levels = [int(match[1]) for match in found if match]
        return cls(min(levels), max(levels)) if levels else None

    def translate(self, name: str, other: "PyramidNames") -> str | None:
        """The name in `other` of the variable that plays the part of `name` here; None: nobody."""
        match = _NODE.fullmatch(name)
        if not match or other.maps == self.maps:
            return name
        cell, index, kind, numbers, rest = match.groups()
        role = self.maps[self.num_inputs + int(index)]
        if role not in other.maps:
            return None
        number = other.maps.index(role)
        node = number - other.num_inputs
        prefix = f"{cell}/fnode{node}/{kind}"
        if kind == "op_after_combine":
            return f"{prefix}{number}{rest}"
        position = int(numbers.split("_")[1]) if numbers else 0
        source = self.maps[self.nodes[int(index)].inputs[position]]
        sources = [other.maps[i] for i in other.nodes[node].inputs]
        if source not in sources:
            return None
        position = sources.index(source)
        if kind == "WSM":
            return prefix + (f"_{position}" if position else "")
        return f"{prefix}_{position}_{other.maps.index(source)}_{number}{rest}"
