"""Puts a network's resize in front of its graph, which then cuts and reduces a frame.

Each filter is a layer, a depthwise convolution whose weights are given on their int8 grid. The
first and the last place have filters of their own, so each pass joins three parts.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from edgekd.core.frames import Filter, Frame
from edgekd.networks.module_paths import place
from edgekd.quantization.fakequant_placement import WEIGHT_STEP
from edgekd.quantization.graphs import Node, nodes_of
from edgekd.tflite.int8_rules import Range

aten = torch.ops.aten

# The module that the new operators and layers say they come from, which names them.
MODULE = "resize_inside"
ROWS, COLUMNS = 2, 3  # axes of a map [n, channels, height, width]


def is_given(layer: str) -> bool:
    """Whether a layer's weights come from the frame, and not from training."""
    return layer.startswith(f"{MODULE}.")


def put_before(network: fx.GraphModule, frame: Frame, grid: Range) -> None:
    """Let the graph take frames [n, channels, height, width] in place of images, in place.

    `grid`: the range of the pixels (`int8_rules.input_range`), which the reduced ones share.
    """
    image = next(node for node in nodes_of(network.graph) if node.op == "placeholder")
    readers = list(image.users)
    batch, channels = image.meta["val"].shape[:2]
    image.meta["val"] = torch.empty(batch, channels, *frame.sides, device="meta")
    added = _Added(network, frame, grid, image)
    last = image
    for axis, start in ((ROWS, frame.top), (COLUMNS, frame.left)):
        if frame.sides[axis - ROWS] != frame.side:
            last = added.slice(last, axis, start, start + frame.side)
    for axis in (COLUMNS, ROWS):  # Pillow shortens the rows first
        last = added.reduced(last, axis)
    for reader in readers:
        reader.replace_input_with(image, last)
    network.graph.lint()
    network.recompile()


class _Added:
    """Adds nodes behind the image of a graph, each behind the one before."""

    def __init__(self, network: fx.GraphModule, frame: Frame, grid: Range, image: Node) -> None:
        self.network, self.frame, self.grid, self.last = network, frame, grid, image

    def reduced(self, source: Node, axis: int) -> Node:
        """A map of `frame.side` places along an axis, reduced to `frame.px`."""
        frame, side = self.frame, self.frame.side
        first, last = frame.first_filter, frame.last_filter
        name = "width" if axis == COLUMNS else "height"
        # With a border of zeros, so that a convolution reads the map as it is. Its first and last
        # place are wrong then, and left out.
        whole = self._layer(source, axis, name, frame.filter, frame.factor, frame.outside)
        head = self.slice(source, axis, 0, len(first.weights))
        tail = self.slice(source, axis, side - len(last.weights), side)
        parts = [
            self._layer(head, axis, f"{name}_first", first),
            self.slice(whole, axis, 1, frame.px - 1),
            self._layer(tail, axis, f"{name}_last", last),
        ]
        return self._call(aten.cat.default, parts, axis)

    def slice(self, source: Node, axis: int, start: int, end: int) -> Node:
        """The places `start` to `end` along an axis."""
        return self._call(aten.slice.Tensor, source, axis, start, end)

    def _layer(
        self, source: Node, axis: int, name: str, by: Filter, stride: int = 1, pad: int = 0
    ) -> Node:
        """A filter along an axis, as a depthwise convolution."""
        channels = source.meta["val"].shape[1]
        step = 1 / by.divisor
        codes = torch.tensor(by.codes, dtype=torch.float64)
        shape = [1, 1, -1, 1] if axis == ROWS else [1, 1, 1, -1]
        weight = (codes * step).float().reshape(shape).repeat(channels, 1, 1, 1)
        bias = torch.full([channels], by.nudge * step * self.grid.scale)
        along = [
            [value, other][:: 1 if axis == ROWS else -1] for value, other in ((stride, 1), (pad, 0))
        ]
        made = self._call(
            aten.conv2d.default,
            source,
            self._parameter(f"{name}.weight", weight),
            self._parameter(f"{name}.bias", bias),
            *along,
            [1, 1],
            channels,
        )
        made.meta[WEIGHT_STEP] = step
        return made

    def _parameter(self, name: str, value: torch.Tensor) -> Node:
        place(self.network, f"{MODULE}.{name}", nn.Parameter(value))
        with self.network.graph.inserting_after(self.last):
            self.last = self.network.graph.get_attr(f"{MODULE}.{name}")
        self.last.meta["val"] = value
        return self.last

    def _call(self, target: Any, *args: Any) -> Node:
        with self.network.graph.inserting_after(self.last):
            self.last = self.network.graph.call_function(target, args)
        shapes = fx.node.map_arg(args, lambda node: node.meta["val"].to("meta"))
        self.last.meta["val"] = target(*shapes)
        self.last.meta["nn_module_stack"] = {MODULE: (MODULE, nn.Module)}
        return self.last
