"""Rewrites of views into those that TFLite has: slices, reshapes, transposes and concatenations.

split, chunk, unbind, select   slices; a slice of everything is dropped
roll                           the two parts of the axis, in the other order
expand                         dropped where the readers broadcast by themselves
"""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx

from edgekd.quantization.graph_edits import call, call_like, replace
from edgekd.quantization.graphs import Node, clean, nodes_of, shape_of

aten = torch.ops.aten

PARTS = frozenset({aten.split.Tensor, aten.split_with_sizes.default, aten.chunk.default})
# Operators whose int8 kernels broadcast.
BROADCASTING = frozenset(
    {aten.add.Tensor, aten.sub.Tensor, aten.mul.Tensor, aten.div.Tensor, aten.matmul.default}
)


def views(network: fx.GraphModule) -> None:
    """Apply the rewrites of this file."""
    drop_expands(network)
    split_into_slices(network)
    select_as_slices(network)
    rolls(network)


def drop_expands(network: fx.GraphModule) -> None:
    """Drop `expand` where only operators that broadcast read it."""
    for node in nodes_of(network.graph):
        if node.target in (aten.expand.default, aten.expand_as.default) and all(
            user.target in BROADCASTING for user in node.users
        ):
            replace(network, node, node.args[0])
    clean(network)


def split_into_slices(network: fx.GraphModule) -> None:
    """Write split, split_with_sizes and chunk as slices, and drop slices of the whole."""
    for node in nodes_of(network.graph):
        if node.target is operator.getitem and node.args[0].target in PARTS:
            part, index = node.args
            axis = int(part.args[2]) if len(part.args) > 2 else 0
            axis %= len(shape_of(node))
            sizes = [int(value.shape[axis]) for value in part.meta["val"]]
            start = sum(sizes[:index])
            arguments = (part.args[0], axis, start, start + sizes[index])
            replace(network, node, call_like(network, node, aten.slice.Tensor, arguments))
    for node in nodes_of(network.graph):
        if (
            node.target is aten.slice.Tensor
            and shape_of(node) == shape_of(node.args[0])
            and step_of(node) == 1
        ):
            replace(network, node, node.args[0])
    clean(network)


def step_of(node: Node) -> int:
    """The step of a slice."""
    return int(node.args[4]) if len(node.args) > 4 else 1


def select_as_slices(network: fx.GraphModule) -> None:
    """Write select, and each part of an unbind, as a slice of one whose axis is then dropped."""
    for node in nodes_of(network.graph):
        if node.target is operator.getitem and node.args[0].target is aten.unbind.int:
            whole, index = node.args
            axis = int(whole.args[1]) if len(whole.args) > 1 else 0
            replace(network, node, _selected(network, node, whole.args[0], axis, int(index)))
        elif node.target is aten.select.int:
            source, axis, index = node.args
            replace(network, node, _selected(network, node, source, int(axis), int(index)))
    clean(network)


def _selected(network: fx.GraphModule, node: Node, source: Node, axis: int, index: int) -> Node:
    shape = shape_of(source)
    axis %= len(shape)
    index %= shape[axis]
    part: Any = source
    if shape[axis] > 1:
        part = call(network, node, aten.slice.Tensor, source, axis, index, index + 1)
    return call_like(network, node, aten.squeeze.dim, (part, axis))


def rolls(network: fx.GraphModule) -> None:
    """Write roll as the concatenation of the end and the beginning of each axis."""
    for node in nodes_of(network.graph):
        if node.target is not aten.roll.default or len(node.args) < 3:
            continue
        value = node.args[0]
        for shift, axis in zip(node.args[1], node.args[2], strict=True):
            axis = int(axis) % len(shape_of(node))
            size = shape_of(node)[axis]
            cut = (-int(shift)) % size
            if cut:
                first = call(network, node, aten.slice.Tensor, value, axis, cut, size)
                second = call(network, node, aten.slice.Tensor, value, axis, 0, cut)
                value = call(network, node, aten.cat.default, [first, second], axis)
        replace(network, node, value)
    clean(network)
