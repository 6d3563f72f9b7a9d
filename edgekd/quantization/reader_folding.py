"""Folds gain_c * x + offset_c, one pair for each index of an axis, into the layers that read x.

The gain and the offset of a normalization then cost no operator and no rounding. Between x and the
layers there may be operators that keep the axis: views, slices, pools, a roll.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, fx

from edgekd.quantization.folding import bias_of, set_bias
from edgekd.quantization.graph_edits import call, layer_parameters
from edgekd.quantization.graphs import (
    CONVOLUTIONS,
    PERMUTATIONS,
    RESHAPES,
    Node,
    getattr_path,
    is_node,
    nodes_of,
    permutation,
    shape_of,
)
from edgekd.quantization.op_limits import pair

aten = torch.ops.aten

# Operators that move elements along other axes: (the index of the argument that names the axis).
MOVES = {aten.slice.Tensor: 1, aten.select.int: 1, aten.roll.default: 2}


def scale_and_shift(
    network: fx.GraphModule, node: Node, gain: Tensor, offset: Tensor, axis: int
) -> None:
    """Let the readers of `node` read gain * node + offset, along `axis`.

    `gain`, `offset`: float64 [size of the axis]. They become a part of the layers that read the
    node, where all its readers are layers; else a layer of their own.
    """
    if bool((gain == 1).all()) and bool((offset == 0).all()):
        return
    if fold_into_readers(network, node, gain, offset, axis):
        return
    after = _after(network, node)
    users = list(node.users)
    new = pointwise_along(network, after, node, gain, offset, axis)
    for user in users:
        user.replace_input_with(node, new)


def fold_into_readers(
    network: fx.GraphModule, node: Node, gain: Tensor, offset: Tensor, axis: int
) -> bool:
    """Let the layers that read `node` read gain * node + offset; False, and nothing is changed,
    where not only layers read it. The arguments are those of `scale_and_shift`.
    """
    readers: list[Node] = []
    if not _find_readers(node, axis, bool((offset != 0).any()), readers):
        return False
    for layer in readers:
        _fold(network, layer, gain, offset)
    return True


def _after(network: fx.GraphModule, node: Node) -> Node:
    """The node that follows in the graph."""
    order = nodes_of(network.graph)
    return order[order.index(node) + 1]


def _find_readers(node: Node, axis: int, shifts: bool, found: list[Node]) -> bool:
    """Whether only layers read the axis of `node`; they are added to `found`."""
    for user in node.users:
        if user.target is aten.linear.default:
            fits = axis == len(shape_of(node)) - 1 and user.args[0] is node
            if not fits or len(user.args[1].users) != 1:
                return False
            found.append(user)
        elif user.target in CONVOLUTIONS:
            padded = user.target is aten.conv2d.padding or any(pair(user.args, 4))
            if axis != 1 or user.args[0] is not node or len(user.args[1].users) != 1:
                return False
            if padded and shifts:
                return False
            found.append(user)
        else:
            moved = _axis_after(user, node, axis, shifts)
            if moved is None or not _find_readers(user, moved, shifts, found):
                return False
    return bool(node.users)


def _axis_after(user: Node, node: Node, axis: int, shifts: bool) -> int | None:
    """Where the axis of `node` is in the output of `user`; None when it is mixed with others."""
    if not user.args or user.args[0] is not node:
        return None
    rank = len(shape_of(node))
    if user.target in PERMUTATIONS:
        return permutation(user).index(axis)
    if user.target in RESHAPES:
        return _kept_axis(shape_of(node), shape_of(user), axis)
    if user.target in MOVES:
        named = user.args[MOVES[user.target]]
        named = [named] if isinstance(named, int) else list(named)
        if axis in [int(dim) % rank for dim in named]:
            return None
        dropped = user.target is aten.select.int and int(named[0]) % rank < axis
        return axis - 1 if dropped else axis
    if user.target is aten.mean.dim:
        over = [int(dim) % rank for dim in user.args[1]]
        if axis in over:
            return None
        keep = len(user.args) > 2 and bool(user.args[2])
        return axis if keep else axis - sum(dim < axis for dim in over)
    if user.target is aten.mul.Tensor and not shifts:  # a gain of one factor is that of the product
        other = user.args[1]
        same_rank = is_node(other) and len(shape_of(other)) == rank
        return axis if same_rank and other is not node else None
    if user.target is aten.adaptive_avg_pool2d.default:
        return axis if axis == 1 else None
    return None


def _kept_axis(source: list[int], target: list[int], axis: int) -> int | None:
    """The axis of `target` that is an axis of `source` with as many elements before and after."""
    before = math.prod(source[:axis])
    for index, size in enumerate(target):
        if size == source[axis] and math.prod(target[:index]) == before:
            return index
    return None


def _fold(network: fx.GraphModule, layer: Node, gain: Tensor, offset: Tensor) -> None:
    """W (gain * x + offset) + b = (W gain) x + (W offset + b)."""
    weight = getattr_path(network, layer.args[1].target)
    old, bias = weight.detach().double(), bias_of(network, layer)
    groups = int(layer.args[6]) if len(layer.args) > 6 else 1
    inputs = old.shape[1]
    # Output channel o of a grouped convolution reads the input channels of its group.
    group = torch.arange(old.shape[0]) // (old.shape[0] // groups)
    columns = group[:, None] * inputs + torch.arange(inputs)[None, :]
    ones = [1] * (old.ndim - 2)
    with torch.no_grad():
        weight.copy_((old * gain[columns].reshape(*columns.shape, *ones)).to(weight.dtype))
    if bool((offset != 0).any()):
        shift = (old * offset[columns].reshape(*columns.shape, *ones)).flatten(1).sum(1)
        shift = shift + (0.0 if bias is None else bias.detach().double())
        set_bias(network, layer, shift.to(weight.dtype))


def pointwise_along(
    network: fx.GraphModule, before: Node, source: Node, gain: Tensor, offset: Tensor, axis: int
) -> Node:
    """A depthwise 1x1 convolution gain_c * x + offset_c along any axis, before the node `before`.

    The views around it only rename axes: lowering finds the file's order in them.
    """
    shape = shape_of(source)
    rank, channels = len(shape), gain.numel()
    order = [0, axis, *(other for other in range(1, rank) if other != axis)]
    if axis == 0:
        raise ValueError("the batch has no gain of its own")
    turned = source
    if order != list(range(rank)):
        turned = call(network, before, aten.permute.default, source, order)
    full = [shape[index] for index in order]
    if rank != 4:
        lines = math.prod(full[2:])
        turned = call(network, before, aten.reshape.default, turned, [-1, channels, lines, 1])
    parameters = layer_parameters(
        network, before, gain.float().reshape(channels, 1, 1, 1), offset.float()
    )
    arguments = (*parameters, [1, 1], [0, 0], [1, 1], channels)
    line = call(network, before, aten.conv2d.default, turned, *arguments)
    if rank != 4:
        line = call(network, before, aten.reshape.default, line, [-1, *full[1:]])
    if order == list(range(rank)):
        return line
    back = [order.index(index) for index in range(rank)]
    return call(network, before, aten.permute.default, line, back)
