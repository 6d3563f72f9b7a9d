"""Merges branches that are made to be merged: parallel convolutions whose outputs are added.

RepVGG (Ding et al. 2021, arXiv:2101.03697), MobileOne (arXiv:2206.04040), RepViT
(arXiv:2307.09283) and FastViT (arXiv:2303.14189) train several convolutions and batch norms of the
same map, and add them. Their sum is one convolution. A network of timm merges them by itself; a
network that a user brings may come unmerged, and a file of it would hold every branch.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor, fx

from edgekd.quantization.affine_rewrites import batch_norm_line, line_of
from edgekd.quantization.folding import bias_of
from edgekd.quantization.graph_edits import call_like, held, layer_parameters, replace
from edgekd.quantization.graphs import Node, clean, is_node, nodes_of, shape_of
from edgekd.quantization.reader_folding import fold_into_readers

aten = torch.ops.aten

SUMS = {aten.add.Tensor: 1.0, aten.sub.Tensor: -1.0}  # and the sign of the second operand
type Pair = tuple[int, int]  # height, width


@dataclasses.dataclass(frozen=True)
class _Kernel:
    """A convolution without its bias. `weight`: float64 [out, in / groups, height, width]. A linear
    layer is one of 1 x 1.
    """

    weight: Tensor
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int

    @property
    def reach(self) -> tuple[Pair, Pair]:
        """The first and the last place that it reads, from the place that it writes."""
        ends = [
            (-pad, (size - 1) * step - pad)
            for size, pad, step in zip(
                self.weight.shape[2:], self.padding, self.dilation, strict=True
            )
        ]
        return (ends[0][0], ends[1][0]), (ends[0][1], ends[1][1])

    def plus(self, other: _Kernel) -> _Kernel | None:
        """The kernel of the sum; None where that is no kernel, or one of more work."""
        if (self.stride, self.groups) != (other.stride, other.groups):
            return None
        dilations = {one.dilation for one in (self, other) if one.weight.shape[2:] != (1, 1)}
        if len(dilations) > 1:
            return None
        dilation = dilations.pop() if dilations else (1, 1)
        low: Pair = (
            min(self.reach[0][0], other.reach[0][0]),
            min(self.reach[0][1], other.reach[0][1]),
        )
        high: Pair = (
            max(self.reach[1][0], other.reach[1][0]),
            max(self.reach[1][1], other.reach[1][1]),
        )
        # A convolution pads both ends alike.
        if low != (-high[0], -high[1]) or any(
            (start - one) % step
            for part in (self, other)
            for start, one, step in zip(part.reach[0], low, dilation, strict=True)
        ):
            return None
        size: Pair = (2 * high[0] // dilation[0] + 1, 2 * high[1] // dilation[1] + 1)
        if math.prod(size) > sum(math.prod(one.weight.shape[2:]) for one in (self, other)):
            return None
        weight = self.weight.new_zeros(*self.weight.shape[:2], *size)
        for part in (self, other):
            top, left = (
                (start - one) // step
                for start, one, step in zip(part.reach[0], low, dilation, strict=True)
            )
            rows, columns = part.weight.shape[2:]
            weight[:, :, top : top + rows, left : left + columns] += part.weight
        return _Kernel(weight, self.stride, high, dilation, self.groups)

    def with_diagonal(self, gain: Tensor) -> _Kernel | None:
        """The kernel of its sum with gain * x, float64 [channels]."""
        out, inner = self.weight.shape[:2]
        weight = gain.new_zeros(out, inner, 1, 1)
        rows = torch.arange(out)
        weight[rows, rows % inner, 0, 0] = gain
        return self.plus(_Kernel(weight, (1, 1), (0, 0), (1, 1), self.groups))


@dataclasses.dataclass(frozen=True)
class _Linear:
    """kernel(x) + gain * x + offset of a map x. `gain`, `offset`: float64 [channels].

    `branches`: how many convolutions, and how many gains that are weights, were added up.
    """

    source: Node
    kernel: _Kernel | None
    gain: Tensor | None
    offset: Tensor
    branches: int

    def scaled(self, gain: Tensor, offset: Tensor) -> _Linear:
        """The same times a gain, plus an offset."""
        kernel = self.kernel
        if kernel is not None:
            weight = kernel.weight * gain.reshape(-1, 1, 1, 1)
            kernel = dataclasses.replace(kernel, weight=weight)
        own = None if self.gain is None else self.gain * gain
        shifted = self.offset * gain + offset
        return _Linear(self.source, kernel, own, shifted, max(self.branches, 1))

    def plus(self, other: _Linear, sign: float) -> _Linear | None:
        """The sum, or None where it is not one convolution of one map."""
        if self.source is not other.source or self.offset.shape != other.offset.shape:
            return None
        if sign < 0:
            minus = torch.full_like(other.offset, sign)
            other = dataclasses.replace(
                other.scaled(minus, torch.zeros_like(minus)), branches=other.branches
            )
        kernel = self.kernel or other.kernel
        if self.kernel is not None and other.kernel is not None:
            kernel = self.kernel.plus(other.kernel)
            if kernel is None:
                return None
        gains = [gain for gain in (self.gain, other.gain) if gain is not None]
        return _Linear(
            self.source,
            kernel,
            sum(gains[1:], gains[0]) if gains else None,
            self.offset + other.offset,
            self.branches + other.branches,
        )


def merge_branches(network: fx.GraphModule) -> None:
    """Write each sum of two branches or more that read one map as one convolution, in place.

    The weights are added in float64. A convolution that is added to its own input alone stays: it
    is a residual, which was not made to be merged.
    """
    for node in reversed(nodes_of(network.graph)):
        if node.target not in SUMS or not node.users:
            continue
        found = _linear(network, node, outermost=True)
        if found.kernel is None or found.branches < 2:
            continue
        kernel = found.kernel
        if found.gain is not None:
            joined = kernel.with_diagonal(found.gain)
            if joined is None:
                continue
            kernel = joined
        replace(network, node, _layer(network, node, found, kernel))
    clean(network)


def _layer(network: fx.GraphModule, node: Node, found: _Linear, kernel: _Kernel) -> Node:
    """The layer that computes the sum `node`."""
    is_map = len(shape_of(node)) == 4
    weight = kernel.weight if is_map else kernel.weight.flatten(1)
    parameters = layer_parameters(network, node, weight.float(), found.offset.float(), "merged")
    if not is_map:
        return call_like(network, node, aten.linear.default, (found.source, *parameters))
    shape = (list(kernel.stride), list(kernel.padding), list(kernel.dilation), kernel.groups)
    return call_like(network, node, aten.conv2d.default, (found.source, *parameters, *shape))


def norms_before_linear_layers(network: fx.GraphModule) -> None:
    """Fold batch norms of vectors into the linear layers that read them, in place.

    A head of RepViT or LeViT is made of both, and they are made to be merged, too.
    """
    for node in nodes_of(network.graph):
        if node.target is not aten.batch_norm.default or len(shape_of(node)) != 2:
            continue
        gain, offset = batch_norm_line(network, node)
        if fold_into_readers(network, node, gain, offset, axis=1):
            replace(network, node, node.args[0])
    clean(network)


def _linear(network: fx.GraphModule, node: Node, outermost: bool = False) -> _Linear:
    """What a node computes, as a linear map of the node that it reads in the end.

    A node that others read, too, stays, and so counts as a map of its own.
    """
    itself = _Linear(node, None, None, torch.zeros(0), 0)
    value = node.meta.get("val")
    if not isinstance(value, Tensor) or value.ndim not in (2, 4):
        return itself
    channels = shape_of(node)[1]
    one = torch.ones(channels, dtype=torch.float64)
    itself = dataclasses.replace(itself, gain=one, offset=torch.zeros_like(one))
    if len(node.users) != 1 and not outermost:
        return itself
    if node.target in (aten.conv2d.default, aten.linear.default):
        return _convolution(network, node) or itself
    operands = [arg for arg in node.args if is_node(arg) and arg.op != "get_attr"]
    if not all(isinstance(arg.meta.get("val"), Tensor) for arg in operands):
        return itself
    if node.target in SUMS and len(operands) == 2 and not node.kwargs:
        first, second = (_linear(network, arg) for arg in operands)
        same = all(shape_of(arg) == shape_of(node) for arg in operands)
        total = first.plus(second, SUMS[node.target]) if same else None
        return itself if total is None else total
    if len(operands) == 1 and shape_of(operands[0]) == shape_of(node):
        line = line_of(network, node, operands[0], 1, channels)
        if line is not None:
            return _linear(network, operands[0]).scaled(*line)
    return itself


def _convolution(network: fx.GraphModule, node: Node) -> _Linear | None:
    defaults: tuple[Any, ...] = (None, [1, 1], [0, 0], [1, 1], 1)
    args = (*node.args, *defaults[len(node.args) - 2 :])
    if any(part.op != "get_attr" for part in args[1:3] if part is not None):
        return None
    stride, padding, dilation = (_pair(part) for part in args[3:6])
    weight = held(network, args[1]).double()
    weight = weight.reshape(*weight.shape, *[1] * (4 - weight.ndim))
    bias = bias_of(network, node)
    zeros = torch.zeros(weight.shape[0], dtype=torch.float64)
    offset = zeros if bias is None else bias.detach().double()
    kernel = _Kernel(weight, stride, padding, dilation, int(args[6]))
    return _Linear(args[0], kernel, None, offset, 1)


def _pair(value: Any) -> Pair:
    """[height, width] of an argument that may be one number for both."""
    first, *rest = value if isinstance(value, (list, tuple)) else [value]
    return int(first), int(rest[0] if rest else first)
