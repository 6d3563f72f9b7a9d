"""Global response normalization as TFLite's operators (Woo et al. 2023, arXiv:2301.00808).

    x + beta + gamma * (x * n)    with n = g / mean(g) and g = |x| of each channel

becomes x * (gamma * n + 1) + beta, in which gamma costs a small layer and beta is folded into the
layers behind. Products, the parameters and x may stand in any order.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, fx

from edgekd.quantization.graph_edits import call, held
from edgekd.quantization.graphs import Node, clean, is_node, nodes_of, shape_of
from edgekd.quantization.int8_functions import inverse_root
from edgekd.quantization.op_limits import aten
from edgekd.quantization.reader_folding import pointwise_along, scale_and_shift

# The least square whose root is taken.
FLOOR = 1e-12


@dataclasses.dataclass
class _Response:
    """x * n, and what its readers make of it up to `last`. `over`: the axes of the norm."""

    source: Node
    over: list[int]
    axis: int
    last: Node
    gain: Node | None = None
    offset: Node | None = None
    added: bool = False


def response_norms(network: fx.GraphModule) -> None:
    """Write every response norm in its int8 form, in place."""
    for node in nodes_of(network.graph):
        found = _response(node)
        if found is not None:
            _follow(found)
            _write(network, found)
    clean(network)


def _response(product: Node) -> _Response | None:
    """The x * n that a node computes; None for another node."""
    if product.target is not aten.mul.Tensor or not all(map(is_node, product.args)):
        return None
    for source, share in (product.args, product.args[::-1]):
        if share.target is not aten.div.Tensor:
            continue
        norm = share.args[0]
        if norm.target is aten.linalg_vector_norm.default and norm.args[0] is source:
            rank = len(shape_of(source))
            over = [int(axis) % rank for axis in norm.args[2]]
            left = set(range(1, rank)) - set(over)
            if len(left) == 1 and len(norm.args) > 3 and norm.args[3]:
                return _Response(source, over, left.pop(), product)
    return None


def _follow(found: _Response) -> None:
    """Read the gain, the offset and the addition of x behind the product."""
    while len(found.last.users) == 1:
        (reader,) = found.last.users
        if reader.target not in (aten.mul.Tensor, aten.add.Tensor) or len(reader.args) != 2:
            return
        other: Any = next((arg for arg in reader.args if arg is not found.last), None)
        parameter = is_node(other) and _is_along(other, found)
        if reader.target is aten.add.Tensor and other is found.source and not found.added:
            found.added = True
        elif reader.target is aten.add.Tensor and parameter and found.offset is None:
            found.offset = other
        elif reader.target is aten.mul.Tensor and parameter and found.gain is None:
            if found.added or found.offset is not None:
                return
            found.gain = other
        else:
            return
        found.last = reader


def _is_along(node: Node, found: _Response) -> bool:
    """Whether a node is a parameter with one value for each channel."""
    channels = shape_of(found.source)[found.axis]
    behind = len(shape_of(found.source)) - 1 - found.axis
    sizes = shape_of(node) if node.op == "get_attr" else []
    return (
        bool(sizes)
        and [size for size in sizes if size != 1] == [channels]
        and (sizes[::-1].index(channels) == behind)
    )


def _write(network: fx.GraphModule, found: _Response) -> None:
    node, source = found.last, found.source
    squares = call(network, node, aten.mul.Tensor, source, source)
    power = call(network, node, aten.mean.dim, squares, found.over, True)
    root = call(network, node, inverse_root, power, FLOOR)
    size = call(network, node, aten.mul.Tensor, power, root)
    mean = call(network, node, aten.mean.dim, size, [found.axis], True)
    inverse = call(network, node, inverse_root, mean, FLOOR**0.5)
    share = call(
        network,
        node,
        aten.mul.Tensor,
        size,
        call(network, node, aten.mul.Tensor, inverse, inverse),
    )
    count = shape_of(source)[found.axis]
    gain, offset = _values(network, found.gain, count, 1.0), _values(network, found.offset, count)
    plus = torch.full_like(gain, float(found.added))
    gate = pointwise_along(network, node, share, gain, plus, found.axis)
    gated = call(network, node, aten.mul.Tensor, source, gate)
    node.replace_all_uses_with(gated)
    network.graph.erase_node(node)
    scale_and_shift(network, gated, torch.ones_like(offset), offset, found.axis)


def _values(
    network: fx.GraphModule, parameter: Node | None, count: int, default: float = 0.0
) -> Tensor:
    if parameter is None:
        return torch.full((count,), default, dtype=torch.float64)
    return held(network, parameter).double().reshape(-1)
