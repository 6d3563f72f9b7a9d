"""Takes out of a graph what it does to the pixels of its image before its first layer.

Many networks normalise inside: `(x - mean) / std` in a module's forward, or a rescaling that Keras
put before the first convolution. That is a gain and an offset for each channel. As part of the
input's normalisation they cost no operator, and the border of the image keeps its meaning.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx

from edgekd.quantization.affine_rewrites import line_of
from edgekd.quantization.graphs import (
    PERMUTATIONS,
    Node,
    clean,
    nodes_of,
    permutation,
    shape_of,
)

aten = torch.ops.aten


def take_out(network: fx.GraphModule) -> tuple[Tensor, Tensor] | None:
    """Remove the gain and the offset that a graph gives its image, and return them.

    Both are float64 [channels] in the order of the image's channels, with gain * x + offset what
    the rest of the graph reads. None, and nothing is removed, where there are none, or where a
    gain is not above zero.
    """
    image = next(node for node in nodes_of(network.graph) if node.op == "placeholder")
    channels, axis = shape_of(image)[1], 1
    gain = torch.ones(channels, dtype=torch.float64)
    offset = torch.zeros(channels, dtype=torch.float64)
    found: list[Node] = []
    node = image
    while (reader := _only_reader(node)) is not None:
        if reader.target in PERMUTATIONS:
            axis = permutation(reader).index(axis)
        else:
            line = line_of(network, reader, node, axis, channels)
            if line is None:
                break
            gain, offset = gain * line[0], offset * line[0] + line[1]
            found.append(reader)
        node = reader
    if not found or not bool((gain > 0).all()):
        return None
    for part in found:
        part.replace_all_uses_with(next(arg for arg in part.args if _computed(arg)))
        network.graph.erase_node(part)
    clean(network)
    return gain, offset


def _only_reader(node: Node) -> Node | None:
    """The one node that reads a tensor's values; None where there are several."""
    readers = [user for user in node.users if user.target is not aten.sym_size.int]
    return readers[0] if len(readers) == 1 and readers[0].op == "call_function" else None


def _computed(value: Any) -> bool:
    return isinstance(value, fx.Node) and value.op != "get_attr"
