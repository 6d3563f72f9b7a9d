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
from torch import Tensor, fx, nn

from edgekd.core.errors import UnsupportedNetwork
from edgekd.quantization.folding import bias_of, set_bias
from edgekd.quantization.graphs import (
    Node,
    clean,
    getattr_path,
    has_path,
    is_layer,
    module_of,
    nodes_of,
    op_name,
    place,
    shape_of,
    where,
)

aten = torch.ops.aten

# Gain and offset of relu6(x + 3) / 6 = clamp(x/6 + 1/2, 0, 1) (Howard et al. 2019,
# arXiv:1905.02244).
HARD_SIGMOID = (1.0 / 6.0, 0.5)


def call_like(
    network: fx.GraphModule, node: Node, target: Any, args: tuple[Any, ...], value: Any = None
) -> Node:
    """A new call before `node`, in its module. `value`: its meta value, by default `node`'s."""
    with network.graph.inserting_before(node):
        new = network.graph.call_function(target, args)
    new.meta = {**node.meta, "val": node.meta["val"] if value is None else value}
    return new


def pointwise(
    network: fx.GraphModule, node: Node, source: Node, gain: Tensor, offset: Tensor
) -> Node:
    """A depthwise 1x1 convolution gain_c * x + offset_c before `node`.

    `gain`, `offset`: float64 [channels]. Its parameters are named after the node's module. Each
    int8 weight is 127 or -127 at a scale of its own, so no precision is lost.
    """
    channels = gain.numel()
    stem = f"{module_of(node)}.affine" if module_of(node) else "affine"
    name, count = stem, 1
    while has_path(network, name):
        count += 1
        name = f"{stem}{count}"
    place(network, f"{name}.weight", nn.Parameter(gain.float().reshape(channels, 1, 1, 1)))
    place(network, f"{name}.bias", nn.Parameter(offset.float()))
    with network.graph.inserting_before(node):
        weight, bias = (network.graph.get_attr(f"{name}.{part}") for part in ("weight", "bias"))
    weight.meta["val"], bias.meta["val"] = (
        getattr_path(network, f"{name}.{part}") for part in ("weight", "bias")
    )
    args = (source, weight, bias, [1, 1], [0, 0], [1, 1], channels)
    return call_like(network, node, aten.conv2d.default, args, source.meta["val"])


def own_layer(node: Node) -> bool:
    """Whether a node is a layer with one reader and a weight that no other layer reads."""
    return is_layer(node) and len(node.users) == 1 and len(node.args[1].users) == 1


def affine(network: fx.GraphModule, node: Node, source: Node, gain: Tensor, offset: Tensor) -> Node:
    """gain_c * x + offset_c, folded into the layer `source`, or else as a 1x1 depthwise
    convolution.

    `gain`, `offset`: float64 [channels]. Raises UnsupportedNetwork where `source` is neither a
    layer nor a map [n, c, h, w].
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
        raise UnsupportedNetwork(
            f"the op {op_name(node)} {where(node)} follows neither a layer of its own nor a map, "
            "so it has no int8 rule",
            "take a student of the models that `edgekd models` lists",
        )
    return pointwise(network, node, source, gain, offset)


def replace(network: fx.GraphModule, node: Node, new: Node) -> None:
    """Let the readers of `node` read `new`, and erase `node`."""
    node.replace_all_uses_with(new)
    network.graph.erase_node(node)


def lone_batch_norms(network: fx.GraphModule) -> None:
    """Batch norms that follow no layer: gain gamma / sqrt(var + eps), offset beta - mean * gain."""
    for node in nodes_of(network.graph):
        if node.target is not aten.batch_norm.default:
            continue
        gamma, beta, mean, variance = (
            None if arg is None else getattr_path(network, arg.target).detach().double()
            for arg in node.args[1:5]
        )
        if len(shape_of(node)) != 4:
            raise UnsupportedNetwork(
                f"the batch norm {where(node)} follows neither a layer of its own nor a map, so it "
                "has no int8 rule",
                "take a student whose batch norms directly follow convolutions",
            )
        assert variance is not None
        assert mean is not None
        gain = (variance + float(node.args[7])).rsqrt() * (1.0 if gamma is None else gamma)
        offset = -mean * gain + (0.0 if beta is None else beta)
        replace(network, node, pointwise(network, node, node.args[0], gain, offset))
    clean(network)


# Operator with a constant c -> (gain, offset) of y = gain * x + offset.
AFFINE: dict[Any, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    aten.add.Tensor: lambda c: (torch.ones_like(c), c),
    aten.sub.Tensor: lambda c: (torch.ones_like(c), -c),
    aten.mul.Tensor: lambda c: (c, torch.zeros_like(c)),
    aten.div.Tensor: lambda c: (1.0 / c, torch.zeros_like(c)),
}


def scalars(network: fx.GraphModule) -> None:
    """Additions and products with a number, or with a parameter for each channel (layer scale)."""
    for node in nodes_of(network.graph):
        if node.target not in AFFINE or node.kwargs or len(node.args) != 2:
            continue
        first, second = node.args
        if node.target in (aten.add.Tensor, aten.mul.Tensor) and not _varies(first):
            first, second = second, first
        constant = _constant(network, second, node)
        if _varies(first) and constant is not None:
            gain, offset = AFFINE[node.target](constant)
            replace(network, node, affine(network, node, first, gain, offset))
    clean(network)


def _varies(value: Any) -> bool:
    return isinstance(value, fx.Node) and value.op != "get_attr"


def _constant(network: fx.GraphModule, value: Any, node: Node) -> Tensor | None:
    """A number, or a parameter that is constant within each channel, as float64 [channels]; else
    None.
    """
    shape = shape_of(node)
    if isinstance(value, (int, float)) and len(shape) >= 2:
        return torch.full((shape[1],), float(value), dtype=torch.float64)
    if not (isinstance(value, fx.Node) and value.op == "get_attr") or len(shape) < 2:
        return None
    held = getattr_path(network, str(value.target)).detach().double()
    full = held.reshape([1] * (len(shape) - held.ndim) + list(held.shape))
    if full.ndim != len(shape) or any(
        size != 1 for axis, size in enumerate(full.shape) if axis != 1
    ):
        return None
    return full.reshape(-1).expand(shape[1]).clone()


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
