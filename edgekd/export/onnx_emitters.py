"""How each aten operator is written as an ONNX node: one function for each kind, and the table
EMITTERS.

The keys of EMITTERS are those of `edgekd.quantization.fakequant_placement.RULES`; a test compares
them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from edgekd.export.onnx_graph import OnnxGraph
from edgekd.quantization import int8_functions
from edgekd.quantization.graphs import Node, permutation, shape_of
from edgekd.quantization.op_limits import activation_of, fill_of, window_pads
from edgekd.quantization.view_rewrites import step_of
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


def _transposed_convolution(graph: OnnxGraph, node: Node, name: str) -> str:
    strides, crop = node.args[3:5]
    source, weight, bias = _layer(graph, node)
    turned = graph.inner("Transpose", [weight], name, "weight", perm=[1, 0, 2, 3])
    kernel = shape_of(node.args[1].args[0])[2:]
    return graph.emit(
        "ConvTranspose",
        [source, turned, bias],
        name,
        kernel_shape=kernel,
        strides=list(strides),
        pads=list(crop),
    )


def _linear(graph: OnnxGraph, node: Node, name: str) -> str:
    source, weight, bias = _layer(graph, node)
    shape = shape_of(node.args[0])
    if len(shape) == 2:
        return graph.emit("Gemm", [source, weight, bias], name, transB=1)
    # A Gemm takes a matrix, so tokens become its rows.
    rows = graph.constant(f"{name}_rows", [-1, shape[-1]], np.int64)
    matrix = graph.inner("Reshape", [source, rows], name, "rows")
    product = graph.inner("Gemm", [matrix, weight, bias], name, "product", transB=1)
    full = graph.constant(f"{name}_shape", shape_of(node), np.int64)
    return graph.emit("Reshape", [product, full], name)


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


def _gelu(graph: OnnxGraph, node: Node, name: str) -> str:
    """ONNX has Gelu since opset 20: x / 2 * (1 + erf(x / sqrt(2))), or its form with tanh."""
    source = graph.names[node.args[0]]
    one, half = (graph.constant(f"number_{value}", value, np.float32) for value in (1.0, 0.5))
    if node.kwargs.get("approximate", "none") == "tanh":
        # sqrt(2 / pi) * (x + 0.044715 * x^3), Hendrycks and Gimpel 2016 (arXiv:1606.08415)
        root, cubic = (
            graph.constant(f"gelu_{part}", value, np.float32)
            for part, value in (("root", math.sqrt(2.0 / math.pi)), ("cubic", 0.044715))
        )
        square = graph.inner("Mul", [source, source], name, "square")
        cube = graph.inner("Mul", [square, source], name, "cube")
        part = graph.inner("Mul", [cube, cubic], name, "cubic")
        total = graph.inner("Add", [source, part], name, "total")
        scaled = graph.inner("Mul", [total, root], name, "scaled")
        bent = graph.inner("Tanh", [scaled], name, "tanh")
    else:
        root = graph.constant("gelu_inverse_root", math.sqrt(0.5), np.float32)
        scaled = graph.inner("Mul", [source, root], name, "scaled")
        bent = graph.inner("Erf", [scaled], name, "erf")
    shifted = graph.inner("Add", [bent, one], name, "shifted")
    product = graph.inner("Mul", [source, shifted], name, "product")
    return graph.emit("Mul", [product, half], name)


def _leaky_relu(graph: OnnxGraph, node: Node, name: str) -> str:
    slope = float(node.args[1]) if len(node.args) > 1 else 0.01  # torch's default
    return graph.emit("LeakyRelu", [graph.names[node.args[0]]], name, alpha=slope)


def _inverse_root(graph: OnnxGraph, node: Node, name: str) -> str:
    floor = graph.constant(f"{name}_floor", node.args[1], np.float32)
    held = graph.inner("Max", [graph.names[node.args[0]], floor], name, "held")
    root = graph.inner("Sqrt", [held], name, "root")
    return graph.emit("Reciprocal", [root], name)


def _scaled_softmax(graph: OnnxGraph, node: Node, name: str) -> str:
    beta = graph.constant(f"{name}_beta", node.args[1], np.float32)
    scaled = graph.inner("Mul", [graph.names[node.args[0]], beta], name, "scaled")
    return graph.emit("Softmax", [scaled], name, axis=-1)


def _l2_normalize(graph: OnnxGraph, node: Node, name: str) -> str:
    return graph.emit("LpNormalization", [graph.names[node.args[0]]], name, axis=-1, p=2)


def _mean(graph: OnnxGraph, node: Node, name: str) -> str:
    axes = [int(axis) % len(shape_of(node.args[0])) for axis in node.args[1]]
    keep = int(len(node.args) > 2 and bool(node.args[2]))
    return graph.emit("ReduceMean", [graph.names[node.args[0]]], name, axes=axes, keepdims=keep)


def _resize(mode: str) -> Callable[[OnnxGraph, Node, str], str]:
    def write(graph: OnnxGraph, node: Node, name: str) -> str:
        pixels = "asymmetric"
        if mode == "linear":
            pixels = "align_corners" if node.args[2] else "half_pixel"
        sizes = graph.constant(f"{name}_sizes", shape_of(node), np.int64)
        return graph.emit(
            "Resize",
            [graph.names[node.args[0]], "", "", sizes],
            name,
            mode=mode,
            coordinate_transformation_mode=pixels,
            nearest_mode="floor",
        )

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
    inputs = [
        graph.names[node.args[0]],
        graph.constant(f"{name}_pads", begins + ends, np.int64),
    ]
    if fill_of(node) != 0.0:
        inputs.append(graph.constant(f"{name}_fill", fill_of(node), np.float32))
    return graph.emit("Pad", inputs, name)


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
    step = step_of(node)
    bounds = [start, start + (shape_of(node)[axis] - 1) * step + 1, axis]
    named = list(zip(("starts", "ends", "axes"), bounds, strict=True))
    if step != 1:
        named.append(("steps", step))
    return graph.emit(
        "Slice",
        [
            graph.names[node.args[0]],
            *(graph.constant(f"{name}_{part}", [value], np.int64) for part, value in named),
        ],
        name,
    )


def _permute(graph: OnnxGraph, node: Node, name: str) -> str:
    return graph.emit("Transpose", [graph.names[node.args[0]]], name, perm=permutation(node))


def _softmax(graph: OnnxGraph, node: Node, name: str) -> str:
    return graph.emit("Softmax", [graph.names[node.args[0]]], name, axis=int(node.args[1]))


EMITTERS: dict[Any, Callable[[OnnxGraph, Node, str], str]] = {
    aten.conv2d.default: _conv,
    aten.conv2d.padding: _conv,
    int8_functions.transposed_convolution: _transposed_convolution,
    aten.linear.default: _linear,
    aten.relu.default: _activation,
    aten.relu6.default: _activation,
    aten.hardtanh.default: _activation,
    aten.add.Tensor: _pairwise("Add"),
    aten.sub.Tensor: _pairwise("Sub"),
    aten.mul.Tensor: _pairwise("Mul"),
    aten.matmul.default: _pairwise("MatMul"),
    int8_functions.prelu: _pairwise("PRelu"),
    int8_functions.inverse_root: _inverse_root,
    int8_functions.l2_normalize: _l2_normalize,
    int8_functions.scaled_softmax: _scaled_softmax,
    aten.gelu.default: _gelu,
    aten.leaky_relu.default: _leaky_relu,
    aten.elu.default: _unary("Elu"),
    aten.sigmoid.default: _unary("Sigmoid"),
    aten.mean.dim: _mean,
    aten.upsample_nearest2d.vec: _resize("nearest"),
    aten.upsample_bilinear2d.vec: _resize("linear"),
    aten.adaptive_avg_pool2d.default: _unary("GlobalAveragePool"),
    aten.avg_pool2d.default: _pool("AveragePool"),
    aten.max_pool2d.default: _pool("MaxPool"),
    aten.pad.default: _pad,
    aten.constant_pad_nd.default: _pad,
    aten.flatten.using_ints: _reshape,
    aten.view.default: _reshape,
    aten.reshape.default: _reshape,
    aten.unflatten.int: _reshape,
    aten.squeeze.dim: _reshape,
    aten.unsqueeze.default: _reshape,
    aten.expand.default: _reshape,
    aten.cat.default: _concat,
    aten.softmax.int: _softmax,
    aten.hardswish.default: _unary("HardSwish"),
    aten.slice.Tensor: _slice,
    aten.permute.default: _permute,
    aten.transpose.int: _permute,
}
