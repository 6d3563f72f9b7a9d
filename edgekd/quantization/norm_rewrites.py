"""Normalizations as TFLite's int8 operators.

    layer norm, RMS norm   (x - MEAN) through L2_NORMALIZATION, times sqrt(channels)
    group norm             d = x - MEAN, and d * RSQRT(MEAN(d * d))
    L2 normalization       L2_NORMALIZATION
    GRN                    see `response_norms`
    quotients              a / b = a * RSQRT(b)^2, of b >= 0
    roots                  sqrt(b) = b * RSQRT(b)

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

import torch
from torch import Tensor, fx

from edgekd.core.errors import UnsupportedNetwork
from edgekd.quantization.graph_edits import call, held, replace
from edgekd.quantization.graphs import Node, clean, is_node, nodes_of, shape_of, where
from edgekd.quantization.int8_functions import inverse_root, l2_normalize
from edgekd.quantization.reader_folding import scale_and_shift
from edgekd.quantization.response_norms import response_norms

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
    response_norms(network)
    for node in nodes_of(network.graph):
        if node.target is aten.div.Tensor and is_node(node.args[1]):
            _quotient(network, node)
    clean(network)
    roots(network)


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


def roots(network: fx.GraphModule) -> None:
    """Write the Euclidean norms, roots and inverse roots that are left, all of values >= 0.

    sqrt(x) is x * RSQRT(x). An epsilon that is added to x becomes the floor of the root.
    """
    for node in nodes_of(network.graph):
        if node.target is aten.linalg_vector_norm.default and node.args[1] in (None, 2):
            _norm(network, node)
        elif node.target in (aten.sqrt.default, aten.rsqrt.default):
            source, floor = _without_epsilon(node.args[0])
            root = call(network, node, inverse_root, source, floor)
            if node.target is aten.sqrt.default:
                root = call(network, node, aten.mul.Tensor, source, root)
            replace(network, node, root)
    clean(network)


def _norm(network: fx.GraphModule, node: Node) -> None:
    source, axes = node.args[0], list(node.args[2])
    keep = len(node.args) > 3 and bool(node.args[3])
    squares = call(network, node, aten.mul.Tensor, source, source)
    mean = call(network, node, aten.mean.dim, squares, axes, keep)
    root = call(network, node, inverse_root, mean, FLOOR**2)
    size = call(network, node, aten.mul.Tensor, mean, root)
    count = math.prod(shape_of(source)[axis] for axis in axes)
    replace(network, node, call(network, node, aten.mul.Tensor, size, math.sqrt(count)))


def _without_epsilon(node: Node) -> tuple[Node, float]:
    """(x, epsilon) of x + epsilon; (x, FLOOR) of another x."""
    if node.target is aten.add.Tensor and isinstance(node.args[1], float) and not node.kwargs:
        return node.args[0], float(node.args[1])
    return node, FLOOR


def _inverse(network: fx.GraphModule, node: Node, positive: Node) -> Node:
    """1 / x of x >= 0, as the square of 1 / sqrt(x)."""
    root = call(network, node, inverse_root, positive, FLOOR)
    return call(network, node, aten.mul.Tensor, root, root)


def _quotient(network: fx.GraphModule, node: Node) -> None:
    """A / b as a * (1 / b). An addition of an epsilon to b is left out: the root has a floor."""
    above, below = node.args
    if below.op == "get_attr":
        return
    below, _ = _without_epsilon(below)
    inverse = _inverse(network, node, below)
    replace(network, node, call(network, node, aten.mul.Tensor, above, inverse))
