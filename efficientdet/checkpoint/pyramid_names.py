"""Names of BiFPN variables in a pyramid of other levels, where the nodes are numbered otherwise."""

import re
from collections.abc import Iterable

from efficientdet.model.bifpn import bifpn_nodes

_NODE = re.compile(r"(fpn_cells/cell_\d+)/fnode(\d+)/(WSM|resample|op_after_combine)([_\d]*)(.*)")
_HEAD_NORM = re.compile(r"((?:class|box)_net/(?:class|box)-\d+-bn-)(\d+)(/.*)")


class PyramidNames:
    """The numbering of one pyramid's maps: the cell's inputs, then its nodes."""

    def __init__(self, min_level: int, max_level: int):
        self.levels = levels = range(min_level, max_level + 1)
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
        place = self.maps[self.num_inputs + int(index)]
        if place not in other.maps:
            return None
        number = other.maps.index(place)
        node = number - other.num_inputs
        prefix = f"{cell}/fnode{node}/{kind}"
        if kind == "op_after_combine":
            return f"{prefix}{number}{rest}"
        role = self._roles(int(index))[int(numbers.split("_")[1]) if numbers else 0]
        roles = other._roles(node)
        if role not in roles:
            return None
        position = roles.index(role)
        if kind == "WSM":
            return prefix + (f"_{position}" if position else "")
        return f"{prefix}_{position}_{other.nodes[node].inputs[position]}_{number}{rest}"

    def nearest_head_norm(self, name: str) -> str | None:
        """For a head's BatchNorm variable of a level that is not here: that of the nearest level.

        The heads' convolutions are shared by all levels, so that its statistics are a fair guess.
        """
        match = _HEAD_NORM.fullmatch(name)
        if not match or int(match[2]) in self.levels:
            return None
        return f"{match[1]}{min(self.levels, key=lambda x: abs(x - int(match[2])))}{match[3]}"

    def _roles(self, index: int) -> list[str]:
        """What each input is to a node: from above or below, or which map of its own level."""
        level, inputs = self.nodes[index]
        sources = [self.maps[number] for number in inputs]
        return [
            kind if source == level else ("above" if source > level else "below")
            for kind, source in sources
        ]
