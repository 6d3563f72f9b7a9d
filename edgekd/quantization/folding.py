"""Folds batch norms and the input's normalization into layers, and writes pooling and softmax.

Every pass rewrites a graph in place and keeps the function that it computes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn

from edgekd.core.errors import UnsupportedNetwork
from edgekd.networks.module_paths import place
from edgekd.quantization.graphs import (
    CONVOLUTIONS,
    Node,
    clean,
    getattr_path,
    is_layer,
    module_of,
    nodes_of,
    op_name,
    output_of,
    shape_of,
    where,
)

aten = torch.ops.aten


def fold_batch_norms(network: fx.GraphModule) -> None:
    """Fold each batch norm into the convolution or linear layer before it.

    w' = w * gamma / sqrt(var + eps) and b' = (b - mean) * gamma / sqrt(var + eps) + beta, in
    float64. So int8 training trains the weights that the file holds. A batch norm that follows
    anything else stays: `edgekd.quantization.rewrites` makes it a layer.
    """
    graph = network.graph
    for node in nodes_of(graph):
        if node.target is not aten.batch_norm.default:
            continue
        layer = node.args[0]
        if not is_layer(layer) or len(layer.users) != 1 or len(layer.args[1].users) != 1:
            continue
        parameters: list[Any] = [
            None if arg is None else getattr_path(network, arg.target).detach().double()
            for arg in node.args[1:5]
        ]
        gamma, beta, mean, variance = parameters
        factor = (variance + float(node.args[7])).rsqrt()
        factor = factor if gamma is None else factor * gamma
        weight = getattr_path(network, layer.args[1].target)
        bias = bias_of(network, layer)
        old_bias = 0.0 if bias is None else bias.detach().double()
        new_bias = (old_bias - mean) * factor + (0.0 if beta is None else beta)
        with torch.no_grad():
            weight.copy_(
                (weight.double() * factor.reshape([-1] + [1] * (weight.ndim - 1))).to(weight.dtype)
            )
        set_bias(network, layer, new_bias.to(weight.dtype))
        layer.meta["val"] = node.meta["val"]
        node.replace_all_uses_with(layer)
        graph.erase_node(node)
    clean(network)


def bias_of(network: fx.GraphModule, layer: Node) -> Tensor | None:
    """The bias parameter of a convolution or linear node, float32 [out], or None."""
    bias = layer.args[2] if len(layer.args) > 2 else None
    return None if bias is None else getattr_path(network, bias.target)


def set_bias(network: fx.GraphModule, layer: Node, value: Tensor) -> None:
    """Give a convolution or linear node this bias, float32 [out].

    A new bias is stored beside the weight, as `<module of the weight>.bias`.
    """
    bias = layer.args[2] if len(layer.args) > 2 else None
    if bias is not None:
        with torch.no_grad():
            getattr_path(network, bias.target).copy_(value)
        return
    name = str(layer.args[1].target).rpartition(".")[0]
    name = f"{name}.bias" if name else "bias"
    place(network, name, nn.Parameter(value))
    with network.graph.inserting_before(layer):
        node = network.graph.get_attr(name)
    node.meta["val"] = value
    layer.args = (*layer.args[:2], node, *layer.args[3:])


def give_all_biases(network: fx.GraphModule) -> None:
    """Give every convolution and linear layer a bias: zeros where it has none.

    Every int8 layer of a .tflite has one.
    """
    for node in nodes_of(network.graph):
        if is_layer(node) and bias_of(network, node) is None:
            weight = getattr_path(network, node.args[1].target)
            set_bias(network, node, torch.zeros(weight.shape[0], dtype=weight.dtype))
    clean(network)


def fold_input(network: fx.GraphModule, gain: Tensor, offset: Tensor) -> None:
    """Fold the input's normalization into the first convolution.

    The network reads x_c = gain_c * x' + offset_c (`gain`, `offset`: float64 [channels]);
    afterwards it reads x'. This is exact inside the image. At a padded border the pad now means x'
    = 0, the pixel nearest to the mean, where the float network padded with the mean itself. Int8
    training starts after this, so it sees the graph that ships.

    Raises UnsupportedNetwork when the input goes into anything but convolutions (or pads before
    them).
    """
    if bool((gain == 1).all()) and bool((offset == 0).all()):
        return
    readers: list[Node] = []
    pending = [next(node for node in nodes_of(network.graph) if node.op == "placeholder")]
    while pending:
        for user in pending.pop().users:
            if not isinstance(user.meta.get("val"), Tensor):
                continue  # reads the batch size
            if user.target in (aten.pad.default, aten.constant_pad_nd.default):
                pending.append(user)
            elif user.target in CONVOLUTIONS:
                readers.append(user)
            else:
                raise UnsupportedNetwork(
                    f"the input goes into {op_name(user)} {where(user)}, so its normalization "
                    "cannot be folded",
                    "give mean = std = 0.5 for all channels in models/*.toml, or take a student "
                    "that starts with a convolution",
                )
    for layer in readers:
        weight = getattr_path(network, layer.args[1].target)
        groups = layer.args[6] if len(layer.args) > 6 else 1
        if groups != 1:
            raise UnsupportedNetwork(
                f"the first convolution, {module_of(layer)!r}, is grouped, so the input's "
                "normalization cannot be folded",
                "give mean = std = 0.5 for all channels in models/*.toml",
            )
        old = weight.detach().double()
        bias = bias_of(network, layer)
        shift = (old * offset.reshape(1, -1, 1, 1)).sum((1, 2, 3)) + (
            0.0 if bias is None else bias.detach().double()
        )
        with torch.no_grad():
            weight.copy_((old * gain.reshape(1, -1, 1, 1)).to(weight.dtype))
        set_bias(network, layer, shift.to(weight.dtype))
    clean(network)


def write_global_pooling(network: fx.GraphModule, form: str) -> None:
    """Write every mean over a whole map in one form.

    "mean" gives adaptive_avg_pool2d, "average_pool" an avg_pool2d over the map. A head written as
    `x.mean((2, 3))` would otherwise leave a TRANSPOSE and a RELU6 of its own in the file.
    """
    graph = network.graph
    for node in nodes_of(graph):
        if node.target is aten.mean.dim:
            source, dims = node.args[0], sorted(d % 4 for d in node.args[1])
            if len(shape_of(source)) != 4 or dims != [2, 3]:
                continue  # without an int8 rule: `refuse_unknown` names it
            keep = len(node.args) > 2 and bool(node.args[2])
        elif node.target is aten.adaptive_avg_pool2d.default and list(node.args[1]) == [1, 1]:
            source, keep = node.args[0], True
        else:
            continue
        height, width = shape_of(source)[2:]
        # Not by `mean`: for tensors without memory torch would import torch._dynamo (1.6 s).
        pooled = source.meta["val"].new_empty((*shape_of(source)[:2], 1, 1))
        with graph.inserting_before(node):
            if form == "mean":
                new = graph.call_function(aten.adaptive_avg_pool2d.default, (source, [1, 1]))
            else:
                new = graph.call_function(
                    aten.avg_pool2d.default, (source, [height, width], [1, 1])
                )
            new.meta = {**node.meta, "val": pooled}
            if not keep:
                flat = graph.call_function(aten.flatten.using_ints, (new, 1))
                flat.meta = {**node.meta}
                new = flat
        node.replace_all_uses_with(new)
        graph.erase_node(node)
    clean(network)


def append_softmax(network: fx.GraphModule) -> None:
    """End the graph in a softmax over the classes, unless it does already."""
    graph = network.graph
    output = output_of(graph)
    logits = output.args[0]
    if logits.target is aten.softmax.int:
        return
    with graph.inserting_before(output):
        node = graph.call_function(aten.softmax.int, (logits, -1))
        node.meta = {**logits.meta}
    output.args = (node,)
    clean(network)
