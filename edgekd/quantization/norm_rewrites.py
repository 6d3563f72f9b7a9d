"""Normalizations as TFLite's int8 operators.

    layer norm, RMS norm   (x - MEAN) through L2_NORMALIZATION, times sqrt(channels)
    group norm             d = x - MEAN, and d * RSQRT(MEAN(d * d))
    L2 normalization       L2_NORMALIZATION
    GRN                    x * (gamma * n + 1) + beta with n = g / MEAN(g), g = sqrt(MEAN(x * x))
    quotients              a / b = a * RSQRT(b)^2, of b >= 0

Why layer norm takes this form: int8 has no room for a variance. Over tokens it varies by orders of
magnitude, and squares of small differences round to zero. L2_NORMALIZATION sums the squares exactly
in int32, and divides each token by its own norm with 31 bits. What it costs is its fixed step of
1/128: a layer norm over c channels has steps of sqrt(c) / 128, 0.11 for 192 channels and 0.22 for
768. The gain and the offset are folded into the layers that follow.

A group norm sums over a whole map, where steps of sqrt(c * h * w) / 128 would be useless. There the
variance is one number for each image, so that int8 holds it.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, fx

from edgekd.core.errors import UnsupportedNetwork
from edgekd.quantization.graph_edits import call, held, replace
from edgekd.quantization.graphs import Node, clean, is_node, nodes_of, shape_of, where
from edgekd.quantization.int8_functions import inverse_root, l2_normalize
from edgekd.quantization.reader_folding import pointwise_along, scale_and_shift

aten = torch.ops.aten

# The least variance or sum whose root is taken where the network gives no epsilon of its own.
FLOOR = 1e-6


def norms(network: fx.GraphModule) -> None:
    """Write every normalization in its int8 form. Batch norms are folded elsewhere.

    Raises UnsupportedNetwork, naming the module, for a form that has no int8 equal.
    """
    unit_vectors(network)
    for node in nodes_of(network.graph):
        if node.target is aten.layer_norm.default:
            _layer_norm(network, node)
        elif node.target is aten.rms_norm.default:
            _rms_norm(network, node)
        elif node.target is aten.group_norm.default:
            _group_norm(network, node)
        elif node.target is aten.addcmul.default:
            _response_norm(network, node)
    for node in nodes_of(network.graph):
        if node.target is aten.div.Tensor and is_node(node.args[1]):
            _quotient(network, node)
    clean(network)


def _parameter(network: fx.GraphModule, node: Node | None, count: int, default: float) -> Tensor:
    """A gain or an offset as float64 [count]."""
    if node is None:
        return torch.full((count,), default, dtype=torch.float64)
    return held(network, node).double().reshape(-1)


def _layer_norm(network: fx.GraphModule, node: Node) -> None:
    source, axes = node.args[0], node.args[1]
    if len(axes) != 1:
        raise UnsupportedNetwork(
            f"a layer norm {where(node)} over {len(axes)} axes has no int8 rule",
            "take a student that `edgekd models` lists",
        )
    gain, offset = ((*node.args, None, None)[index] for index in (2, 3))
    mean = call(network, node, aten.mean.dim, source, [-1], True)
    centred = call(network, node, aten.sub.Tensor, source, mean)
    _normalized(network, node, centred, (gain, offset))


def _rms_norm(network: fx.GraphModule, node: Node) -> None:
    _normalized(network, node, node.args[0], ((*node.args, None)[2], None))


def _normalized(
    network: fx.GraphModule, node: Node, source: Node, affine: tuple[Node | None, Node | None]
) -> None:
    """`source` by the root of its mean square over the last axis, with a gain and an offset."""
    axis = len(shape_of(source)) - 1
    channels = shape_of(source)[axis]
    gain, offset = (
        _parameter(network, part, channels, default)
        for part, default in zip(affine, (1.0, 0.0), strict=True)
    )
    unit = call(network, node, l2_normalize, source)
    replace(network, node, unit)
    scale_and_shift(network, unit, gain * math.sqrt(channels), offset, axis)


def _group_norm(network: fx.GraphModule, node: Node) -> None:
    source, groups = node.args[0], int(node.args[1])
    gain, offset = ((*node.args, None, None)[index] for index in (2, 3))
    epsilon = float(node.args[4]) if len(node.args) > 4 else 1e-5
    shape = shape_of(source)
    channels, grouped = shape[1], source
    if groups > 1:
        parts = [-1, groups, channels // groups, *shape[2:]]
        grouped = call(network, node, aten.reshape.default, source, parts)
    over = list(range(1 if groups == 1 else 2, len(shape_of(grouped))))
    mean = call(network, node, aten.mean.dim, grouped, over, True)
    centred = call(network, node, aten.sub.Tensor, grouped, mean)
    squares = call(network, node, aten.mul.Tensor, centred, centred)
    variance = call(network, node, aten.mean.dim, squares, over, True)
    root = call(network, node, inverse_root, variance, epsilon)
    unit = call(network, node, aten.mul.Tensor, centred, root)
    if groups > 1:
        unit = call(network, node, aten.reshape.default, unit, [-1, *shape[1:]])
    replace(network, node, unit)
    scale, shift = (
        _parameter(network, part, channels, d) for part, d in ((gain, 1.0), (offset, 0.0))
    )
    scale_and_shift(network, unit, scale, shift, 1)


def unit_vectors(network: fx.GraphModule) -> None:
    """Write x / max(|x|, eps), as torch's `normalize` does, as one L2_NORMALIZATION."""
    for node in nodes_of(network.graph):
        if node.target is not aten.div.Tensor or not is_node(node.args[1]):
            continue
        source, axis = node.args[0], _norm_axis(node.args[1], node.args[0])
        if axis is None:
            continue
        rank = len(shape_of(node))
        if axis % rank == rank - 1:
            replace(network, node, call(network, node, l2_normalize, source))
            continue
        turned = call(network, node, aten.transpose.int, source, axis, -1)
        unit = call(network, node, l2_normalize, turned)
        replace(network, node, call(network, node, aten.transpose.int, unit, axis, -1))
    clean(network)


def _norm_axis(divisor: Node, source: Node) -> int | None:
    """The axis over which `divisor` is the Euclidean norm of `source`, kept as an axis; or None."""
    while divisor.target in (
        aten.expand_as.default,
        aten.expand.default,
        aten.clamp_min.default,
        aten.clamp.default,
    ):
        divisor = divisor.args[0]
    if divisor.target is not aten.linalg_vector_norm.default or divisor.args[0] is not source:
        return None
    order, axes, keep = (*divisor.args[1:], None, None, None)[:3]
    if float(2 if order is None else order) != 2 or axes is None or len(axes) != 1 or not keep:
        return None
    return int(axes[0])


def _response_norm(network: fx.GraphModule, node: Node) -> None:
    """Global response normalization (Woo et al. 2023, arXiv:2301.00808): the sum
    x + beta + gamma * (x * n).
    """
    beta, gamma, product = node.args[:3]
    found = _response(product) if beta.op == gamma.op == "get_attr" else None
    total = next(iter(node.users), None)
    if found is None or total is None or total.target is not aten.add.Tensor:
        raise UnsupportedNetwork(
            f"the op addcmul {where(node)} has no int8 rule",
            "take a student that `edgekd models` lists",
        )
    source, over, axis = found
    if len(node.users) != 1 or source not in total.args:
        raise UnsupportedNetwork(
            f"the response norm {where(node)} is no sum with its input, so it has no int8 rule",
            "take a student that `edgekd models` lists",
        )
    squares = call(network, node, aten.mul.Tensor, source, source)
    power = call(network, node, aten.mean.dim, squares, over, True)
    root = call(network, node, inverse_root, power, FLOOR**2)
    size = call(network, node, aten.mul.Tensor, power, root)
    mean = call(network, node, aten.mean.dim, size, [axis], True)
    share = call(network, node, aten.mul.Tensor, size, _inverse(network, node, mean))
    scale = held(network, gamma).double().reshape(-1)
    gate = pointwise_along(network, node, share, scale, torch.ones_like(scale), axis)
    gated = call(network, node, aten.mul.Tensor, source, gate)
    total.replace_all_uses_with(gated)
    network.graph.erase_node(total)
    offset = held(network, beta).double().reshape(-1)
    scale_and_shift(network, gated, torch.ones_like(offset), offset, axis)


def _response(product: Any) -> tuple[Node, list[int], int] | None:
    """(x, the axes of its norm, the channel axis) of x * n; None for another product."""
    if product.target is not aten.mul.Tensor:
        return None
    for source, share in (product.args, reversed(product.args)):
        if not is_node(share) or share.target is not aten.div.Tensor:
            continue
        norm = share.args[0]
        if norm.target is aten.linalg_vector_norm.default and norm.args[0] is source:
            rank = len(shape_of(source))
            over = [int(dim) % rank for dim in norm.args[2]]
            (axis,) = set(range(1, rank)) - set(over)
            return source, over, axis
    return None


def _inverse(network: fx.GraphModule, node: Node, positive: Node) -> Node:
    """1 / x of x >= 0, as the square of 1 / sqrt(x)."""
    root = call(network, node, inverse_root, positive, FLOOR)
    return call(network, node, aten.mul.Tensor, root, root)


def _quotient(network: fx.GraphModule, node: Node) -> None:
    """A / b as a * (1 / b). An addition of an epsilon to b is left out: the root has a floor."""
    above, below = node.args
    if below.op == "get_attr":
        return
    if below.target is aten.add.Tensor and isinstance(below.args[1], float):
        below = below.args[0]
    inverse = _inverse(network, node, below)
    replace(network, node, call(network, node, aten.mul.Tensor, above, inverse))
