"""The state of one lowering from ONNX to TFLite: the ONNX graph and the model under construction.

ONNX is NCHW, TFLite is NHWC, and attention has more orders of axes (`axis_orders`). Every tensor
of the ONNX graph is named after its edge, so its learned range is found by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.core.artifacts import Exported
from edgekd.core.errors import ModelFileError, UnsupportedNetwork
from edgekd.export.axis_orders import MAP, file_shape
from edgekd.export.model_builder import ModelBuilder
from edgekd.export.onnx_graph import INSIDE
from edgekd.export.tensor_names import WEIGHT
from edgekd.export.tensor_places import Places, Stored
from edgekd.tflite import int8_rules
from edgekd.tflite.int8_rules import SATURATION
from edgekd.tflite.operators import Operator

REPORT = "take a student that `edgekd models` lists, and report the name of this one"
# schema.fbs, enum ActivationFunctionType. SATURATION, a clamp to [0, 1], needs none: int8
# saturation carries it out.
FUSED = {"RELU": 1, "RELU_N1_TO_1": 2, "RELU6": 3, SATURATION: 0}
# How far, in steps, a weight may lie from its code. float32 of code * scale is off by less than
# 1e-5.
ON_GRID = 1e-3


class Lowering(Places):
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
        self.rows = []
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
        self.input, self.outputs = graph.input[0].name, [entry.name for entry in graph.output]
        self.ports = {self.input, *self.outputs} if exported.io_dtype == "uint8" else set[str]()
        self.done: set[str] = set()  # outputs of nodes that became part of an earlier one
        # Output of a Pad that the Conv behind it takes over: (input, pads).
        self.pad_of: dict[str, tuple[str, list[int]]] = {}
        self.stored: dict[str, Stored] = {}
        self.writer = {output: node for node in graph.node for output in node.output}
        self.attributes = {
            node.output[0]: {
                item.name: onnx.helper.get_attribute_value(item) for item in node.attribute
            }
            for node in graph.node
        }

    def inside(self, node: Any) -> bool:
        """Whether a node computes a part of an operator that needs several ONNX nodes."""
        return INSIDE in str(node.output[0])

    def source(self, node: Any) -> str:
        """The tensor that an operator reads first, through the nodes inside it."""
        for part in [*reversed(self.parts(node)), node]:
            for name in part.input:
                writer = self.writer.get(name)
                if name not in self.constants and not (writer and self.inside(writer)):
                    return str(name)
        raise UnsupportedNetwork(f"{node.output[0]!r} reads constants alone", REPORT)

    def parts(self, node: Any) -> list[Any]:
        """The nodes inside the operator whose last node this is, without it. None for most."""
        found: list[Any] = []
        pending = [node]
        while pending:
            for name in pending.pop(0).input:
                before = self.writer.get(name)
                if before is not None and self.inside(before) and before not in found:
                    found.append(before)
                    pending.append(before)
        return found

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

    def write_output(self, edge: str) -> None:
        """Give an output a tensor of its own in torch's order, where a view wrote it last."""
        sizes, stored = self.shapes[edge], self.find(edge)
        order = range(len(sizes))
        if stored.edge == edge and (list(stored.axes) == list(order) or len(sizes) == len(MAP)):
            return
        index = self.read(edge, order)
        shape = np.array(file_shape(sizes, order), np.int32)
        vector = self.builder.tensor(f"{edge}_shape", shape.shape, "INT32", data=shape)
        target = self.result_of(edge, order)
        self.builder.op(Operator.RESHAPE, [index, vector], [target], None)

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
                REPORT,
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
                f"{layer['layer']}{WEIGHT}",
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
                REPORT,
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
        self.builder.op(Operator.PAD, [self.read(source), pads], [output], {})
        return output


Lower = Callable[[Lowering, Any], None]  # writes the operators of one ONNX node
