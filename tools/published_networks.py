"""The work of published networks (operators, MACs, bytes), for the rows of the latency models.

The shapes of MobileNetV1 (Howard et al. 2017, arXiv 1704.04861, table 1) and MobileNetV2 (Sandler
et al. 2018, arXiv 1801.04381, table 2) come from the papers; tests compare them with TF-slim's
.tflite files. Other networks are captured from timm or torchvision.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from edgekd.assessment.workload import NARROW, Work
from edgekd.quantization import capture, graphs

BYTES = {"int8": 1, "fp32": 4}
CLASSES = 1001  # TF-slim's networks have a background class beside ImageNet's 1000

# MobileNetV1: (output channels, stride) of each block.
V1 = [
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *[(512, 1)] * 5,
    (1024, 2),
    (1024, 1),
]
# MobileNetV2: (expansion, output channels, repeats, stride of the first repeat) of each group.
V2 = [
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
]


class Ops:
    """A list of operators that grows at its end. Maps are square, NHWC, with batch size 1.

    `side`, `channels`: of the present map. `width`: bytes of a value.
    """

    def __init__(self, px: int, precision: str, channels: int = 3) -> None:
        self.rows: list[Work] = []
        self.side, self.channels, self.width = px, channels, BYTES[precision]

    def conv(self, channels: int, kernel: int, stride: int = 1) -> None:
        """Append a CONV_2D with SAME padding, a bias and a fused activation."""
        side = -(-self.side // stride)
        weights = kernel * kernel * self.channels * channels
        kind = (
            ("fc" if side == 1 else "pointwise")
            if kernel == 1
            else "stem"
            if self.channels < NARROW
            else "dense"
        )
        self._add("CONV_2D", kind, side * side * weights, weights, channels, side, channels)

    def depthwise(self, stride: int) -> None:
        """Append a 3 x 3 DEPTHWISE_CONV_2D with SAME padding, a bias and a fused activation."""
        side, weights = -(-self.side // stride), 9 * self.channels
        self._add(
            "DEPTHWISE_CONV_2D",
            "depthwise",
            side * side * weights,
            weights,
            self.channels,
            side,
            self.channels,
        )

    def plain(self, op: str, side: int, reads: int = 1) -> None:
        """Append an operator without weights that reads `reads` maps of the present size."""
        moved = reads * self.side**2 * self.channels + side**2 * self.channels
        self._row(op, "", 0, 0, 0 if op == "RESHAPE" else moved, side, self.channels)
        self.side = side

    def _add(
        self, op: str, kind: str, macs: int, weights: int, biases: int, side: int, channels: int
    ) -> None:
        moved = self.side**2 * self.channels + side**2 * channels
        self._row(op, kind, macs, weights * self.width + biases * 4, moved, side, channels)
        self.side, self.channels = side, channels

    def _row(
        self, op: str, kind: str, macs: int, parameters: int, moved: int, side: int, channels: int
    ) -> None:
        self.rows.append(
            Work(len(self.rows), op, kind, macs, parameters, moved * self.width, side > 1, channels)
        )


def mobilenet_v1(alpha: float, px: int, precision: str) -> list[Work]:
    """MobileNetV1: a stem, 13 depthwise-separable blocks, and the head."""
    net = Ops(px, precision)
    net.conv(int(32 * alpha), 3, 2)
    for channels, stride in V1:
        net.depthwise(stride)
        net.conv(int(channels * alpha), 1)
    return _head(net)


def _divisible(value: float) -> int:
    """Round to a multiple of 8, but not down by more than 10 %, as TF-slim's _make_divisible."""
    rounded = max(8, int(value + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * value else rounded


def mobilenet_v2(alpha: float, px: int, precision: str) -> list[Work]:
    """MobileNetV2: a stem, 17 inverted residual blocks, a 1 x 1 convolution, and the head.

    The 1 x 1 convolution has max(1280, 1280 alpha) channels.
    """
    net = Ops(px, precision)
    net.conv(_divisible(32 * alpha), 3, 2)
    for expansion, channels, repeats, stride in V2:
        for number in range(repeats):
            before = net.channels
            if expansion != 1:
                net.conv(before * expansion, 1)
            net.depthwise(stride if number == 0 else 1)
            net.conv(_divisible(channels * alpha), 1)
            if number:
                net.plain("ADD", net.side, reads=2)
    net.conv(_divisible(1280 * max(alpha, 1.0)), 1)
    return _head(net)


def _head(net: Ops) -> list[Work]:
    """Append AVERAGE_POOL_2D, a 1 x 1 classifier, RESHAPE and SOFTMAX."""
    net.plain("AVERAGE_POOL_2D", 1)
    net.conv(CLASSES, 1)
    net.plain("RESHAPE", 1)
    net.plain("SOFTMAX", 1)
    return net.rows


def captured(model: nn.Module, px: int, precision: str) -> list[Work]:
    """The work of a torch network at px x px, from its exported graph.

    Activations and batch norms are counted as fused.
    """
    graph = capture.capture(model, torch.zeros(2, 3, px, px))
    width, rows = BYTES[precision], list[Work]()
    for node in graphs.nodes_of(graph.graph):
        name = PLAIN.get(str(node.target).removeprefix("aten.").split(".")[0])
        if node.op != "call_function" or name is None:
            continue
        output = graphs.shape_of(node)
        side = output[2] if len(output) == 4 else 1
        sources = [
            arg
            for arg in (node.args[0] if name == "CONCATENATION" else node.args)
            if hasattr(arg, "meta") and arg.op != "get_attr"
        ]
        moved = math.prod(output) + sum(math.prod(graphs.shape_of(source)) for source in sources)
        kind, macs, parameters = "", 0, 0
        if name in ("CONV_2D", "FULLY_CONNECTED"):
            weight = graphs.shape_of(node.args[1])
            size = math.prod(weight)
            kind, macs = _kind(weight, side, name, node), size * side * side
            parameters = size * width + weight[0] * 4
        op = "DEPTHWISE_CONV_2D" if kind == "depthwise" else name
        rows.append(Work(len(rows), op, kind, macs, parameters, moved * width, side > 1, output[1]))
    return rows


PLAIN = {
    "conv2d": "CONV_2D",
    "linear": "FULLY_CONNECTED",
    "add": "ADD",
    "mul": "MUL",
    "cat": "CONCATENATION",
    "adaptive_avg_pool2d": "MEAN",
    "mean": "MEAN",
    "avg_pool2d": "AVERAGE_POOL_2D",
    "max_pool2d": "MAX_POOL_2D",
    "sigmoid": "LOGISTIC",
    "hardswish": "HARD_SWISH",
    "softmax": "SOFTMAX",
}


def _kind(weight: list[int], side: int, name: str, node: Any) -> str:
    if name == "FULLY_CONNECTED":
        return "fc"
    if len(node.args) > 6 and node.args[6] > 1 and weight[1] == 1:
        return "depthwise"
    if weight[2] == weight[3] == 1:
        return "fc" if side == 1 else "pointwise"
    return "stem" if weight[1] < NARROW else "dense"
