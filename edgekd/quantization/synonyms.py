"""Writes operators by those that have an int8 rule, where both compute the same function.

Exporters and importers spell operators in many ways: a quotient as true_divide, a square as pow,
group norm as an instance norm between two reshapes.

    true_divide, bmm, einsum        div, matmul
    square, pow(x, 2), neg, rsub    products and differences
    addcmul, var, std               sums of products; means of squares
    celu, glu                       elu; a product with a sigmoid
    layer norm of a whole map       group norm of one group
    convolution over one axis       convolution over a map of one row
    clamp                           relu, relu6, hardtanh
    stack, chunks of channels       unsqueeze and cat; reshape and permute
    sqrt(sum(x * x))                linalg_vector_norm
    instance norm                   group norm with a group for each channel
    adaptive max pool, amax         max pools
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from torch import fx

from edgekd.quantization.graph_edits import call, replace
from edgekd.quantization.graphs import Node, clean, getattr_path, is_node, nodes_of, shape_of
from edgekd.quantization.op_limits import aten, pair

# Gives the node that computes the same, or None where a form has no synonym.
Synonym = Callable[[fx.GraphModule, Node], Node | None]


def write_synonyms(network: fx.GraphModule) -> None:
    """Replace every operator of SYNONYMS, in place."""
    for node in nodes_of(network.graph):
        synonym = SYNONYMS.get(node.target)
        new = synonym(network, node) if synonym is not None else None
        if new is not None:
            replace(network, node, new)
    clean(network)


def _as(target: Any) -> Synonym:
    """The same arguments under another name."""

    def write(network: fx.GraphModule, node: Node) -> Node | None:
        return None if node.kwargs else call(network, node, target, *node.args[:2])

    return write


def _square(network: fx.GraphModule, node: Node) -> Node:
    return call(network, node, aten.mul.Tensor, node.args[0], node.args[0])


def _power(network: fx.GraphModule, node: Node) -> Node | None:
    source, exponent = node.args[:2]
    if exponent == 2:
        return _square(network, node)
    if exponent == 0.5:
        return call(network, node, aten.sqrt.default, source)
    return call(network, node, aten.rsqrt.default, source) if exponent == -0.5 else None


def _negative(network: fx.GraphModule, node: Node) -> Node:
    return call(network, node, aten.mul.Tensor, node.args[0], -1.0)


def _reversed_difference(network: fx.GraphModule, node: Node) -> Node | None:
    factor = node.kwargs.get("alpha", node.args[2] if len(node.args) > 2 else 1)
    if factor != 1:
        return None
    turned = _negative(network, node)
    return call(network, node, aten.add.Tensor, turned, node.args[1])


def _addcmul(network: fx.GraphModule, node: Node) -> Node | None:
    if node.kwargs:
        return None
    product = call(network, node, aten.mul.Tensor, *node.args[1:3])
    return call(network, node, aten.add.Tensor, product, node.args[0])


def _variance(network: fx.GraphModule, node: Node) -> Node | None:
    """The mean of the squared differences from the mean, corrected as torch does."""
    source, axes = (*node.args, None)[:2]
    if axes is None:
        return None
    named = {**dict(zip(("correction", "keepdim"), node.args[2:], strict=False)), **node.kwargs}
    correction = float(named.get("correction", named.get("unbiased", True)))
    mean = call(network, node, aten.mean.dim, source, axes, True)
    centred = call(network, node, aten.sub.Tensor, source, mean)
    squares = call(network, node, aten.mul.Tensor, centred, centred)
    keep = bool(named.get("keepdim", False))
    variance = call(network, node, aten.mean.dim, squares, axes, keep)
    count = math.prod(shape_of(source)[int(axis)] for axis in axes)
    if not correction:
        return variance
    return call(network, node, aten.mul.Tensor, variance, count / (count - correction))


def _deviation(network: fx.GraphModule, node: Node) -> Node | None:
    variance = _variance(network, node)
    return variance and call(network, node, aten.sqrt.default, variance)


def _whole_norm(network: fx.GraphModule, node: Node) -> Node | None:
    """A layer norm over all axes but the images': a group norm of one group."""
    source, sizes = node.args[:2]
    gain, offset, epsilon = (*node.args, *(None, None, 1e-5)[len(node.args) - 2 :])[2:5]
    if len(sizes) == 1 or len(sizes) != len(shape_of(source)) - 1:
        return None
    norm = call(network, node, aten.group_norm.default, source, 1, None, None, epsilon)
    if gain is not None:
        norm = call(network, node, aten.mul.Tensor, norm, gain)
    return norm if offset is None else call(network, node, aten.add.Tensor, norm, offset)


def _one_axis(network: fx.GraphModule, node: Node) -> Node:
    """A convolution over one axis as one over a map of one row."""
    names = ("stride", "padding", "dilation")
    source, weight, bias = (*node.args, None)[:3]
    given = dict(zip(names, node.args[3:6], strict=False))
    one = {name: int(given.get(name, [int(name != "padding")])[0]) for name in names}
    flat = call(network, node, aten.unsqueeze.default, source, 2)
    wide = call(network, node, aten.unsqueeze.default, weight, 2)
    sizes = [[1, one["stride"]], [0, one["padding"]], [1, one["dilation"]]]
    groups = int(node.args[6]) if len(node.args) > 6 else 1
    rows = call(network, node, aten.conv2d.default, flat, wide, bias, *sizes, groups)
    return call(network, node, aten.squeeze.dim, rows, 2)


def _celu(network: fx.GraphModule, node: Node) -> Node | None:
    alpha = float(node.args[1]) if len(node.args) > 1 else 1.0
    return call(network, node, aten.elu.default, node.args[0]) if alpha == 1.0 else None


def _clamp(network: fx.GraphModule, node: Node) -> Node | None:
    low, high = ((*node.args, None, None)[at] for at in (1, 2))
    low, high = node.kwargs.get("min", low), node.kwargs.get("max", high)
    if is_node(low) or is_node(high) or low is None:
        return None
    if high is None:
        return call(network, node, aten.relu.default, node.args[0]) if low == 0 else None
    return call(network, node, aten.hardtanh.default, node.args[0], float(low), float(high))


def _gated(network: fx.GraphModule, node: Node) -> Node:
    """GLU: the first half times the sigmoid of the second."""
    source = node.args[0]
    axis = (int(node.args[1]) if len(node.args) > 1 else -1) % len(shape_of(source))
    size = shape_of(source)[axis]
    first = call(network, node, aten.slice.Tensor, source, axis, 0, size // 2)
    second = call(network, node, aten.slice.Tensor, source, axis, size // 2, size)
    gate = call(network, node, aten.sigmoid.default, second)
    return call(network, node, aten.mul.Tensor, first, gate)


def _einsum(network: fx.GraphModule, node: Node) -> Node | None:
    """A product of two tensors over one index, as permutations and a matrix product."""
    equation, operands = str(node.args[0]).replace(" ", ""), node.args[1]
    reads, _, result = equation.partition("->")
    terms = reads.split(",")
    if len(operands) != 2 or "." in equation or any(len(set(t)) < len(t) for t in terms):
        return None
    first, second = terms
    inner = [label for label in first if label in second and label not in result]
    shared = [label for label in first if label in second and label in result]
    rows = [label for label in first if label not in second]
    columns = [label for label in second if label not in first]
    fits = len(inner) == 1 and len(columns) == 1 and (len(rows) == 1 or not shared)
    if not fits or sorted(shared + rows + columns) != sorted(result):
        return None
    left, right = shared + rows + inner, shared + inner + columns
    product = call(
        network,
        node,
        aten.matmul.default,
        call(network, node, aten.permute.default, operands[0], [*map(first.index, left)]),
        call(network, node, aten.permute.default, operands[1], [*map(second.index, right)]),
    )
    given = shared + rows + columns
    return call(network, node, aten.permute.default, product, [*map(given.index, result)])


def _stack(network: fx.GraphModule, node: Node) -> Node:
    axis = (int(node.args[1]) if len(node.args) > 1 else 0) % len(shape_of(node))
    parts = [call(network, node, aten.unsqueeze.default, part, axis) for part in node.args[0]]
    return call(network, node, aten.cat.default, parts, axis)


def _turned(
    network: fx.GraphModule, node: Node, split: list[int], order: list[int], joined: list[int]
) -> Node:
    """A map whose axes are split, permuted and joined again. The shapes leave out the batch."""
    parts = call(network, node, aten.reshape.default, node.args[0], [-1, *split])
    moved = call(network, node, aten.permute.default, parts, [0, *order])
    return call(network, node, aten.reshape.default, moved, [-1, *joined])


def _channel_shuffle(network: fx.GraphModule, node: Node) -> Node:
    channels, height, width = shape_of(node)[1:]
    groups = int(node.args[1])
    split = [groups, channels // groups, height * width]
    return _turned(network, node, split, [2, 1, 3], [channels, height, width])


def _pixel_shuffle(network: fx.GraphModule, node: Node) -> Node:
    """Depth to space: one axis after the other, since kernels have few dimensions."""
    channels, height, width = shape_of(node.args[0])[1:]
    by = int(node.args[1])
    left = channels // by**2
    parts = call(
        network, node, aten.reshape.default, node.args[0], [-1, left, by, by, height, width]
    )
    moved = call(network, node, aten.permute.default, parts, [0, 1, 4, 2, 5, 3])
    return call(network, node, aten.reshape.default, moved, [-1, left, height * by, width * by])


def _pixel_unshuffle(network: fx.GraphModule, node: Node) -> Node:
    channels, height, width = shape_of(node.args[0])[1:]
    by = int(node.args[1])
    split = [-1, channels, height // by, by, width // by, by]
    parts = call(network, node, aten.reshape.default, node.args[0], split)
    moved = call(network, node, aten.permute.default, parts, [0, 1, 3, 5, 2, 4])
    joined = [-1, channels * by**2, height // by, width // by]
    return call(network, node, aten.reshape.default, moved, joined)


def _norm_of_sum(network: fx.GraphModule, node: Node) -> Node | None:
    """Sqrt(sum(x * x)), as ONNX's ReduceL2 is imported. The products were squares before."""
    total = node.args[0]
    if total.target is not aten.sum.dim_IntList or not is_node(total.args[0]):
        return None
    product = total.args[0]
    if product.target is not aten.mul.Tensor or product.args[0] is not product.args[1]:
        return None
    keep = len(total.args) > 2 and bool(total.args[2])
    return call(
        network, node, aten.linalg_vector_norm.default, product.args[0], 2, total.args[1], keep
    )


def _instance_norm(network: fx.GraphModule, node: Node) -> Node | None:
    """A group norm: with its own groups where exporters wrote a group norm so."""
    source, gain, offset, mean = node.args[:4]
    if mean is not None:  # running statistics: another function
        return None
    epsilon = float(node.args[7])
    whole = _group_norm_around(network, node)
    if whole is not None:
        return whole
    channels = shape_of(source)[1]
    return call(network, node, aten.group_norm.default, source, channels, gain, offset, epsilon)


def _group_norm_around(network: fx.GraphModule, node: Node) -> Node | None:
    """The group norm of reshape, instance norm over groups, reshape back; None for another form.

    The result has the grouped shape: the reshape behind it stays, and changes nothing.
    """
    before, source = node.args[0], (node.args[0].args or (None,))[0]
    reader = next(iter(node.users), None)
    if before.target is not aten.reshape.default or reader is None or len(node.users) != 1:
        return None
    if reader.target is not aten.reshape.default or shape_of(reader) != shape_of(source):
        return None
    for parameter, neutral in ((node.args[1], 1.0), (node.args[2], 0.0)):
        if parameter is not None and bool(
            (getattr_path(network, str(parameter.target)) != neutral).any()
        ):
            return None
    groups, epsilon = shape_of(before)[1], float(node.args[7])
    norm = call(network, node, aten.group_norm.default, source, groups, None, None, epsilon)
    return call(network, node, aten.reshape.default, norm, before.args[1])


def _max_pool(network: fx.GraphModule, node: Node) -> Node | None:
    """The values of an adaptive max pool, of windows of one size, without their indices."""
    pool, part = node.args
    if part != 0 or pool.target is not aten.adaptive_max_pool2d.default:
        return None
    sizes, outputs = shape_of(pool.args[0])[2:], pair(pool.args, 1)
    if any(size % out for size, out in zip(sizes, outputs, strict=True)):
        return None
    kernel = [size // out for size, out in zip(sizes, outputs, strict=True)]
    return call(network, node, aten.max_pool2d.default, pool.args[0], kernel, kernel)


def _largest(network: fx.GraphModule, node: Node) -> Node | None:
    """The maximum of a whole map."""
    source, axes = node.args[:2]
    shape = shape_of(source)
    axes = axes if isinstance(axes, (list, tuple)) else [axes]
    if len(shape) != 4 or sorted(int(axis) % 4 for axis in axes) != [2, 3]:
        return None
    pooled = call(network, node, aten.max_pool2d.default, source, shape[2:], shape[2:])
    if len(node.args) > 2 and node.args[2]:
        return pooled
    return call(network, node, aten.flatten.using_ints, pooled, 1)


SYNONYMS: dict[Any, Synonym] = {
    aten.true_divide.Tensor: _as(aten.div.Tensor),
    aten.bmm.default: _as(aten.matmul.default),
    aten.square.default: _square,
    aten.pow.Tensor_Scalar: _power,
    aten.neg.default: _negative,
    aten.rsub.Scalar: _reversed_difference,
    aten.addcmul.default: _addcmul,
    aten.var.correction: _variance,
    aten.var.dim: _variance,
    aten.std.correction: _deviation,
    aten.std.dim: _deviation,
    aten.layer_norm.default: _whole_norm,
    aten.conv1d.default: _one_axis,
    aten.celu.default: _celu,
    aten.clamp.default: _clamp,
    aten.glu.default: _gated,
    aten.einsum.default: _einsum,
    aten.stack.default: _stack,
    aten.channel_shuffle.default: _channel_shuffle,
    aten.pixel_shuffle.default: _pixel_shuffle,
    aten.pixel_unshuffle.default: _pixel_unshuffle,
    aten.sqrt.default: _norm_of_sum,
    aten.instance_norm.default: _instance_norm,
    operator.getitem: _max_pool,
    aten.amax.default: _largest,
}
