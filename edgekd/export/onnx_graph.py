"""The ONNX graph under construction: constants, nodes, and the tensors of weights, biases, edges
and the input.
"""

from __future__ import annotations

import enum
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgekd.quantization.graphs import Node, shape_of
from edgekd.quantization.qat_network import QatNetwork
from edgekd.quantization.qat_structure import Layer
from edgekd.tflite import int8_rules

# Between the name of an operator's output and the name of an inner result, where an operator needs
# several ONNX nodes (GELU at this opset). No edge has it in its name.
INSIDE = "//"


class OnnxForm(enum.StrEnum):
    """How the network is written in ONNX."""

    FLOAT = "float"  # no quantization nodes; weights lie on the int8 grid
    UNROUNDED = "unrounded"  # no quantization nodes; weights as they were trained in float
    QDQ = "qdq"  # QuantizeLinear and DequantizeLinear at every edge


class OnnxGraph:
    """An ONNX graph under construction. `names`: {fx node: its ONNX tensor}. `outputs`: the edges
    that it gives, the answers first.
    """

    def __init__(self, network: QatNetwork, state: dict[str, np.ndarray], form: OnnxForm) -> None:
        self.network = network
        self.state = state
        self.form = form
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.names: dict[Node, str] = {}
        self.outputs = ["output", *network.further]
        self.layers: dict[str, Layer] = {layer.weight: layer for layer in network.layers}

    def constant(self, name: str, value: Any, dtype: Any) -> str:
        """Add an initializer, if it is new, and return its name."""
        if all(existing.name != name for existing in self.initializers):
            self.initializers.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def emit(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add one ONNX node and return the name of its output."""
        self.nodes.append(
            helper.make_node(op, inputs, [output], name=f"{output}/{op}", **attributes)
        )
        return output

    def parameter(self, node: Node) -> str:
        """The ONNX tensor of a layer's weight: on the int8 grid, or (UNROUNDED) as it is."""
        layer = self.layers[str(node.args[0].target)]  # the node is the weight's fake-quantizer
        name = f"{layer.name}.weight"
        weight = self.state[name]
        if self.form is OnnxForm.UNROUNDED:
            return self.constant(name, weight, np.float32)
        scale = np.broadcast_to(self.state[f"{layer.name}.scale"], (weight.shape[0],))
        codes = int8_rules.weight_codes(weight, scale, axis=0)
        if self.form is OnnxForm.FLOAT:
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
        """The ONNX tensor of a layer's bias: as trained, or (QDQ) int32 at scale s_in * s_w."""
        name = f"{layer.name}.bias"
        values = self.state[name]
        if self.form is not OnnxForm.QDQ:
            return self.constant(name, values, np.float32)
        scale = self.state[f"{layer.name}.scale"]
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

    def inner(self, op: str, inputs: list[str], output: str, part: str, **attributes: Any) -> str:
        """Add a node inside an operator that needs several ONNX nodes; returns its output's name.

        `output`: the tensor that the operator writes. `part`: what this node computes of it.
        """
        return self.emit(op, inputs, f"{output}{INSIDE}{part}", **attributes)

    def operand(self, edge: str) -> str:
        """The ONNX tensor of a constant operand: on the int8 grid, or (UNROUNDED) as it is."""
        if self.form is OnnxForm.UNROUNDED:
            return self.constant(edge, self.state[f"{edge}.constant"], np.float32)
        found = self.network.edge(edge).range
        codes = found.quantize(self.state[f"{edge}.constant"])
        if self.form is OnnxForm.FLOAT:
            return self.constant(edge, found.dequantize(codes), np.float32)
        return self.emit(
            "DequantizeLinear",
            [
                self.constant(f"{edge}_int8", codes, np.int8),
                self.constant(f"{edge}_scale", found.scale, np.float32),
                self.constant(f"{edge}_zero_point", found.zero_point, np.int8),
            ],
            edge,
        )

    def edge(self, node: Node) -> None:
        """Write a fake-quantizer of an activation: nothing, or (QDQ) a pair of nodes."""
        if node.args[0].op == "get_attr":
            self.names[node] = self.operand(str(node.meta["edge"]))
            return
        source, name = self.names[node.args[0]], str(node.meta["edge"])
        if self.form is not OnnxForm.QDQ or name == "input":
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
        if name in self.outputs:
            self.nodes[-1].output[0] = self.names[node] = name

    def input(self, node: Node) -> onnx.ValueInfoProto:
        """The graph's input: x' in float32, or (QDQ) pixels in uint8."""
        shape = shape_of(node)
        self.names[node] = "input"
        if self.form is not OnnxForm.QDQ:
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
