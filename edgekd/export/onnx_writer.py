"""Writes the graph of a finished QatNetwork as ONNX, batch 1, in one of two forms.

    "float"  no quantisation nodes; weights are code * scale, so they lie on the int8 grid; input float32 x'
    "qdq"    QuantizeLinear/DequantizeLinear at every edge, int8 weights, int32 biases; input uint8 pixels

Written op by op from the same table of ops that has int8 rules, rather than by torch.onnx: every tensor then carries
the name of its edge, equal networks give equal bytes, and no translation of quantised ops has to be supplied.
x' = scale * (pixel - 128 - zero_point) is what the int8 input tensor means (`edgekd.tflite.int8_rules.input_range`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from edgekd.quantization.fakequant_placement import activation_of, window_pads
from edgekd.quantization.graphs import Node, nodes_of, shape_of
from edgekd.quantization.qat_network import Layer, QatNetwork
from edgekd.tflite import int8_rules
from edgekd.tflite.int8_rules import SATURATION

aten = torch.ops.aten

OPSET = 17  # the first with everything used here that both ONNX Runtime 1.17+ and onnx2tf read; per-axis Q/DQ is 13
IR_VERSION = 9  # belongs to opset 17-20; newer values are refused by older ONNX Runtimes on boards
FORMS = ("float", "qdq")


class _Writer:
    """One pass over the graph; `names` maps each fx node to its ONNX tensor."""

    def __init__(self, network: QatNetwork, state: dict[str, np.ndarray], form: str) -> None:
        self.network = network
        self.state = state
        self.form = form
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.names: dict[Node, str] = {}
        self.layers: dict[str, Layer] = {layer.weight: layer for layer in network.layers}

    def constant(self, name: str, value: Any, dtype: Any) -> str:
        """Add an initializer, once, and give its name."""
        if all(existing.name != name for existing in self.initializers):
            self.initializers.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def emit(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add one ONNX node and give its output's name."""
        self.nodes.append(
            helper.make_node(op, inputs, [output], name=f"{output}/{op}", **attributes)
        )
        return output

    def parameter(self, node: Node) -> str:
        """The ONNX tensor of a layer's weight, on the int8 grid."""
        layer = self.layers[str(node.args[0].target)]  # node is the weight's fake-quantiser
        weight, scale = self.state[f"{layer.name}.weight"], self.state[f"{layer.name}.scale"]
        scale = np.broadcast_to(scale, (weight.shape[0],))
        codes = int8_rules.weight_codes(weight, scale, axis=0)
        name = f"{layer.name}.weight"
        if self.form == "float":
            shape = [-1] + [1] * (weight.ndim - 1)
            return self.constant(name, codes.astype(np.float32) * scale.reshape(shape), np.float32)
        return self.emit(
            "DequantizeLinear",
            [
                self.constant(f"{name}_int8", codes, np.int8),
                self.constant(f"{name}_scale", scale, np.float32),
                self.constant(f"{name}_zero_point", np.zeros(len(scale)), np.int8),
            ],
            name,
            axis=0,
        )

    def bias(self, layer: Layer) -> str:
        """The ONNX tensor of a layer's bias: as trained, or (qdq) int32 at scale s_in * s_w."""
        values, scale = self.state[f"{layer.name}.bias"], self.state[f"{layer.name}.scale"]
        name = f"{layer.name}.bias"
        if self.form == "float":
            return self.constant(name, values, np.float32)
        source = self.network.edge(layer.source).range.scale
        codes = int8_rules.bias_codes(values, source, scale)
        steps = np.broadcast_to((scale.astype(np.float64) * source), values.shape)
        return self.emit(
            "DequantizeLinear",
            [
                self.constant(f"{name}_int32", codes, np.int32),
                self.constant(f"{name}_scale", steps, np.float32),
            ],
            name,
            axis=0,
        )

    def edge(self, node: Node) -> None:
        """A fake-quantiser of an activation."""
        source, name = self.names[node.args[0]], str(node.meta["edge"])
        if self.form == "float" or name == "input":
            self.names[node] = source
            return
        found = self.network.edge(name).range
        parameters = [
            self.constant(f"{name}_scale", found.scale, np.float32),
            self.constant(f"{name}_zero_point", found.zero_point, np.int8),
        ]
        codes = self.emit("QuantizeLinear", [source, *parameters], f"{name}_int8")
        self.names[node] = self.emit(
            "DequantizeLinear", [codes, *parameters], f"{name}_dequantized"
        )

    def input(self, node: Node) -> onnx.ValueInfoProto:
        """The graph's input: x' in float32, or (qdq) pixels in uint8."""
        shape = shape_of(node)
        self.names[node] = "input"
        if self.form == "float":
            return helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)
        grid = self.network.input_range
        self.names[node] = self.emit(
            "DequantizeLinear",
            [
                "input",
                self.constant("input_scale", grid.scale, np.float32),
                self.constant("input_zero_point", grid.zero_point - int8_rules.INT8_MIN, np.uint8),
            ],
            "input_dequantized",
        )
        return helper.make_tensor_value_info("input", TensorProto.UINT8, shape)

    def compute(self, node: Node, name: str) -> None:
        """One computing node, written to the tensor `name`."""
        self.names[node] = EMITTERS[node.target](self, node, name)


def write_onnx(network: QatNetwork, state: dict[str, np.ndarray], form: str) -> bytes:
    """The network as ONNX bytes. `state`: the arrays of `Finished.state`; `form`: one of FORMS.

    Tensors are named after their edges ("input", "output", else the module's name); equal arguments give equal bytes.
    """
    if form not in FORMS:
        raise ValueError(f"form is {form!r}; it can be one of {FORMS}")
    writer = _Writer(network, state, form)
    quantised = _edge_after(network)
    inputs, result = [], ""
    for node in nodes_of(network.graph.graph):
        if node.op == "placeholder":
            inputs.append(writer.input(node))
        elif node.op == "call_module" and "edge" in node.meta:
            writer.edge(node)
        elif node.op == "call_function" and isinstance(node.meta.get("val"), torch.Tensor):
            edge = quantised.get(node, node.name)
            writer.compute(node, f"{edge}_float" if form == "qdq" and edge == "output" else edge)
        elif node.op == "output":
            result = writer.names[node.args[0]]
            shape = shape_of(node.args[0].args[0])
    if form == "qdq":
        writer.nodes[-1].output[0] = result = "output"
    outputs = [helper.make_tensor_value_info(result, TensorProto.FLOAT, shape)]
    graph = helper.make_graph(writer.nodes, "edgekd", inputs, outputs, writer.initializers)
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="edgekd",
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _edge_after(network: QatNetwork) -> dict[Node, str]:
    return {
        node.args[0]: str(node.meta["edge"])
        for node in nodes_of(network.graph.graph)
        if "edge" in node.meta
    }


def _ints(args: tuple[Any, ...], index: int, default: int) -> list[int]:
    value = args[index] if len(args) > index else default
    return [int(v) for v in value] if isinstance(value, (list, tuple)) else [int(value)] * 2


def _layer(writer: _Writer, node: Node) -> tuple[str, str, str]:
    layer = writer.layers[str(node.args[1].args[0].target)]
    return writer.names[node.args[0]], writer.parameter(node.args[1]), writer.bias(layer)


def _conv(writer: _Writer, node: Node, name: str) -> str:
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
    return writer.emit(
        "Conv",
        list(_layer(writer, node)),
        name,
        kernel_shape=kernel,
        strides=strides,
        pads=pads,
        dilations=dilations,
        group=groups,
    )


def _linear(writer: _Writer, node: Node, name: str) -> str:
    return writer.emit("Gemm", list(_layer(writer, node)), name, transB=1)


def _activation(writer: _Writer, node: Node, name: str) -> str:
    source = writer.names[node.args[0]]
    kind = activation_of(node)
    if kind == "RELU":
        return writer.emit("Relu", [source], name)
    low, high = {"RELU6": (0.0, 6.0), "RELU_N1_TO_1": (-1.0, 1.0), SATURATION: (0.0, 1.0)}[
        str(kind)
    ]
    return writer.emit(
        "Clip",
        [
            source,
            writer.constant(f"clip_{low:g}", low, np.float32),
            writer.constant(f"clip_{high:g}", high, np.float32),
        ],
        name,
    )


def _pairwise(op: str) -> Callable[[_Writer, Node, str], str]:
    def write(writer: _Writer, node: Node, name: str) -> str:
        return writer.emit(op, [writer.names[node.args[0]], writer.names[node.args[1]]], name)

    return write


def _unary(op: str) -> Callable[[_Writer, Node, str], str]:
    def write(writer: _Writer, node: Node, name: str) -> str:
        return writer.emit(op, [writer.names[node.args[0]]], name)

    return write


def _pool(op: str) -> Callable[[_Writer, Node, str], str]:
    def write(writer: _Writer, node: Node, name: str) -> str:
        kernel = _ints(node.args, 1, 1)
        given = len(node.args) > 2 and node.args[2]
        strides = _ints(node.args, 2, 1) if given else kernel
        # The pixels that ceil_mode reads past the end are written as a border: neither op counts those.
        return writer.emit(
            op,
            [writer.names[node.args[0]]],
            name,
            kernel_shape=kernel,
            strides=strides,
            pads=window_pads(node),
        )

    return write


def _pad(writer: _Writer, node: Node, name: str) -> str:
    rank, amounts = (
        len(shape_of(node)),
        list(node.args[1]),
    )  # torch: last dimension first, (begin, end) pairs
    begins, ends = [0] * rank, [0] * rank
    for index in range(len(amounts) // 2):
        begins[rank - 1 - index], ends[rank - 1 - index] = (
            int(amounts[2 * index]),
            int(amounts[2 * index + 1]),
        )
    pads = writer.constant(f"{name}_pads", begins + ends, np.int64)
    return writer.emit("Pad", [writer.names[node.args[0]], pads], name)


def _reshape(writer: _Writer, node: Node, name: str) -> str:
    return writer.emit(
        "Reshape",
        [writer.names[node.args[0]], writer.constant(f"{name}_shape", shape_of(node), np.int64)],
        name,
    )


def _concat(writer: _Writer, node: Node, name: str) -> str:
    return writer.emit(
        "Concat",
        [writer.names[part] for part in node.args[0]],
        name,
        axis=int(node.args[1]) if len(node.args) > 1 else 0,
    )


def _slice(writer: _Writer, node: Node, name: str) -> str:
    axis = int(node.args[1]) % len(shape_of(node))
    start = int(node.args[2] or 0) if len(node.args) > 2 else 0
    start = start + shape_of(node.args[0])[axis] if start < 0 else start
    bounds = [start, start + shape_of(node)[axis], axis]
    return writer.emit(
        "Slice",
        [
            writer.names[node.args[0]],
            *(
                writer.constant(f"{name}_{part}", [value], np.int64)
                for part, value in zip(("starts", "ends", "axes"), bounds, strict=True)
            ),
        ],
        name,
    )


def _permute(writer: _Writer, node: Node, name: str) -> str:
    return writer.emit(
        "Transpose", [writer.names[node.args[0]]], name, perm=[int(axis) for axis in node.args[1]]
    )


def _softmax(writer: _Writer, node: Node, name: str) -> str:
    return writer.emit("Softmax", [writer.names[node.args[0]]], name, axis=int(node.args[1]))


EMITTERS: dict[Any, Callable[[_Writer, Node, str], str]] = {
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
