"""Writes the operators of torch's core set as those that a network's own Python calls.

`ExportedProgram.run_decompositions()` takes operators apart: a convolution of any kind is one
operator, a batch norm gives three results, and a linear layer is an addmm with a transposed weight.
The rest of the int8 route knows the whole ones.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from edgekd.quantization.graph_edits import call_like, constant, held, replace
from edgekd.quantization.graphs import PERMUTATIONS, Node, clean, is_node, nodes_of, permutation

aten = torch.ops.aten

# Gives the arguments of the whole operator from those of the core one.
type Arguments = Callable[[tuple[Any, ...]], tuple[Any, ...]]

# Core operators with several results, of which networks read the first: {operator: (the whole
# operator, its arguments)}.
FIRST_OF: dict[Any, tuple[Any, Arguments]] = {
    aten._native_batch_norm_legit_no_training.default: (
        aten.batch_norm.default,
        lambda args: (*args[:5], False, *args[5:7], False),
    ),
    aten.native_layer_norm.default: (aten.layer_norm.default, lambda args: args),
    aten.native_group_norm.default: (
        aten.group_norm.default,
        lambda args: (args[0], args[6], *args[1:3], args[7]),
    ),
}
SAME: dict[Any, tuple[Any, Arguments]] = {
    aten._softmax.default: (aten.softmax.int, lambda args: args[:2]),
    aten._adaptive_avg_pool2d.default: (aten.adaptive_avg_pool2d.default, lambda args: args),
}
DROPPED = frozenset({aten.clone.default, aten.alias.default})


def whole_from_core(network: fx.GraphModule) -> None:
    """Replace the operators of the core set that have a whole one, in place."""
    for node in nodes_of(network.graph):
        new = _whole(network, node)
        if new is not None:
            replace(network, node, new)
    clean(network)


def _whole(network: fx.GraphModule, node: Node) -> Node | None:
    """What computes the same as `node`; None where it is no operator of the core set alone."""
    if node.op != "call_function":
        return None
    if node.target is operator.getitem and node.args[0].target in FIRST_OF and node.args[1] == 0:
        target, arguments = FIRST_OF[node.args[0].target]
        return call_like(network, node, target, arguments(node.args[0].args))
    if node.target in SAME:
        target, arguments = SAME[node.target]
        return call_like(network, node, target, arguments(node.args))
    if node.target in DROPPED:
        return node.args[0]
    if node.target is aten.convolution.default:
        return _convolution(network, node)
    if node.target in (aten.addmm.default, aten.mm.default) and not node.kwargs:
        return _linear(network, node)
    return None


def _convolution(network: fx.GraphModule, node: Node) -> Node | None:
    source, weight, bias, stride, padding, dilation, transposed, more, groups = node.args
    if len(stride) != 2:
        return None
    if transposed:
        turned = (source, weight, bias, stride, padding, more, groups, dilation)
        return call_like(network, node, aten.conv_transpose2d.input, turned)
    plain = (source, weight, bias, stride, padding, dilation, groups)
    return call_like(network, node, aten.conv2d.default, plain)


def _linear(network: fx.GraphModule, node: Node) -> Node | None:
    """A product with a stored matrix [in, out], or with a transposed one [out, in]."""
    *bias, source, weight = node.args
    if is_node(weight) and weight.target in PERMUTATIONS and permutation(weight) == [1, 0]:
        weight = weight.args[0]
    elif is_node(weight) and weight.op == "get_attr":
        weight = constant(network, node, "weight", held(network, weight).T.contiguous())
    else:
        return None
    if weight.op != "get_attr":
        return None
    return call_like(network, node, aten.linear.default, (source, weight, *bias))
