"""Finds normalizations that were written with simpler operators, and writes them as one.

(x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps)    layer norm, or group norm over a map
x / sqrt(mean(x^2) + eps)                            RMS norm
... * gain + offset                                  become a part of the norm
"""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import fx

from edgekd.quantization.graph_edits import call, replace
from edgekd.quantization.graphs import Node, clean, is_node, nodes_of, shape_of
from edgekd.quantization.op_limits import aten


@dataclasses.dataclass(frozen=True)
class _Norm:
    """A normalization of `source` over `axes`, with or without its mean."""

    source: Node
    axes: tuple[int, ...]
    epsilon: float
    centred: bool


def recognise_norms(network: fx.GraphModule) -> None:
    """Write every normalization as one operator, in place."""
    for node in nodes_of(network.graph):
        norm = _norm(node)
        new = None if norm is None else _written(network, node, norm)
        if new is not None:
            replace(network, node, new)
    clean(network)
    for node in nodes_of(network.graph):
        if node.target in GAINS:
            _take_gain_and_offset(network, node)
    clean(network)


def _norm(node: Node) -> _Norm | None:
    """The normalization whose last operator this is."""
    if node.target is aten.div.Tensor and is_node(node.args[1]):
        root = node.args[1]
        if root.target is aten.sqrt.default:
            return _normalized(node.args[0], root.args[0])
    if node.target is aten.mul.Tensor:
        for source, root in (node.args, node.args[::-1]):
            if is_node(root) and is_node(source) and root.target is aten.rsqrt.default:
                return _normalized(source, root.args[0])
    return None


def _normalized(above: Node, below: Node) -> _Norm | None:
    """`above` by the root of `below`."""
    epsilon = 0.0
    if below.target is aten.add.Tensor and isinstance(below.args[1], float):
        below, epsilon = below.args[:2]
    variance = _mean(below, keep=True)
    if variance is None:
        return None
    square, axes = variance
    if square.target is not aten.mul.Tensor or not all(
        is_node(part) and _same(part, above) for part in square.args
    ):
        return None
    mean = _mean(above.args[1], keep=True) if above.target is aten.sub.Tensor else None
    if mean is not None and _same(mean[0], above.args[0]) and mean[1] == axes:
        return _Norm(above.args[0], axes, epsilon, centred=True)
    return _Norm(above, axes, epsilon, centred=False)


def _mean(node: Any, keep: bool) -> tuple[Node, tuple[int, ...]] | None:
    """(what a node takes the mean of, its axes); None for another node."""
    if not is_node(node) or node.target is not aten.mean.dim:
        return None
    if keep != (len(node.args) > 2 and bool(node.args[2])):
        return None
    rank = len(shape_of(node.args[0]))
    return node.args[0], tuple(sorted(int(axis) % rank for axis in node.args[1]))


def _same(first: Any, second: Any) -> bool:
    """Whether two nodes compute the same from the same."""
    if first is second:
        return True
    if not (is_node(first) and is_node(second)):
        return bool(first == second) and not (is_node(first) or is_node(second))
    return (
        first.op == second.op == "call_function"
        and first.target is second.target
        and first.kwargs == second.kwargs
        and len(first.args) == len(second.args)
        and all(map(_same, first.args, second.args))
    )


def _written(network: fx.GraphModule, node: Node, norm: _Norm) -> Node | None:
    """The operator of a normalization; None for axes that none has."""
    shape = shape_of(norm.source)
    last = len(shape) - 1
    if len(norm.axes) > 1:
        groups = {tuple(range(1, last + 1)): 1, tuple(range(2, last + 1)): shape[1]}.get(norm.axes)
        if groups is None or not norm.centred:
            return None
        args = (norm.source, groups, None, None, norm.epsilon)
        return call(network, node, aten.group_norm.default, *args)
    (axis,) = norm.axes
    source = norm.source
    if axis != last:
        source = call(network, node, aten.transpose.int, source, axis, last)
    size = [shape[axis]]
    new = (
        call(network, node, aten.layer_norm.default, source, size, None, None, norm.epsilon)
        if norm.centred
        else call(network, node, aten.rms_norm.default, source, size, None, norm.epsilon)
    )
    return new if axis == last else call(network, node, aten.transpose.int, new, axis, last)


# Operator -> the index of its gain, and of its offset where it has one.
GAINS: dict[Any, tuple[int, ...]] = {
    aten.layer_norm.default: (2, 3),
    aten.rms_norm.default: (2,),
    aten.group_norm.default: (2, 3),
}


def _take_gain_and_offset(network: fx.GraphModule, norm: Node) -> None:
    """Make a product and a sum behind a norm its gain and its offset.

    Between them and the norm there may be one view that keeps the axis of the channels apart: the
    transposition or the reshape that was written with it.
    """
    at = GAINS[norm.target]
    if any(norm.args[index] is not None for index in at if index < len(norm.args)):
        return
    last, axis = norm, _channel_axis(norm)
    view = next(iter(norm.users)) if len(norm.users) == 1 else None
    if view is not None and view.target is aten.transpose.int and axis != 1:
        last, axis = view, next(int(dim) for dim in view.args[1:] if int(dim) != axis)
    elif view is not None and view.target is aten.reshape.default and axis == 1:
        after = next(iter(view.users)) if len(view.users) == 1 else None
        if after is not None and after.target is aten.reshape.default:
            last = after if shape_of(after) == shape_of(norm) else norm
    wanted = [aten.mul.Tensor, aten.add.Tensor][: len(at)]
    for index, target in zip(at, wanted, strict=True):
        reader = next(iter(last.users)) if len(last.users) == 1 else None
        if reader is None or reader.target is not target or len(reader.args) != 2:
            continue
        held = next((arg for arg in reader.args if is_node(arg) and arg.op == "get_attr"), None)
        if held is None or not _is_along(held, shape_of(last), axis):
            continue
        with network.graph.inserting_before(norm):
            read = network.graph.get_attr(held.target)
        read.meta = {**held.meta}
        flat = call(network, norm, aten.reshape.default, read, [-1])
        args = [*norm.args, *[None] * (max(at) + 1 - len(norm.args))]
        args[index] = flat
        norm.args = tuple(args)
        reader.replace_all_uses_with(last)
        network.graph.erase_node(reader)


def _channel_axis(norm: Node) -> int:
    return 1 if norm.target is aten.group_norm.default else len(shape_of(norm)) - 1


def _is_along(held: Node, shape: list[int], axis: int) -> bool:
    """Whether a parameter has one value for each index of an axis."""
    sizes = [1] * (len(shape) - len(shape_of(held))) + shape_of(held)
    return sizes == [size if index == axis else 1 for index, size in enumerate(shape)]
