"""Puts a network's resize in front of its graph, which then cuts and averages a frame."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from edgekd.core.frames import Frame
from edgekd.quantization.graphs import nodes_of

aten = torch.ops.aten

# The module that the new operators say they come from, which names their edges.
MODULE = "resize_inside"


def put_before(network: fx.GraphModule, frame: Frame) -> None:
    """Let the graph take frames [n, channels, height, width] in place of images, in place."""
    graph = network.graph
    image = next(node for node in nodes_of(graph) if node.op == "placeholder")
    readers = list(image.users)
    batch, channels = image.meta["val"].shape[:2]
    sides = [frame.height, frame.width]
    image.meta["val"] = torch.empty(batch, channels, *sides, device="meta")
    last = image

    def add(target: Any, *args: Any) -> None:
        nonlocal last
        with graph.inserting_after(last):
            node = graph.call_function(target, (last, *args))
        node.meta["val"] = torch.empty(batch, channels, *sides, device="meta")
        node.meta["nn_module_stack"] = {MODULE: (MODULE, nn.Module)}
        last = node

    for axis, start in enumerate((frame.top, frame.left)):
        if sides[axis] != frame.side:
            sides[axis] = frame.side
            add(aten.slice.Tensor, 2 + axis, start, start + frame.side)
    sides[:] = [frame.px, frame.px]
    add(aten.avg_pool2d.default, [frame.factor] * 2, [frame.factor] * 2)
    for reader in readers:
        reader.replace_input_with(image, last)
    network.graph.lint()
    network.recompile()
