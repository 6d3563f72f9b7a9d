"""Adds nodes to an aten graph: calls with the shape of their result, and parameters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from edgekd.networks.module_paths import place
from edgekd.quantization.graphs import Node, getattr_path, has_path, module_of


def call(network: fx.GraphModule, before: Node, target: Any, *args: Any) -> Node:
    """A new call of `target` before the node `before`, in its module.

    Its meta value is computed from those of its arguments.
    """
    with network.graph.inserting_before(before):
        node = network.graph.call_function(target, args)
    node.meta = {**before.meta, "val": _result(target, args)}
    return node


def call_like(
    network: fx.GraphModule, node: Node, target: Any, args: tuple[Any, ...], value: Any = None
) -> Node:
    """A new call before `node`, in its module. `value`: its meta value, by default `node`'s."""
    with network.graph.inserting_before(node):
        new = network.graph.call_function(target, args)
    new.meta = {**node.meta, "val": node.meta["val"] if value is None else value}
    return new


def constant(network: fx.GraphModule, before: Node, part: str, value: Tensor) -> Node:
    """A new parameter, read before the node `before`, and named after its module and `part`."""
    stem = f"{module_of(before)}.{part}" if module_of(before) else part
    name, count = stem, 1
    while has_path(network, name):
        count += 1
        name = f"{stem}{count}"
    return _parameter(network, before, name, value)


def layer_parameters(
    network: fx.GraphModule, before: Node, weight: Tensor, bias: Tensor, part: str = "affine"
) -> tuple[Node, Node]:
    """The parameters of a new layer, named `part` after the module of the node `before`."""
    stem = f"{module_of(before)}.{part}" if module_of(before) else part
    name, count = stem, 1
    while has_path(network, name):
        count += 1
        name = f"{stem}{count}"
    return (
        _parameter(network, before, f"{name}.weight", weight),
        _parameter(network, before, f"{name}.bias", bias),
    )


def _parameter(network: fx.GraphModule, before: Node, path: str, value: Tensor) -> Node:
    place(network, path, nn.Parameter(value))
    with network.graph.inserting_before(before):
        node = network.graph.get_attr(path)
    node.meta["val"] = getattr_path(network, path)
    return node


def replace(network: fx.GraphModule, node: Node, new: Node) -> None:
    """Let the readers of `node` read `new`, and erase `node`."""
    node.replace_all_uses_with(new)
    network.graph.erase_node(node)


def held(network: fx.GraphModule, node: Node) -> Tensor:
    """The value of the parameter or buffer that a node reads, detached."""
    return getattr_path(network, str(node.target)).detach()


def _result(target: Any, args: tuple[Any, ...]) -> Any:
    """The value of a call, without data."""

    def without_data(node: Node) -> Any:
        value = node.meta["val"]
        return torch.empty_like(value, device="meta") if isinstance(value, Tensor) else value

    with torch.no_grad():
        return target(*fx.node.map_arg(args, without_data))
