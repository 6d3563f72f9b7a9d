"""Rewrites of a float aten graph into operators that TFLite's int8 kernels have.

Each rewrite keeps the function that the graph computes. Those of an affine map per channel
(scalars, batch norms, hard-sigmoid) are in `edgekd.quantization.affine_rewrites`.

    silu            x * sigmoid(x): LOGISTIC and MUL, as TensorFlow writes swish
    adaptive pool   to a size that divides the map: an average pool of equal windows
    average pool    a border that is counted: a PAD before it, since TFLite never counts its own
                    border
    split, chunk    slices; a slice of everything is dropped
    flatten         of a map beyond 1x1: in the file's order (height, width, channel), with the
                    columns of the next layer permuted
"""

from __future__ import annotations

import operator

import torch
from torch import fx, nn

from edgekd.core.errors import UnsupportedNetwork
from edgekd.quantization.affine_rewrites import (
    call_like,
    hard_sigmoids,
    lone_batch_norms,
    replace,
    scalars,
)
from edgekd.quantization.graphs import Node, clean, getattr_path, nodes_of, op_name, shape_of, where

aten = torch.ops.aten

# A flatten may stand before or behind these: the order of the elements does not matter to them.
ELEMENTWISE = frozenset(
    {
        aten.relu.default,
        aten.relu6.default,
        aten.hardtanh.default,
        aten.hardswish.default,
        aten.sigmoid.default,
    }
)


def rewrite(network: fx.GraphModule) -> None:
    """Apply every rewrite, in the order that they need. Batch norms behind a layer are folded
    before.

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


def drop_expands(network: fx.GraphModule) -> None:
    """Drop `expand` where only additions and products read it: those broadcast by themselves."""
    for node in nodes_of(network.graph):
        if node.target in (aten.expand.default, aten.expand_as.default) and all(
            user.target in (aten.add.Tensor, aten.mul.Tensor) for user in node.users
        ):
            replace(network, node, node.args[0])
    clean(network)


def split_into_slices(network: fx.GraphModule) -> None:
    """Write split, split_with_sizes and chunk as slices, and drop slices of the whole."""
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
            replace(
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
            replace(network, node, node.args[0])
    clean(network)


def _step(node: Node) -> int:
    return int(node.args[4]) if len(node.args) > 4 else 1


def write_silu(network: fx.GraphModule) -> None:
    """Write silu(x) as x * sigmoid(x)."""
    for node in nodes_of(network.graph):
        if node.target is aten.silu.default:
            gate = call_like(network, node, aten.sigmoid.default, (node.args[0],))
            replace(network, node, call_like(network, node, aten.mul.Tensor, (node.args[0], gate)))
    clean(network)


def even_windows(network: fx.GraphModule) -> None:
    """Write adaptive_avg_pool2d with equal windows as avg_pool2d.

    A global one is left to `folding.write_global_pooling`.
    """
    for node in nodes_of(network.graph):
        if node.target is not aten.adaptive_avg_pool2d.default or list(node.args[1]) == [1, 1]:
            continue
        source, sizes = node.args[0], shape_of(node.args[0])[2:]
        outputs = shape_of(node)[2:]
        if sizes == outputs:
            replace(network, node, source)
        elif all(size % out == 0 for size, out in zip(sizes, outputs, strict=True)):
            kernel = [size // out for size, out in zip(sizes, outputs, strict=True)]
            replace(
                network,
                node,
                call_like(network, node, aten.avg_pool2d.default, (source, kernel, kernel)),
            )
    clean(network)


def counted_borders(network: fx.GraphModule) -> None:
    """Write avg_pool2d that counts its border of zeros as a pad and a pool without a border."""
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
    """Flatten [n, c, h, w] beyond 1x1 in the file's order (h, w, c), and permute the readers'
    weights.

    The file would otherwise need a TRANSPOSE. Raises UnsupportedNetwork unless only linear layers
    read the result, directly or through activations.
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
        replace(network, node, call_like(network, node, aten.flatten.using_ints, (stored, 1)))
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
                    f"a map that is flattened {where(flat)} goes into {op_name(user)}, so its "
                    "order cannot be folded into weights",
                    "take a student that pools to 1x1 before it flattens",
                )
    return layers
