"""Rewrites of a float aten graph into operators that TFLite's int8 kernels have.

Each rewrite keeps the function that the graph computes. There are files of their own for an affine
map per channel (`affine_rewrites`), attention (`attention_rewrites`), normalizations
(`norm_rewrites`), pools (`pooling_rewrites`) and views (`view_rewrites`). Here are the rest:

    silu            x * sigmoid(x): LOGISTIC and MUL, as TensorFlow writes swish
    prelu           with one slope for each channel of a map
    flatten         of a map beyond 1x1: in the file's order (height, width, channel), with the
                    columns of the next layer permuted
"""

from __future__ import annotations

import torch
from torch import fx

from edgekd.quantization.affine_rewrites import hard_sigmoids, lone_batch_norms, scalars
from edgekd.quantization.attention_rewrites import attention
from edgekd.quantization.graph_edits import call_like, constant, held, replace
from edgekd.quantization.graphs import (
    PERMUTATIONS,
    Node,
    clean,
    getattr_path,
    nodes_of,
    permutation,
    shape_of,
)
from edgekd.quantization.int8_functions import prelu
from edgekd.quantization.norm_rewrites import norms
from edgekd.quantization.pooling_rewrites import pools, sums
from edgekd.quantization.transposed_convolutions import write_crops
from edgekd.quantization.view_rewrites import views

aten = torch.ops.aten

# A flatten may stand before or behind these: the order of the elements does not matter to them.
ELEMENTWISE = frozenset(
    {
        aten.relu.default,
        aten.relu6.default,
        aten.hardtanh.default,
        aten.hardswish.default,
        aten.sigmoid.default,
        aten.gelu.default,
        aten.leaky_relu.default,
        aten.elu.default,
    }
)


def rewrite(network: fx.GraphModule) -> None:
    """Apply every rewrite, in the order that they need. Batch norms behind a layer are folded
    before.

    Raises UnsupportedNetwork, naming the module, where a form has no int8 equal.
    """
    attention(network)
    norms(network)
    sums(network)
    views(network)
    write_silu(network)
    write_prelu(network)
    lone_batch_norms(network)
    scalars(network)
    hard_sigmoids(network)
    pools(network)
    write_crops(network)
    flatten_as_stored(network)


def write_silu(network: fx.GraphModule) -> None:
    """Write silu(x) as x * sigmoid(x)."""
    for node in nodes_of(network.graph):
        if node.target is aten.silu.default:
            gate = call_like(network, node, aten.sigmoid.default, (node.args[0],))
            replace(network, node, call_like(network, node, aten.mul.Tensor, (node.args[0], gate)))
    clean(network)


def write_prelu(network: fx.GraphModule) -> None:
    """Write prelu with its slopes in the shape of a map's channels: [channels, 1, 1]."""
    for node in nodes_of(network.graph):
        if node.target is aten.prelu.default and len(shape_of(node)) >= 2:
            slope = held(network, node.args[1]).reshape(-1, *[1] * (len(shape_of(node)) - 2))
            slopes = constant(network, node, "slope", slope.clone())
            replace(network, node, call_like(network, node, prelu, (node.args[0], slopes)))
    clean(network)


def flatten_as_stored(network: fx.GraphModule) -> None:
    """Flatten [n, c, h, w] beyond 1x1 in the file's order (h, w, c), and permute the readers'
    weights.

    Where not only linear layers read the result, directly or through activations, the flatten stays
    as it is, and the file has a TRANSPOSE before it. A map that was permuted to (h, w, c) before is
    flattened in the file's order already.
    """
    for node in nodes_of(network.graph):
        if node.target not in (aten.flatten.using_ints, aten.reshape.default, aten.view.default):
            continue
        before, after = shape_of(node.args[0]), shape_of(node)
        if len(before) != 4 or len(after) != 2 or before[0] != 1 or before[2:] == [1, 1]:
            continue
        if _permuted_as_stored(node.args[0]):
            continue
        layers = _linear_readers(node)
        if layers is None:
            continue
        channels, height, width = before[1:]
        order = (
            torch.arange(channels * height * width)
            .reshape(channels, height, width)
            .permute(1, 2, 0)
            .reshape(-1)
        )
        for layer in layers:
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


def _permuted_as_stored(node: Node) -> bool:
    """Whether a tensor of four dimensions is a map whose axes were permuted to those of the file,
    by itself or before activations.
    """
    while node.target in ELEMENTWISE:
        node = node.args[0]
    return node.target in PERMUTATIONS and permutation(node) == [0, 2, 3, 1]


def _linear_readers(flat: Node) -> list[Node] | None:
    """The linear layers that read a flattened map; None where something else reads it, too."""
    layers: list[Node] = []
    pending = [flat]
    while pending:
        for user in pending.pop().users:
            if user.target is aten.linear.default and len(user.args[1].users) == 1:
                layers.append(user)
            elif user.target in ELEMENTWISE:
                pending.append(user)
            else:
                return None
    return layers
