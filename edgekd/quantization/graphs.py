"""Helpers for aten graphs: paths, nodes, shapes, and the names that messages use."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx, nn

from edgekd.quantization.int8_functions import transposed_convolution

aten = torch.ops.aten

# An fx.Node. The type of its arguments is a union of twenty kinds, which no code here can narrow.
Node = Any
CONVOLUTIONS = frozenset({aten.conv2d.default, aten.conv2d.padding})
# Operators with a trained weight, whose output channels come first, and a bias.
LAYERS = frozenset({*CONVOLUTIONS, aten.linear.default, transposed_convolution})
# Operators that give the same elements another shape, and those that give them another order.
RESHAPES = frozenset(
    {
        aten.flatten.using_ints,
        aten.unflatten.int,
        aten.view.default,
        aten.reshape.default,
        aten.squeeze.dim,
        aten.unsqueeze.default,
    }
)
PERMUTATIONS = frozenset({aten.permute.default, aten.transpose.int})
# The key of a network's meta under which `clean` keeps the graph that it left.
CLEANED = "cleaned"


def getattr_path(root: nn.Module, path: str) -> Any:
    """The value of `root.a.b.c` for the path "a.b.c"."""
    return operator.attrgetter(path)(root)


def has_path(root: nn.Module, path: str) -> bool:
    """Whether `getattr_path` finds something that is not None."""
    try:
        return getattr_path(root, path) is not None
    except AttributeError:
        return False


def is_node(value: Any) -> bool:
    """Whether an argument of a node is a node itself, and not a number, a list or None."""
    return isinstance(value, fx.Node)


def output_of(graph: fx.Graph) -> Node:
    """The output node of a graph."""
    return next(node for node in reversed(graph.nodes) if node.op == "output")


def nodes_of(graph: fx.Graph) -> list[Node]:
    """A list of the graph's nodes, which stays as it is while the graph is changed."""
    return list(graph.nodes)


def module_of(node: Node) -> str:
    """The dotted name of the module whose forward made this node, "" for the network's own."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return str(stack[-1][0]) if stack else ""


def op_name(node: Node) -> str:
    """A node's op as messages name it: "conv2d", "gelu"."""
    return (
        str(getattr(node.target, "__name__", node.target))
        .removeprefix("aten.")
        .split(".")[0]
        .rstrip("_")
    )


def where(node: Node) -> str:
    """The place of a node in messages: "in module 'blocks.0'"."""
    return f"in module {module_of(node)!r}" if module_of(node) else "in the network's own forward"


def shape_of(node: Node) -> list[int]:
    """The shape of a node's value for a batch of one. A fake-quantizer has that of its input."""
    node = node.args[0] if node.op == "call_module" else node
    return [int(dim) for dim in node.meta["val"].shape]


def is_layer(node: Node) -> bool:
    """Whether a node is a convolution, transposed or not, or a linear layer."""
    return node.target in LAYERS


def permutation(node: Node) -> list[int]:
    """The order of the input's axes in the output of a node of PERMUTATIONS."""
    rank = len(shape_of(node.args[0]))
    if node.target is aten.permute.default:
        return [int(axis) % rank for axis in node.args[1]]
    order = list(range(rank))
    one, other = int(node.args[1]) % rank, int(node.args[2]) % rank
    order[one], order[other] = order[other], order[one]
    return order


def clean(network: fx.GraphModule) -> None:
    """Drop nodes that nothing reads, check the graph, and compile it again.

    Nothing happens where the graph is as the last call left it: most rewrites change most networks
    not at all, and compiling takes 20 ms.
    """
    if network.meta.get(CLEANED) == _written(network.graph):
        return
    network.graph.eliminate_dead_code()
    network.graph.lint()
    network.recompile()
    network.meta[CLEANED] = _written(network.graph)


def _written(graph: fx.Graph) -> list[str]:
    """Each node of a graph as text: its name, what it calls, and with what."""
    return [
        f"{node.op} {node.name} {node.target} {node.args} {node.kwargs}" for node in graph.nodes
    ]
