"""Folds values that depend on parameters alone into stored constants.

Weight standardization computes a convolution's weight from a parameter in every forward pass, and
so do weight normalization and other reparametrizations. In a network in eval form the result never
changes. So it is evaluated once and becomes the stored weight, which int8 training then trains
directly.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from edgekd.core.errors import UnsupportedNetwork
from edgekd.networks.module_paths import place
from edgekd.quantization.graphs import (
    Node,
    clean,
    getattr_path,
    has_path,
    is_layer,
    module_of,
    nodes_of,
    op_name,
    where,
)

aten = torch.ops.aten

BROADCASTING = frozenset({aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor})
BATCH_NORM_PARAMETERS = (
    "weight",
    "bias",
    "running mean",
    "running variance",
)  # aten.batch_norm's inputs 1 to 4


def fold_constants(network: fx.GraphModule) -> None:
    """Replace every tensor that is computed from parameters, buffers and numbers alone by its
    value.

    The weight and the bias of a layer become parameters named after the layer's module, as if the
    layer had stored them. Raises UnsupportedNetwork, naming the module, for a layer whose weight or
    bias depends on the image, and for a batch norm without running statistics.
    """
    constant, for_one = _constant_nodes(network, set()), _batch_sizes(network)
    # Tensors that a batch of one repeats for each image, such as position embeddings that are
    # computed for the whole batch. What adds or multiplies them broadcasts.
    repeated = _constant_nodes(network, for_one) - constant if for_one else set()
    values: dict[Node, Any] = dict.fromkeys(for_one, 1)
    folded: list[tuple[Node, Tensor]] = []
    for node in nodes_of(network.graph):
        if node.op != "call_function" or not isinstance(node.meta.get("val"), Tensor):
            continue
        varying = [user for user in node.users if user not in constant and user not in repeated]
        fits = node in constant or all(user.target in BROADCASTING for user in varying)
        if varying and fits and (node in constant or node in repeated):
            folded.append((node, _value(network, node, values).detach().clone()))
    stored = [(_read_instead(network.graph, node, value), value) for node, value in folded]
    for node in reversed(nodes_of(network.graph)):
        if (node in constant or node in repeated or node in for_one) and not node.users:
            network.graph.erase_node(
                node
            )  # so that the path of a parameter that nothing reads now is free
    for node, value in stored:
        node.target = _path_for(network, node)
        place(network, node.target, nn.Parameter(value) if value.is_floating_point() else value)
    refuse_computed_parameters(network)
    _part_weights(network)
    clean(network)


def _constant_nodes(network: fx.GraphModule, given: set[Node]) -> set[Node]:
    """The nodes whose value is the same for every image, where that of `given` is."""
    constant = set(given)
    for node in nodes_of(network.graph):
        computed = node.op == "call_function" and _repeatable(node.target)
        if node.op == "get_attr" or (
            computed and all(source in constant for source in node.all_input_nodes)
        ):
            constant.add(node)
    return constant


def _batch_sizes(network: fx.GraphModule) -> set[Node]:
    """The nodes that read the number of images."""
    return {
        node
        for node in nodes_of(network.graph)
        if node.target is aten.sym_size.int
        and node.args[0].op == "placeholder"
        and int(node.args[1]) == 0
    }


def _repeatable(target: Any) -> bool:
    """Whether an operator gives the same result each time and changes none of its arguments."""
    if not isinstance(target, torch._ops.OpOverload):
        return True  # a Python function such as operator.getitem
    return not target._schema.is_mutable and torch.Tag.nondeterministic_seeded not in target.tags


def _value(network: fx.GraphModule, node: Node, values: dict[Node, Any]) -> Any:
    """The value of a constant node. `values` keeps what was computed on the way."""
    if node not in values and node.op == "get_attr":
        values[node] = getattr_path(network, str(node.target))
    if node not in values:
        for source in node.all_input_nodes:
            _value(network, source, values)
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
        with torch.no_grad():
            values[node] = node.target(*args, **kwargs)
    return values[node]


def _read_instead(graph: fx.Graph, node: Node, value: Tensor) -> Node:
    """A node that reads a stored value, in place of `node`. Its path is set later."""
    with graph.inserting_before(node):
        stored = graph.create_node("get_attr", node.name)
    stored.meta = {**node.meta, "val": value}
    node.replace_all_uses_with(stored)
    graph.erase_node(node)
    return stored


def _path_for(network: fx.GraphModule, stored: Node) -> str:
    """A free path for a stored value: its layer's `.weight` or `.bias`, else `.constant`."""
    reader = next(iter(stored.users))
    part = "constant"
    if is_layer(reader) and stored in reader.args[1:3]:
        part = "weight" if stored is reader.args[1] else "bias"
    return _free_path(network, module_of(reader) or "layer", part)


def _free_path(network: fx.GraphModule, stem: str, part: str) -> str:
    """`stem.part`, or `stem2.part` and so on where that is taken."""
    read = {str(node.target) for node in nodes_of(network.graph) if node.op == "get_attr"}
    path, count = f"{stem}.{part}", 1
    while path in read or (has_path(network, path) and not _is_parameter(network, path)):
        count += 1
        path = f"{stem}{count}.{part}"
    return path


def _is_parameter(network: fx.GraphModule, path: str) -> bool:
    return isinstance(getattr_path(network, path), nn.Parameter)


def refuse_computed_parameters(network: fx.GraphModule) -> None:
    """Raise UnsupportedNetwork for the first layer or batch norm that does not store its
    parameters.
    """
    for node in nodes_of(network.graph):
        if is_layer(node):
            parameters = {"weight": node.args[1], "bias": (*node.args, None)[2]}
        elif node.target is aten.batch_norm.default:
            parameters = dict(zip(BATCH_NORM_PARAMETERS, node.args[1:5], strict=True))
            if node.args[3] is None or node.args[4] is None:
                raise UnsupportedNetwork(
                    f"the batch norm {where(node)} has no running statistics: it normalizes each "
                    "batch by itself",
                    "train the network with track_running_stats=True, or take a student that "
                    "`edgekd models` lists",
                )
        else:
            continue
        for name, parameter in parameters.items():
            if parameter is not None and parameter.op != "get_attr":
                raise UnsupportedNetwork(
                    f"the {name} of {op_name(node)} {where(node)} is computed from the image, so "
                    "it has no int8 rule",
                    "take a student whose layers store their weights; `edgekd models` lists some",
                )


def _part_weights(network: fx.GraphModule) -> None:
    """Move weights so that no two layers keep theirs in one module, since a layer is named after
    it.

    A module that holds several bare parameters and calls `F.conv2d` itself has such layers.
    """
    owner: dict[str, str] = {}  # module -> path of the weight that is in it
    for node in nodes_of(network.graph):
        if not is_layer(node):
            continue
        weight = node.args[1]
        stem = weight.target.rpartition(".")[0]
        if owner.setdefault(stem, weight.target) != weight.target:
            path = _free_path(network, module_of(node) or "layer", "weight")
            place(network, path, getattr_path(network, weight.target))
            weight.target = path
            owner[path.rpartition(".")[0]] = path
        _keep_bias_beside(network, node)


def _keep_bias_beside(network: fx.GraphModule, layer: Node) -> None:
    """Move a bias to `.bias` of the module that holds its layer's weight, unless one is there."""
    bias = layer.args[2] if len(layer.args) > 2 else None
    path = f"{layer.args[1].target.rpartition('.')[0]}.bias".lstrip(".")
    if bias is not None and bias.target != path and not has_path(network, path):
        place(network, path, getattr_path(network, bias.target))
        bias.target = path
