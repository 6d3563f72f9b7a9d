"""The state of one lowering from ONNX to TFLite: the ONNX graph and the model under construction.

ONNX is NCHW, TFLite is NHWC. Every tensor of the ONNX graph is named after its edge, so its learned
range is found by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.core.artifact_rows import TensorOrigin
from edgekd.core.artifacts import Exported
from edgekd.core.errors import ModelFileError, UnsupportedNetwork
from edgekd.export.model_builder import ModelBuilder
from edgekd.tflite import int8_rules
from edgekd.tflite.int8_rules import SATURATION
from edgekd.tflite.operators import Operator

# schema.fbs, enum ActivationFunctionType. SATURATION, a clamp to [0, 1], needs none: int8
# saturation carries it out.
FUSED = {"RELU": 1, "RELU_N1_TO_1": 2, "RELU6": 3, SATURATION: 0}
# Suffix of the int8 tensor behind a uint8 input, or before a uint8 output, on the other side of its
# QUANTIZE.
INNER = "/int8"
# How far, in steps, a weight may lie from its code. float32 of code * scale is off by less than
# 1e-5.
ON_GRID = 1e-3


class Lowering:
    """The ONNX graph, the TFLite model under construction, and the rows that say which tensor is
    which edge.
    """

    def __init__(self, exported: Exported) -> None:
        import onnx

        try:
            loaded = onnx.load_model_from_string(bytes(exported.onnx))
            model = onnx.shape_inference.infer_shapes(loaded, strict_mode=True)
        except Exception as error:  # protobuf's DecodeError and onnx's own errors share no base
            raise ModelFileError(
                f"the exported ONNX cannot be read: {error}", "run the export stage again"
            ) from error
        graph = model.graph
        self.exported = exported
        self.builder = ModelBuilder()
        self.rows: list[TensorOrigin] = []
        self.nodes: list[Any] = list(graph.node)
        self.constants = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
        self.shapes = {
            value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            for value in [*graph.input, *graph.value_info, *graph.output]
        }
        self.consumers: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)
        self.input, self.output = graph.input[0].name, graph.output[0].name
        self.ports = {self.input, self.output} if exported.io_dtype == "uint8" else set[str]()
        self.done: set[str] = set()  # outputs of nodes that became part of an earlier one
        # Output of a Pad that the Conv behind it takes over: (input, pads).
        self.pad_of: dict[str, tuple[str, list[int]]] = {}
        # Output of a Transpose to the file's order: its input, which is the same tensor there.
        self.stored: dict[str, str] = {}
        self.attributes = {
            node.output[0]: {
                item.name: onnx.helper.get_attribute_value(item) for item in node.attribute
            }
            for node in graph.node
        }

    def lite_shape(self, name: str) -> list[int]:
        """A tensor's shape in the file: NHWC where it has four dimensions."""
        shape = self.shapes[name]
        return [shape[0], shape[2], shape[3], shape[1]] if len(shape) == 4 else list(shape)

    def activation(self, edge: str, name: str = "", shape: Sequence[int] | None = None) -> int:
        """The index of an edge's tensor; with `name`, of another tensor in the same range.

        It is added when it is new.
        """
        learned = self.exported.ranges.get(edge)
        if learned is None:
            raise UnsupportedNetwork(
                f"the tensor {edge!r} has no learned range",
                "take a student that `edgekd models` lists, and report the name of this one",
            )
        name = name or (f"{edge}{INNER}" if edge in self.ports else edge)
        if name not in self.builder.indices:
            self.rows.append({"tensor": name, "edge": edge, "kind": "activation"})
        return self.builder.tensor(
            name,
            self.lite_shape(edge) if shape is None else shape,
            "INT8",
            scale=[learned["scale"]],
            zero_point=[learned["zero_point"]],
        )

    def port(self, edge: str) -> int:
        """The index of the uint8 tensor outside an int8 edge: the same real numbers, codes 128
        higher.
        """
        learned = self.exported.ranges[edge]
        self.rows.append({"tensor": edge, "edge": edge, "kind": "activation"})
        return self.builder.tensor(
            edge,
            self.lite_shape(edge),
            "UINT8",
            scale=[learned["scale"]],
            zero_point=[learned["zero_point"] - int8_rules.INT8_MIN],
        )

    def weights(
        self, edge: str, weight: npt.NDArray[np.float32], bias: npt.NDArray[np.float32], op: str
    ) -> list[int]:
        """The indices of the weight and the bias of the layer that writes `edge`.

        `weight`: float32 in TFLite's layout. Raises ModelFileError when it does not lie on the int8
        grid.
        """
        layer = self.exported.weights.get(edge)
        if layer is None or layer["op"] != op:
            raise UnsupportedNetwork(
                f"{op} -> {edge}: no trained layer of this kind writes it",
                "take a student that `edgekd models` lists, and report the name of this one",
            )
        axis, scale = int8_rules.WEIGHTED_OPS[op], np.asarray(layer["scale"], np.float32)
        codes = int8_rules.weight_codes(weight, scale, axis)
        column = [-1 if index == axis and scale.size > 1 else 1 for index in range(weight.ndim)]
        off = float(
            np.abs(
                weight.astype(np.float64) / scale.astype(np.float64).reshape(column) - codes
            ).max()
        )
        if off > ON_GRID:
            raise ModelFileError(
                f"the weight of {layer['layer']!r} lies {off:.3g} steps off the int8 grid",
                "run the export stage again; the ONNX was changed after it",
            )
        source = float(self.exported.ranges[layer["source"]]["scale"])
        biases = int8_rules.bias_codes(bias, source, scale)
        bias_scale = (np.float64(source) * scale.astype(np.float64)).astype(np.float32)
        self.rows += [
            {"tensor": f"{layer['layer']}.{part}", "edge": edge, "kind": part}
            for part in ("weight", "bias")
        ]
        return [
            self.builder.tensor(
                f"{layer['layer']}.weight",
                codes.shape,
                "INT8",
                data=codes,
                scale=scale,
                zero_point=np.zeros(scale.size),
                axis=axis,
            ),
            self.builder.tensor(
                f"{layer['layer']}.bias",
                biases.shape,
                "INT32",
                data=biases,
                scale=bias_scale,
                zero_point=np.zeros(scale.size),
            ),
        ]

    def result(self, node: Any) -> tuple[str, int]:
        """(edge, fused activation) that a node writes.

        The edge is the node's output, or that of the activation behind it, which becomes part of
        the operator.
        """
        name = node.output[0]
        if name in self.exported.ranges:
            return name, 0
        readers = self.consumers.get(name, [])
        kind = self.activation_kind(readers[0]) if len(readers) == 1 else None
        if kind is None:
            raise UnsupportedNetwork(
                f"the tensor {name!r} has no learned range",
                "take a student that `edgekd models` lists, and report the name of this one",
            )
        edge = str(readers[0].output[0])
        self.done.add(edge)
        if kind == SATURATION:
            self.check_saturation(edge)
        return edge, FUSED[kind]

    def check_saturation(self, edge: str) -> None:
        """Raise UnsupportedNetwork unless a clamp to [0, 1] is exactly what int8 saturation does.

        The range must start at zero and end at one or below.
        """
        learned = self.exported.ranges[edge]
        top = float(learned["scale"]) * (int8_rules.INT8_MAX - int8_rules.INT8_MIN)
        if learned["zero_point"] != int8_rules.INT8_MIN or top > 1.0 + learned["scale"]:
            raise UnsupportedNetwork(
                f"the hard-sigmoid {edge!r} has a range of {top:.3g} and zero point "
                f"{learned['zero_point']}, outside 0..1",
                "run the qat stage again",
            )

    def activation_kind(self, node: Any) -> str | None:
        """TFLite's name of an activation node, or None."""
        if node.op_type == "Relu":
            return "RELU"
        if node.op_type == "Clip":
            bounds = (float(self.constants[node.input[1]]), float(self.constants[node.input[2]]))
            return {(0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1", (0.0, 1.0): SATURATION}.get(
                bounds
            )
        return None

    def padded(self, source: str, name: str, before: Sequence[int], after: Sequence[int]) -> int:
        """Emit a PAD of height and width in the range of `source`; returns its output's index."""
        shape = self.lite_shape(source)
        amounts = np.array([[0, 0], [before[0], after[0]], [before[1], after[1]], [0, 0]], np.int32)
        grown = [int(size + sum(pair)) for size, pair in zip(shape, amounts, strict=True)]
        output = self.activation(source, name, grown)
        pads = self.builder.tensor(f"{name}_amounts", (4, 2), "INT32", data=amounts)
        self.builder.op(Operator.PAD, [self.activation(source), pads], [output], {})
        return output
