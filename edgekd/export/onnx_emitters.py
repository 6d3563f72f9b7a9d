"""How each aten operator is written as an ONNX node: one function for each kind, and the table
EMITTERS.

The keys of EMITTERS are those of `edgekd.quantization.fakequant_placement.RULES`; a test compares
them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from edgekd.export.onnx_graph import OnnxGraph
from edgekd.quantization.fakequant_placement import activation_of, window_pads
from edgekd.quantization.graphs import Node, shape_of
from edgekd.tflite.int8_rules import SATURATION

aten = torch.ops.aten


def _ints(args: tuple[Any, ...], index: int, default: int) -> list[int]:
    value = args[index] if len(args) > index else default
    return [int(v) for v in value] if isinstance(value, (list, tuple)) else [int(value)] * 2


def _layer(graph: OnnxGraph, node: Node) -> tuple[str, str, str]:
    layer = graph.layers[str(node.args[1].args[0].target)]
    return graph.names[node.args[0]], graph.parameter(node.args[1]), graph.bias(layer)


def _conv(graph: OnnxGraph, node: Node, name: str) -> str:
    strides, dilations = _ints(node.args, 3, 1), _ints(node.args, 5, 1)
    kernel = shape_of(node.args[1].args[0])[2:]
    groups = int(node.args[6]) if len(node.args) > 6 else 1
    if node.target is aten.conv2d.padding:
        # torch's padding="same" (stride 1 only) puts the odd pixel at the end; "valid" pads nothing
        total = [
            d * (k - 1) if node.args[4] == "same" else 0
            for d, k in zip(dilations, kernel, strict=True)
        ]
        pads = [t // 2 for t in total] + [t - t // 2 for t in total]
    else:
        pads = _ints(node.args, 4, 0) * 2
    return graph.emit(
        "Conv",
        list(_layer(graph, node)),
        name,
        kernel_shape=kernel,
        strides=strides,
        pads=pads,
        dilations=dilations,
        group=groups,
    )


def _linear(graph: OnnxGraph, node: Node, name: str) -> str:
    return graph.emit("Gemm", list(_layer(graph, node)), name, transB=1)


def _activation(graph: OnnxGraph, node: Node, name: str) -> str:
    source = graph.names[node.args[0]]
    kind = activation_of(node)
    if kind == "RELU":
        return graph.emit("Relu", [source], name)
    low, high = {"RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0), SATURATION: (0.0, 1.0)}[
        str(kind)
    ]
    return graph.emit(
        "Clip",
        [
            source,
            graph.constant(f"clip_{low:g}", low, np.float32),
            graph.constant(f"clip_{high:g}", high, np.float32),
        ],
        name,
    )


def _pairwise(op: str) -> Callable[[OnnxGraph, Node, str], str]:
    def write(graph: OnnxGraph, node: Node, name: str) -> str:
        return graph.emit(op, [graph.names[node.args[0]], graph.names[node.args[1]]], name)

    return write


def _unary(op: str) -> Callable[[OnnxGraph, Node, str], str]:
    def write(graph: OnnxGraph, node: Node, name: str) -> str:
        return graph.emit(op, [graph.names[node.args[0]]], name)

    return write


def _pool(op: str) -> Callable[[OnnxGraph, Node, str], str]:
    def write(graph: OnnxGraph, node: Node, name: str) -> str:
        kernel = _ints(node.args, 1, 1)
        given = len(node.args) > 2 and node.args[2]
        strides = _ints(node.args, 2, 1) if given else kernel
        # Pixels that ceil_mode reads past the end are a border, which neither operator counts.
        return graph.emit(
            op,
            [graph.names[node.args[0]]],
            name,
            kernel_shape=kernel,
            strides=strides,
            pads=window_pads(node),
        )

    return write


def _pad(graph: OnnxGraph, node: Node, name: str) -> str:
    # torch gives (begin, end) pairs, the last dimension first.
    rank, amounts = len(shape_of(node)), list(node.args[1])
    begins, ends = [0] * rank, [0] * rank
    for index in range(len(amounts) // 2):
        begins[rank - 1 - index], ends[rank - 1 - index] = (
            int(amounts[2 * index]),
            int(amounts[2 * index + 1]),
        )
    pads = graph.constant(f"{name}_pads", begins + ends, np.int64)
    return graph.emit("Pad", [graph.names[node.args[0]], pads], name)


def _reshape(graph: OnnxGraph, node: Node, name: str) -> str:
    return graph.emit(
        "Reshape",
        [graph.names[node.args[0]], graph.constant(f"{name}_shape", shape_of(node), np.int64)],
        name,
    )


def _concat(graph: OnnxGraph, node: Node, name: str) -> str:
    return graph.emit(
        "Concat",
        [graph.names[part] for part in node.args[0]],
        name,
        axis=int(node.args[1]) if len(node.args) > 1 else 0,
    )


def _slice(graph: OnnxGraph, node: Node, name: str) -> str:
    axis = int(node.args[1]) % len(shape_of(node))
    start = int(node.args[2] or 0) if len(node.args) > 2 else 0
    start = start + shape_of(node.args[0])[axis] if start < 0 else start
    bounds = [start, start + shape_of(node)[axis], axis]
    return graph.emit(
        "Slice",
        [
            graph.names[node.args[0]],
            *(
                graph.constant(f"{name}_{part}", [value], np.int64)
                for part, value in zip(("starts", "ends", "axes"), bounds, strict=True)
            ),
        ],
        name,
    )


def _permute(graph: OnnxGraph, node: Node, name: str) -> str:
    return graph.emit(
        "Transpose", [graph.names[node.args[0]]], name, perm=[int(axis) for axis in node.args[1]]
    )


def _softmax(graph: OnnxGraph, node: Node, name: str) -> str:
    return graph.emit("Softmax", [graph.names[node.args[0]]], name, axis=int(node.args[1]))


EMITTERS: dict[Any, Callable[[OnnxGraph, Node, str], str]] = {
    aten.conv2d.default: _conv,
    aten.conv2d.padding: _conv,
    aten.linear.default: _linear,
    aten.relu.default: _activation,
    aten.relu6.default: _activation,
    aten.hardtanh.default: _activation,
    aten.add.Tensor: _pairwise("Add"),
    aten.mul.Tensor: _pairwise("Mul"),
    aten.sigmoid.default: _unary("Sigmoid"),
    aten.adaptive_avg_pool2d.default: _unary("GlobalAveragePool"),
    aten.avg_pool2d.default: _pool("AveragePool"),
    aten.max_pool2d.default: _pool("MaxPool"),
    aten.pad.default: _pad,
    aten.constant_pad_nd.default: _pad,
    aten.flatten.using_ints: _reshape,
    aten.view.default: _reshape,
    aten.reshape.default: _reshape,
    aten.cat.default: _concat,
    aten.softmax.int: _softmax,
    aten.hardswish.default: _unary("HardSwish"),
    aten.slice.Tensor: _slice,
    aten.permute.default: _permute,
}
