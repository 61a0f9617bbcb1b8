"""Object-based TensorFlow checkpoints: keys of objects -> names of variables."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from google.protobuf.message import DecodeError

if TYPE_CHECKING:
    from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

from efficientdet.errors import UserError

GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
_VALUE, _AVERAGE = "VARIABLE_VALUE", "average"


def named_variables(
    stored: Mapping[str, np.ndarray], average_suffix: str, path: str
) -> dict[str, np.ndarray]:
    """The model's variables of a bundle that has a graph, by the name that each had.

    Args:
        stored: by key.
        average_suffix: behind the name of a variable, where the optimizer kept its average.
        path: for errors.

    Raises:
        UserError: the graph is damaged, or names two variables alike.
    """
    # Here, because a detector without such a checkpoint needs no TensorFlow.
    from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

    graph = TrackableObjectGraph()
    try:
        graph.ParseFromString(np.asarray(stored[GRAPH]).item())
    except (DecodeError, TypeError, ValueError) as error:
        raise UserError(f"{path}: its object graph is damaged ({error})") from None
    nodes = dict(enumerate(graph.nodes))
    optimizers = [node for node in nodes.values() if node.slot_variables]
    slots = [slot for node in optimizers for slot in node.slot_variables]
    # Of an optimizer: its slots, and its counters and rates.
    not_weights = {slot.slot_variable_node_id for slot in slots}
    not_weights |= {child.node_id for node in optimizers for child in node.children}
    keys = {number: _name_and_key(node) for number, node in nodes.items()}
    weights: dict[str, np.ndarray] = {}
    for number, (name, key) in keys.items():
        if key not in stored or number in not_weights:
            continue
        if name in weights and not np.array_equal(weights[name], stored[key]):
            raise UserError(f"{path}: its object graph names two variables {name}")
        weights[name] = stored[key]
    for slot in slots:
        name, key = keys.get(slot.original_variable_node_id, ("", ""))[0], ""
        if slot.slot_name == _AVERAGE and slot.slot_variable_node_id in keys:
            key = keys[slot.slot_variable_node_id][1]
        if name in weights and key in stored:
            weights[name + average_suffix] = stored[key]
    if not weights:
        raise UserError(f"{path}: its object graph names no variable that is stored")
    return weights


def _name_and_key(node: "TrackableObjectGraph.TrackableObject") -> tuple[str, str]:
    """A variable's name and the key of its value; empty for another object."""
    values = [one for one in node.attributes if one.name == _VALUE and one.full_name]
    return (values[0].full_name, values[0].checkpoint_key) if values else ("", "")
