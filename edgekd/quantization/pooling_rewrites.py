"""Rewrites of pools into those that TFLite has.

adaptive pool   to a size that divides the map: an average pool of equal windows; to any other
size: each window by itself, one axis after the other
sum             a mean, times the number of elements
average pool    a border that is counted: a PAD before it, since TFLite never counts its own
"""

from __future__ import annotations

import math

import torch
from torch import fx, nn

from edgekd.quantization.graph_edits import call, call_like, replace
from edgekd.quantization.graphs import Node, clean, nodes_of, shape_of
from edgekd.quantization.reader_folding import scale_and_shift

aten = torch.ops.aten


def sums(network: fx.GraphModule) -> None:
    """Write a sum as a mean times the number of elements.

    TFLite's reference kernel of SUM does not rescale: its int8 results were off by 255 codes.
    """
    for node in nodes_of(network.graph):
        if node.target is not aten.sum.dim_IntList:
            continue
        shape = shape_of(node.args[0])
        keep = len(node.args) > 2 and bool(node.args[2])
        count = math.prod(shape[int(axis)] for axis in node.args[1])
        mean = call(network, node, aten.mean.dim, node.args[0], node.args[1], keep)
        replace(network, node, mean)
        axis = 1 if len(shape_of(mean)) == 4 else len(shape_of(mean)) - 1
        gain = torch.full((shape_of(mean)[axis],), float(count), dtype=torch.float64)
        scale_and_shift(network, mean, gain, torch.zeros_like(gain), axis)
    clean(network)


def pools(network: fx.GraphModule) -> None:
    """Apply the rewrites of this file."""
    even_windows(network)
    counted_borders(network)


def even_windows(network: fx.GraphModule) -> None:
    """Write adaptive_avg_pool2d as avg_pool2d.

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
        else:
            for axis, out in zip((2, 3), outputs, strict=True):
                source = _uneven_windows(network, node, source, axis, out)
            replace(network, node, source)
    clean(network)


def _uneven_windows(
    network: fx.GraphModule, node: Node, source: Node, axis: int, outputs: int
) -> Node:
    """Averages over `outputs` windows along one axis, which differ in size and overlap.

    Window i reads the elements from floor(i * size / outputs) to ceil((i + 1) * size / outputs).
    """
    size = shape_of(source)[axis]
    parts = []
    for index in range(outputs):
        start, end = index * size // outputs, -(-(index + 1) * size // outputs)
        part = source
        if (start, end) != (0, size):
            part = call(network, node, aten.slice.Tensor, source, axis, start, end)
        if end - start > 1:
            kernel = [end - start, 1] if axis == 2 else [1, end - start]
            part = call(network, node, aten.avg_pool2d.default, part, kernel, [1, 1])
        parts.append(part)
    if outputs == 1:
        return parts[0]
    return call(network, node, aten.cat.default, parts, axis)


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
