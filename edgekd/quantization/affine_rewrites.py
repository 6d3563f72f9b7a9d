"""Rewrites of gain_c * x + offset_c per channel: a part of the layer before, or a layer of its own.

    scalars       an addition or a product with a number, or with one parameter for each channel
    batch norm    one that follows no layer: behind an addition, a concatenation or an activation
    hard-sigmoid  clamp(x/6 + 1/2, 0, 1)

Why hard-sigmoid takes this form: the layer's output is observed after the clamp, so its range lies
in [0, 1], zero is code -128, and int8 saturation is the clamp itself. Squeeze-excite is then MEAN,
CONV_2D, CONV_2D, MUL, which XNNPACK, NNAPI and the Edge TPU all take. TensorFlow's form, ADD(3)
RELU6 MUL(1/6), costs two more operators and two more roundings. LOGISTIC is another function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from edgekd.quantization.folding import bias_of, set_bias
from edgekd.quantization.graph_edits import call_like, held, layer_parameters, replace
from edgekd.quantization.graph_edits import constant as new_constant
from edgekd.quantization.graphs import (
    Node,
    clean,
    getattr_path,
    is_layer,
    nodes_of,
    shape_of,
)
from edgekd.quantization.reader_folding import pointwise_along

aten = torch.ops.aten

# Gain and offset of relu6(x + 3) / 6 = clamp(x/6 + 1/2, 0, 1) (Howard et al. 2019,
# arXiv:1905.02244).
HARD_SIGMOID = (1.0 / 6.0, 0.5)


def pointwise(
    network: fx.GraphModule, node: Node, source: Node, gain: Tensor, offset: Tensor
) -> Node:
    """A depthwise 1x1 convolution gain_c * x + offset_c before `node`.

    `gain`, `offset`: float64 [channels]. Its parameters are named after the node's module. Each
    int8 weight is 127 or -127 at a scale of its own, so no precision is lost.
    """
    channels = gain.numel()
    weight, bias = layer_parameters(
        network, node, gain.float().reshape(channels, 1, 1, 1), offset.float()
    )
    args = (source, weight, bias, [1, 1], [0, 0], [1, 1], channels)
    return call_like(network, node, aten.conv2d.default, args, source.meta["val"])


def own_layer(node: Node) -> bool:
    """Whether a node is a layer with one reader and a weight that no other layer reads."""
    return is_layer(node) and len(node.users) == 1 and len(node.args[1].users) == 1


def affine(network: fx.GraphModule, node: Node, source: Node, gain: Tensor, offset: Tensor) -> Node:
    """gain_c * x + offset_c, folded into the layer `source`, or else as a 1x1 depthwise
    convolution.

    `gain`, `offset`: float64 [channels]. The channels are axis 1 of a map [n, c, h, w], and else
    the last axis.
    """
    if own_layer(source):
        weight, bias = getattr_path(network, source.args[1].target), bias_of(network, source)
        old = 0.0 if bias is None else bias.detach().double()
        with torch.no_grad():
            weight.copy_(
                (weight.double() * gain.reshape([-1] + [1] * (weight.ndim - 1))).to(weight.dtype)
            )
        set_bias(network, source, (gain * old + offset).to(weight.dtype))
        return source
    if len(shape_of(source)) != 4:
        axis = len(shape_of(source)) - 1
        return pointwise_along(network, node, source, gain, offset, axis)
    return pointwise(network, node, source, gain, offset)


def batch_norm_line(network: fx.GraphModule, node: Node) -> tuple[Tensor, Tensor]:
    """Gain gamma / sqrt(var + eps) and offset beta - mean * gain of a batch norm, float64
    [channels].
    """
    gamma, beta, mean, variance = (
        None if arg is None else getattr_path(network, arg.target).detach().double()
        for arg in node.args[1:5]
    )
    assert variance is not None
    assert mean is not None
    gain = (variance + float(node.args[7])).rsqrt() * (1.0 if gamma is None else gamma)
    return gain, -mean * gain + (0.0 if beta is None else beta)


def lone_batch_norms(network: fx.GraphModule) -> None:
    """Batch norms that follow no layer."""
    for node in nodes_of(network.graph):
        if node.target is not aten.batch_norm.default:
            continue
        gain, offset = batch_norm_line(network, node)
        if len(shape_of(node)) == 4:
            line = pointwise(network, node, node.args[0], gain, offset)
        else:
            line = pointwise_along(network, node, node.args[0], gain, offset, 1)
        replace(network, node, line)
    clean(network)


# Operator with a constant c -> (gain, offset) of y = gain * x + offset.
AFFINE: dict[Any, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    aten.add.Tensor: lambda c: (torch.ones_like(c), c),
    aten.sub.Tensor: lambda c: (torch.ones_like(c), -c),
    aten.mul.Tensor: lambda c: (c, torch.zeros_like(c)),
    aten.div.Tensor: lambda c: (1.0 / c, torch.zeros_like(c)),
}


def line_of(
    network: fx.GraphModule, node: Node, source: Node, axis: int, channels: int
) -> tuple[Tensor, Tensor] | None:
    """Gain and offset, float64 [channels], of an operator that is a line of `source` in each
    channel; None where it is none. `axis`: that of the channels.
    """
    if node.target is aten.batch_norm.default and axis == 1:
        return batch_norm_line(network, node)
    if node.target not in AFFINE or node.kwargs or len(node.args) != 2:
        return None
    first, second = node.args
    if second is source and node.target in (aten.add.Tensor, aten.mul.Tensor):
        second = first
    elif first is not source:
        return None
    constant = _along(network, second, len(shape_of(node)), axis, channels)
    return None if constant is None else AFFINE[node.target](constant)


def _along(
    network: fx.GraphModule, value: Any, rank: int, axis: int, channels: int
) -> Tensor | None:
    """A number, or a stored tensor that differs along one axis alone, as float64 [channels]."""
    if isinstance(value, (int, float)):
        return torch.full((channels,), float(value), dtype=torch.float64)
    if not (isinstance(value, fx.Node) and value.op == "get_attr"):
        return None
    stored = held(network, value).double()
    full = stored.reshape([1] * (rank - stored.ndim) + list(stored.shape))
    if any(size != 1 for place, size in enumerate(full.shape) if place != axis):
        return None
    return full.reshape(-1).expand(channels).clone()


def scalars(network: fx.GraphModule) -> None:
    """Additions and products with a number, or with a parameter for each channel (layer scale).

    Others become operators with a constant operand: TFLite's ADD and MUL have such.
    """
    for node in nodes_of(network.graph):
        if node.target not in AFFINE or node.kwargs or len(node.args) != 2:
            continue
        first, second = node.args
        if node.target in (aten.add.Tensor, aten.mul.Tensor) and not _varies(first):
            first, second = second, first
        if not _varies(first):
            _subtracted(network, node)
            continue
        constant = _constant(network, second, node, first)
        if constant is not None:
            gain, offset = AFFINE[node.target](constant)
            replace(network, node, affine(network, node, first, gain, offset))
        elif node.target is aten.div.Tensor and not _varies(second):
            inverse = 1.0 / held(network, second)
            node.target = aten.mul.Tensor
            node.args = (first, new_constant(network, node, "inverse", inverse))
    clean(network)


def _subtracted(network: fx.GraphModule, node: Node) -> None:
    """C - x as (-1) * x + c, where c is a number."""
    first, second = node.args
    if node.target is not aten.sub.Tensor or not isinstance(first, (int, float)):
        return
    channels = _channels(second) if len(shape_of(second)) == 4 else shape_of(second)[-1]
    gain, offset = (
        torch.full((channels,), value, dtype=torch.float64) for value in (-1.0, float(first))
    )
    replace(network, node, affine(network, node, second, gain, offset))


def _varies(value: Any) -> bool:
    return isinstance(value, fx.Node) and value.op != "get_attr"


def _constant(network: fx.GraphModule, value: Any, node: Node, source: Node) -> Tensor | None:
    """A number, or a parameter that is constant within each channel, as float64 [channels]; else
    None.
    """
    shape = shape_of(node)
    axis = 1 if len(shape) == 4 and source.target is not aten.linear.default else len(shape) - 1
    if isinstance(value, (int, float)) and len(shape) >= 2:
        return torch.full((shape[axis],), float(value), dtype=torch.float64)
    if not (isinstance(value, fx.Node) and value.op == "get_attr") or len(shape) < 2:
        return None
    constant = held(network, value).double()
    full = constant.reshape([1] * (len(shape) - constant.ndim) + list(constant.shape))
    if full.ndim != len(shape) or any(
        size != 1 for index, size in enumerate(full.shape) if index != axis
    ):
        return None
    if shape_of(source) != shape:
        return None  # the constant widens the tensor
    return full.reshape(-1).expand(shape[axis]).clone()


def _channels(node: Node) -> int:
    return shape_of(node)[1]


def hard_sigmoids(network: fx.GraphModule) -> None:
    """hard-sigmoid: x/6 + 1/2 in the layer before, then a clamp to [0, 1].

    int8 saturation is that clamp.
    """
    for node in nodes_of(network.graph):
        if node.target is aten.hardsigmoid.default:
            source = node.args[0]
            gain, offset = (
                torch.full((_channels(source),), value, dtype=torch.float64)
                for value in HARD_SIGMOID
            )
            line = affine(network, node, source, gain, offset)
            replace(
                network, node, call_like(network, node, aten.hardtanh.default, (line, 0.0, 1.0))
            )
    clean(network)
