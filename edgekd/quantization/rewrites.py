"""Rewrites of a float aten graph into ops that TFLite's int8 kernels have. Each keeps the function the graph computes.

    silu            x * sigmoid(x): LOGISTIC and MUL, as TensorFlow writes swish
    scalars         x * a + b per channel joins the layer before it, or becomes a 1x1 depthwise convolution
    batch norm      after an addition, a concatenation or an activation: a 1x1 depthwise convolution
    hard-sigmoid    clamp(x/6 + 1/2, 0, 1): x/6 + 1/2 joins the layer before; the clamp is the saturation of int8
    adaptive pool   to a size that divides the map: an average pool of equal windows; to the map's own size: nothing
    average pool    a counted border is a PAD before it (TFLite's own border is never counted)
    split, chunk    slices; a slice of everything is nothing
    flatten         of a map beyond 1x1: in the file's order (height, width, channel), the next layer's columns permuted

Why hard-sigmoid takes this form: the layer's output is observed after the clamp, so its range lies in [0, 1], zero is
code -128, and int8 saturation is the clamp itself. Squeeze-excite is then MEAN, CONV_2D, CONV_2D, MUL: ops that XNNPACK,
NNAPI and the Edge TPU all take. TensorFlow's own form, ADD(3) RELU6 MUL(1/6), costs two more ops and two more roundings;
LOGISTIC is another function.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from edgekd.core.errors import UnsupportedNetwork
from edgekd.quantization.graphs import (
    CONVOLUTIONS,
    Node,
    bias_of,
    clean,
    getattr_path,
    module_of,
    nodes_of,
    place,
    set_bias,
    shape_of,
    where,
)

aten = torch.ops.aten

HARD_SIGMOID = (
    1.0 / 6.0,
    0.5,
)  # relu6(x + 3) / 6 = clamp(x/6 + 1/2, 0, 1) (Howard et al. 2019, arXiv:1905.02244)
ELEMENTWISE = frozenset(
    {  # ops that a flatten may stand before or behind: they ask for no order of the elements
        aten.relu.default,
        aten.relu6.default,
        aten.hardtanh.default,
        aten.hardswish.default,
        aten.sigmoid.default,
    }
)


def rewrite(network: fx.GraphModule) -> None:
    """Every rewrite of this module, in the order they need: batch norms that follow a layer are folded before.

    Raises UnsupportedNetwork, naming the module, where a form has no int8 equal.
    """
    drop_expands(network)
    split_into_slices(network)
    write_silu(network)
    lone_batch_norms(network)
    scalars(network)
    hard_sigmoids(network)
    even_windows(network)
    counted_borders(network)
    flatten_as_stored(network)


def call_like(
    network: fx.GraphModule, node: Node, target: Any, args: tuple[Any, ...], value: Any = None
) -> Node:
    """A new call before `node`, of the same module; `value`: its meta value (default: the node's own)."""
    with network.graph.inserting_before(node):
        new = network.graph.call_function(target, args)
    new.meta = {**node.meta, "val": node.meta["val"] if value is None else value}
    return new


def pointwise(
    network: fx.GraphModule, node: Node, source: Node, gain: Tensor, offset: Tensor
) -> Node:
    """A depthwise 1x1 convolution gain_c * x + offset_c before `node`; its parameters take the name of the node's module.

    `gain`, `offset`: float64 [channels]. Its int8 weights are +-127 each at a scale of their own: no precision is lost.
    """
    channels = gain.numel()
    stem = f"{module_of(node)}.affine" if module_of(node) else "affine"
    name, count = stem, 1
    while hasattr(network, f"{name}.weight") or _has(network, name):
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


def _has(network: fx.GraphModule, path: str) -> bool:
    try:
        getattr_path(network, path)
    except AttributeError:
        return False
    return True


def own_layer(node: Node) -> bool:
    """Whether a node is a convolution or linear layer that nothing else reads and that shares no weight."""
    return (
        (node.target in CONVOLUTIONS or node.target is aten.linear.default)
        and len(node.users) == 1
        and len(node.args[1].users) == 1
    )


def affine(network: fx.GraphModule, node: Node, source: Node, gain: Tensor, offset: Tensor) -> Node:
    """gain_c * x + offset_c: folded into the layer `source` where it is one, else a 1x1 depthwise convolution.

    `gain`, `offset`: float64 [channels]. Raises UnsupportedNetwork for a tensor that is no map and no layer's output.
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
            f"the op {node.target} {where(node)} follows neither a layer of its own nor a map, so it has no int8 rule",
            "take a student of the models that `edgekd models` lists",
        )
    return pointwise(network, node, source, gain, offset)


def _channels(node: Node) -> int:
    return shape_of(node)[1]


def _replace(network: fx.GraphModule, node: Node, new: Node) -> None:
    node.replace_all_uses_with(new)
    network.graph.erase_node(node)


def drop_expands(network: fx.GraphModule) -> None:
    """`expand` before an addition or a product only: those broadcast by themselves."""
    for node in nodes_of(network.graph):
        if node.target in (aten.expand.default, aten.expand_as.default) and all(
            user.target in (aten.add.Tensor, aten.mul.Tensor) for user in node.users
        ):
            _replace(network, node, node.args[0])
    clean(network)


def split_into_slices(network: fx.GraphModule) -> None:
    """split, split_with_sizes and chunk become slices; slices of the whole are dropped."""
    for node in nodes_of(network.graph):
        if node.target is operator.getitem and node.args[0].target in (
            aten.split.Tensor,
            aten.split_with_sizes.default,
            aten.chunk.default,
        ):
            part, index = node.args
            axis = int(part.args[2]) if len(part.args) > 2 else 0
            sizes = [int(value.shape[axis]) for value in part.meta["val"]]
            start = sum(sizes[:index])
            _replace(
                network,
                node,
                call_like(
                    network,
                    node,
                    aten.slice.Tensor,
                    (part.args[0], axis, start, start + sizes[index]),
                ),
            )
    for node in nodes_of(network.graph):
        if (
            node.target is aten.slice.Tensor
            and shape_of(node) == shape_of(node.args[0])
            and _step(node) == 1
        ):
            _replace(network, node, node.args[0])
    clean(network)


def _step(node: Node) -> int:
    return int(node.args[4]) if len(node.args) > 4 else 1


def write_silu(network: fx.GraphModule) -> None:
    """silu(x) = x * sigmoid(x)."""
    for node in nodes_of(network.graph):
        if node.target is aten.silu.default:
            gate = call_like(network, node, aten.sigmoid.default, (node.args[0],))
            _replace(network, node, call_like(network, node, aten.mul.Tensor, (node.args[0], gate)))
    clean(network)


def lone_batch_norms(network: fx.GraphModule) -> None:
    """Batch norms that follow no layer of their own: gamma / sqrt(var + eps) and beta - mean * gain, per channel."""
    for node in nodes_of(network.graph):
        if node.target is not aten.batch_norm.default:
            continue
        gamma, beta, mean, variance = (
            None if arg is None else getattr_path(network, arg.target).detach().double()
            for arg in node.args[1:5]
        )
        if len(shape_of(node)) != 4:
            raise UnsupportedNetwork(
                f"the batch norm {where(node)} follows neither a layer of its own nor a map, so it has no int8 rule",
                "take a student whose batch norms directly follow convolutions",
            )
        assert variance is not None
        assert mean is not None
        gain = (variance + float(node.args[7])).rsqrt() * (1.0 if gamma is None else gamma)
        offset = -mean * gain + (0.0 if beta is None else beta)
        _replace(network, node, pointwise(network, node, node.args[0], gain, offset))
    clean(network)


# op -> (gain, offset) of y = gain * x + offset, from the constant c
AFFINE: dict[Any, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    aten.add.Tensor: lambda c: (torch.ones_like(c), c),
    aten.sub.Tensor: lambda c: (torch.ones_like(c), -c),
    aten.mul.Tensor: lambda c: (c, torch.zeros_like(c)),
    aten.div.Tensor: lambda c: (1.0 / c, torch.zeros_like(c)),
}


def scalars(network: fx.GraphModule) -> None:
    """Additions and products with a number, or with one parameter a channel (layer scale)."""
    for node in nodes_of(network.graph):
        if node.target not in AFFINE or node.kwargs or len(node.args) != 2:
            continue
        first, second = node.args
        if node.target in (aten.add.Tensor, aten.mul.Tensor) and not _varies(first):
            first, second = second, first
        constant = _constant(network, second, node)
        if _varies(first) and constant is not None:
            gain, offset = AFFINE[node.target](constant)
            _replace(network, node, affine(network, node, first, gain, offset))
    clean(network)


def _varies(value: Any) -> bool:
    return isinstance(value, fx.Node) and value.op != "get_attr"


def _constant(network: fx.GraphModule, value: Any, node: Node) -> Tensor | None:
    """float64 [channels] of a number or of a parameter that is constant within a channel, else None."""
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


def hard_sigmoids(network: fx.GraphModule) -> None:
    """hard-sigmoid: x/6 + 1/2 in the layer before, then a clamp to [0, 1] that int8 saturation carries out."""
    for node in nodes_of(network.graph):
        if node.target is aten.hardsigmoid.default:
            source = node.args[0]
            gain, offset = (
                torch.full((_channels(source),), value, dtype=torch.float64)
                for value in HARD_SIGMOID
            )
            line = affine(network, node, source, gain, offset)
            _replace(
                network, node, call_like(network, node, aten.hardtanh.default, (line, 0.0, 1.0))
            )
    clean(network)


def even_windows(network: fx.GraphModule) -> None:
    """adaptive_avg_pool2d whose windows are all alike; a global one is left to `graphs.write_global_pooling`."""
    for node in nodes_of(network.graph):
        if node.target is not aten.adaptive_avg_pool2d.default or list(node.args[1]) == [1, 1]:
            continue
        source, sizes = node.args[0], shape_of(node.args[0])[2:]
        outputs = shape_of(node)[2:]
        if sizes == outputs:
            _replace(network, node, source)
        elif all(size % out == 0 for size, out in zip(sizes, outputs, strict=True)):
            kernel = [size // out for size, out in zip(sizes, outputs, strict=True)]
            _replace(
                network,
                node,
                call_like(network, node, aten.avg_pool2d.default, (source, kernel, kernel)),
            )
    clean(network)


def counted_borders(network: fx.GraphModule) -> None:
    """avg_pool2d that counts its zero border: a pad, and a pool without one."""
    for node in nodes_of(network.graph):
        if node.target is not aten.avg_pool2d.default or len(node.args) < 4:
            continue
        pads = [
            int(value)
            for value in (
                node.args[3] if isinstance(node.args[3], (list, tuple)) else [node.args[3]] * 2
            )
        ]
        pads = pads * 2 if len(pads) == 1 else pads
        counted = len(node.args) <= 5 or bool(node.args[5])
        if not any(pads) or not counted:
            continue
        source = node.args[0]
        amounts = [pads[1], pads[1], pads[0], pads[0]]
        padded = call_like(
            network,
            node,
            aten.constant_pad_nd.default,
            (source, amounts, 0.0),
            nn.functional.pad(source.meta["val"], amounts),
        )
        node.args = (padded, *node.args[1:3], [0, 0], *node.args[4:])
    clean(network)


def flatten_as_stored(network: fx.GraphModule) -> None:
    """Flattening [n, c, h, w] beyond 1x1: the elements in the file's order (h, w, c), the readers' weights permuted.

    Without it the file would need a TRANSPOSE. Raises UnsupportedNetwork unless linear layers read the result, perhaps
    through activations.
    """
    for node in nodes_of(network.graph):
        if node.target not in (aten.flatten.using_ints, aten.reshape.default, aten.view.default):
            continue
        before, after = shape_of(node.args[0]), shape_of(node)
        if len(before) != 4 or len(after) != 2 or before[2:] == [1, 1]:
            continue
        channels, height, width = before[1:]
        order = (
            torch.arange(channels * height * width)
            .reshape(channels, height, width)
            .permute(1, 2, 0)
            .reshape(-1)
        )
        for layer in _linear_readers(node):
            weight = getattr_path(network, layer.args[1].target)
            with torch.no_grad():
                weight.copy_(weight[:, order].clone())
        stored = call_like(
            network,
            node,
            aten.permute.default,
            (node.args[0], [0, 2, 3, 1]),
            node.args[0].meta["val"].permute(0, 2, 3, 1),
        )
        _replace(network, node, call_like(network, node, aten.flatten.using_ints, (stored, 1)))
    clean(network)


def _linear_readers(flat: Node) -> list[Node]:
    layers: list[Node] = []
    pending = [flat]
    while pending:
        for user in pending.pop().users:
            if user.target is aten.linear.default and len(user.args[1].users) == 1:
                layers.append(user)
            elif user.target in ELEMENTWISE:
                pending.append(user)
            else:
                raise UnsupportedNetwork(
                    f"a map flattened {where(flat)} goes into {user.target}, so that its order cannot be "
                    "folded into weights",
                    "take a student that pools to 1x1 before it flattens",
                )
    return layers
