"""A recorded network as plain data: its aten graph as JSON, and its parameters as a state dict.

A network that a user brings has no builder of its own. It is recorded once (`edgekd.quantization.
recording`), and from then on this form stands for it: artifacts hold the JSON in their options, and
`build` makes the network again without the user's code and without pickle.

    {"nodes": [[name, op, target, args, kwargs, module], ...], "tensors": {path: {...}}}

A value inside `args` is JSON; an object with one key stands for what JSON lacks: {"node": NAME},
{"dtype": NAME}, {"number": "inf"} and {"format": NAME} (a memory format).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from edgekd.core.artifacts import RECORDED, Json
from edgekd.core.errors import UnsupportedNetwork
from edgekd.networks.further_outputs import FURTHER_OUTPUT
from edgekd.networks.module_paths import place

ARCH = RECORDED  # of the artifacts Network and QuantNetwork, in place of a builder's name
GRAPH = "graph"  # the key in their options
GETITEM = "getitem"
# The only operators that a stored graph may name, beside FURTHER_OUTPUT: those of torch's own aten
# library.
NAMESPACE = "aten"


def to_json(network: fx.GraphModule) -> dict[str, Json]:
    """The graph of a recorded network. Raises UnsupportedNetwork for a value that has no JSON."""
    nodes: list[Json] = []
    tensors: dict[str, Json] = {}
    for node in network.graph.nodes:
        if node.op == "get_attr":
            value = _value(network, str(node.target))
            tensors[str(node.target)] = {
                "shape": list(value.shape),
                "dtype": str(value.dtype).removeprefix("torch."),
                "trained": isinstance(value, nn.Parameter),
            }
        stack = list(node.meta.get("nn_module_stack", {}).values())
        nodes.append(
            [
                node.name,
                node.op,
                _target(node),
                _plain(node.args),
                _plain(node.kwargs),
                str(stack[-1][0]) if stack else "",
            ]
        )
    return {"nodes": nodes, "tensors": tensors}


def _value(network: fx.GraphModule, path: str) -> Tensor:
    found: Tensor = operator.attrgetter(path)(network)
    return found


def _target(node: fx.Node) -> str:
    if node.op != "call_function":
        return str(node.target)
    return GETITEM if node.target is operator.getitem else str(node.target)


def _plain(value: Any) -> Json:
    """A node's argument as JSON."""
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, torch.memory_format):
        return {"format": str(value).removeprefix("torch.")}
    if isinstance(value, float) and not math.isfinite(value):
        return {"number": str(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise UnsupportedNetwork(
        f"the network's graph holds a {type(value).__name__}, which has no form to be kept in",
        "take a network whose operators read tensors and numbers only",
    )


def build(body: Mapping[str, Json]) -> fx.GraphModule:
    """The network of a graph's JSON, with zeros for its parameters; `load_state_dict` fills it."""
    root = nn.Module()
    for path, row in body["tensors"].items():
        value = torch.zeros(row["shape"], dtype=getattr(torch, row["dtype"]))
        place(root, path, nn.Parameter(value) if row["trained"] else value)
    graph, made = fx.Graph(), dict[str, fx.Node]()
    for name, op, target, args, kwargs, module in body["nodes"]:
        given = tuple(_restored(part, made) for part in args)
        named = {key: _restored(part, made) for key, part in kwargs.items()}
        if op == "output":
            graph.output(given[0])
            continue
        node = graph.create_node(op, _function(op, target), given, named, name=name)
        if module:
            node.meta["nn_module_stack"] = {module: (module, nn.Module)}
        made[name] = node
    return fx.GraphModule(root, graph)


def _function(op: str, target: str) -> Any:
    """What a node calls or names. Raises UnsupportedNetwork for what is no aten operator."""
    if op != "call_function":
        return target
    if target == GETITEM:
        return operator.getitem
    if target == str(FURTHER_OUTPUT):
        return FURTHER_OUTPUT
    library, _, name = target.partition(".")
    try:
        if library == NAMESPACE:
            return operator.attrgetter(name)(torch.ops.aten)
    except AttributeError:
        pass
    raise UnsupportedNetwork(
        f"the stored network calls {target!r}, which this torch does not have",
        "convert the network again with this version",
    )


def _restored(value: Any, made: Mapping[str, fx.Node]) -> Any:
    """The argument that a JSON value stands for."""
    if isinstance(value, list):
        return [_restored(part, made) for part in value]
    if not isinstance(value, dict):
        return value
    if "node" in value:
        return made[value["node"]]
    if "dtype" in value:
        return getattr(torch, value["dtype"])
    if "format" in value:
        return getattr(torch, value["format"])
    return float(value["number"])
