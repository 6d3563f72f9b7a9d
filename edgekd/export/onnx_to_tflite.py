"""Lowers the exported float ONNX to an int8 TFLite model: NCHW to NHWC, fused activations, PAD or SAME, codes, scales.

The graph is one we wrote ourselves (`edgekd.export.onnx_writer`): some fifteen kinds of node, every tensor named after its
edge. So each tensor's learned range is found by name, the layout is known, and no general converter has to be steered.
The arithmetic that a file must keep is checked afterwards, op by op, by `edgekd.pipeline.stages.certify`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.core.artifacts import Exported, Json
from edgekd.core.errors import ModelFileError, UnsupportedNetwork
from edgekd.export.model_builder import ModelBuilder
from edgekd.tflite import int8_rules
from edgekd.tflite.int8_rules import PADDING_SAME, SATURATION, windows

PADDING_VALID = 1  # schema.fbs, enum Padding
# schema.fbs, enum ActivationFunctionType. SATURATION, a clamp to [0, 1], needs none: int8 saturation carries it out.
FUSED = {"RELU": 1, "RELU_N1_TO_1": 2, "RELU6": 3, SATURATION: 0}
INNER = (
    "/int8"  # of an input or output that is uint8 outside: the tensor behind or before its QUANTIZE
)
ON_GRID = 1e-3  # how far, in steps, a weight may lie from its code: float32 of code * scale errs by under 1e-5


class Lowering:
    """State of one lowering: the ONNX graph, the TFLite model under construction, and the correspondence rows."""

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
        self.rows: list[dict[str, Json]] = []
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
        self.done: set[str] = set()  # nodes that were merged into an earlier one, by their output
        self.pad_of: dict[
            str, tuple[str, list[int]]
        ] = {}  # output of a Pad left to the Conv behind it: (input, pads)
        self.stored: dict[
            str, str
        ] = {}  # output of a Transpose to the file's order: its input, the same tensor there
        self.attributes = {
            node.output[0]: {
                item.name: onnx.helper.get_attribute_value(item) for item in node.attribute
            }
            for node in graph.node
        }

    def lite_shape(self, name: str) -> list[int]:
        """A tensor's shape in the file: NHWC for four dimensions."""
        shape = self.shapes[name]
        return [shape[0], shape[2], shape[3], shape[1]] if len(shape) == 4 else list(shape)

    def activation(self, edge: str, name: str = "", shape: Sequence[int] | None = None) -> int:
        """The tensor of an edge (made when first asked for), or with `name` another tensor in the same range."""
        learned = self.exported.ranges.get(edge)
        if learned is None:
            raise UnsupportedNetwork(
                f"the tensor {edge!r} has no learned range", "report the student's name"
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
        """The uint8 tensor that an app sees for the int8 tensor of an edge: the same real numbers, codes 128 higher."""
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
        """The weight and bias tensors of the layer that writes `edge`; `weight` float32 in TFLite's layout."""
        layer = self.exported.weights.get(edge)
        if layer is None or layer["op"] != op:
            raise UnsupportedNetwork(
                f"{op} -> {edge}: no trained layer of this kind writes it",
                "report the student's name",
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
        """(edge, fused activation) of a node: its own output, or that of the activation which becomes part of it."""
        name = node.output[0]
        if name in self.exported.ranges:
            return name, 0
        readers = self.consumers.get(name, [])
        kind = self.activation_kind(readers[0]) if len(readers) == 1 else None
        if kind is None:
            raise UnsupportedNetwork(
                f"the tensor {name!r} has no learned range", "report the student's name"
            )
        edge = str(readers[0].output[0])
        self.done.add(edge)
        if kind == SATURATION:
            self.check_saturation(edge)
        return edge, FUSED[kind]

    def check_saturation(self, edge: str) -> None:
        """The range of a clamp to [0, 1] must start at zero and end at one or below: the clamp is nowhere else."""
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
        """`source` (or its PAD) as the input of a window op: emit a PAD of height and width, in the same range."""
        shape = self.lite_shape(source)
        amounts = np.array([[0, 0], [before[0], after[0]], [before[1], after[1]], [0, 0]], np.int32)
        grown = [int(size + sum(pair)) for size, pair in zip(shape, amounts, strict=True)]
        output = self.activation(source, name, grown)
        pads = self.builder.tensor(f"{name}_amounts", (4, 2), "INT32", data=amounts)
        self.builder.op("PAD", [self.activation(source), pads], [output], {})
        return output


def lower(exported: Exported, description: str) -> tuple[bytes, list[dict[str, Json]]]:
    """The int8 .tflite of an exported network, and the correspondence rows of `LiteModel`.

    Raises UnsupportedNetwork, naming the op and the edge, for a node that has no lowering; ModelFileError for an ONNX
    that is broken or whose weights are not on the int8 grid.
    """
    state = Lowering(exported)
    if state.ports:
        state.builder.op(
            "QUANTIZE", [state.port(state.input)], [state.activation(state.input)], None
        )
    state.activation(state.input)
    for node in state.nodes:
        if node.output[0] in state.done:
            continue
        handler = LOWERINGS.get(node.op_type)
        if handler is None:
            raise UnsupportedNetwork(
                f"the ONNX op {node.op_type} -> {node.output[0]!r} has no int8 lowering",
                "take a student of the models that `edgekd models` lists",
            )
        handler(state, node)
    if state.ports:
        inner = state.activation(state.output)
        state.builder.op("QUANTIZE", [inner], [state.port(state.output)], None)
    data = state.builder.finish(state.input, state.output, description)
    return data, state.rows


def _window(
    state: Lowering, node: Any, source: str, pads: Sequence[int], edge: str
) -> tuple[int, int]:
    """(input tensor, padding enum) of a convolution: SAME where it means these pads, VALID, or a PAD and VALID."""
    before, after = list(pads[:2]), list(pads[2:])
    if not any(pads):
        return state.activation(source), PADDING_VALID
    attributes = state.attributes[node.output[0]]
    sizes = state.lite_shape(source)[1:3]
    dilations = attributes.get("dilations", [1, 1])
    same = [
        windows(
            sizes[axis],
            attributes["kernel_shape"][axis],
            attributes["strides"][axis],
            dilations[axis],
            PADDING_SAME,
        )[1:]
        for axis in (0, 1)
    ]
    if same == [(before[axis], after[axis]) for axis in (0, 1)]:
        return state.activation(source), PADDING_SAME
    return state.padded(source, f"{edge}/pad", before, after), PADDING_VALID


def _conv(state: Lowering, node: Any) -> None:
    attributes = state.attributes[node.output[0]]
    edge, fused = state.result(node)
    source, pads = node.input[0], list(attributes["pads"])
    if source in state.pad_of:
        source, extra = state.pad_of[source]
        pads = [own + before for own, before in zip(pads, extra, strict=True)]
    tensor, padding = _window(state, node, source, pads, edge)
    weight, bias = state.constants[node.input[1]], state.constants[node.input[2]]
    options = {
        "padding": padding,
        "strideH": attributes["strides"][0],
        "strideW": attributes["strides"][1],
        "dilationHFactor": attributes["dilations"][0],
        "dilationWFactor": attributes["dilations"][1],
        "fusedActivationFunction": fused,
    }
    if attributes["group"] == 1 or weight.shape[1] > 1:
        op, layout = (
            "CONV_2D",
            weight.transpose(0, 2, 3, 1),
        )  # OIHW -> OHWI; the kernel counts groups from I
    else:
        op, layout = "DEPTHWISE_CONV_2D", weight.transpose(1, 2, 3, 0)  # O1HW -> 1HWO
        options["depthMultiplier"] = weight.shape[0] // attributes["group"]
    state.builder.op(
        op, [tensor, *state.weights(edge, layout, bias, op)], [state.activation(edge)], options
    )


def _gemm(state: Lowering, node: Any) -> None:
    edge, fused = state.result(node)
    weight, bias = state.constants[node.input[1]], state.constants[node.input[2]]
    layer = state.weights(edge, weight, bias, "FULLY_CONNECTED")
    state.builder.op(
        "FULLY_CONNECTED",
        [state.activation(node.input[0]), *layer],
        [state.activation(edge)],
        {"fusedActivationFunction": fused},
    )


def _pairwise(op: str) -> Callable[[Lowering, Any], None]:
    def run(state: Lowering, node: Any) -> None:
        edge, fused = state.result(node)
        if len({len(state.shapes[name]) for name in node.input}) != 1:
            raise UnsupportedNetwork(
                f"{op} -> {edge}: its inputs have different ranks", "report the student's name"
            )
        state.builder.op(
            op,
            [state.activation(name) for name in node.input],
            [state.activation(edge)],
            {"fusedActivationFunction": fused},
        )

    return run


def _activation(state: Lowering, node: Any) -> None:
    kind = state.activation_kind(node)
    if kind is None:
        raise UnsupportedNetwork(
            f"{node.op_type} -> {node.output[0]}: a clip that is no ReLU", "use relu or relu6"
        )
    state.builder.op(
        kind, [state.activation(node.input[0])], [state.activation(node.output[0])], None
    )


def _unary(op: str) -> Callable[[Lowering, Any], None]:
    def run(state: Lowering, node: Any) -> None:
        state.builder.op(
            op, [state.activation(node.input[0])], [state.activation(node.output[0])], None
        )

    return run


def _transpose(state: Lowering, node: Any) -> None:
    """NCHW to NHWC before a flatten: the file's maps lie so already, and both names mean one tensor."""
    readers = state.consumers.get(node.output[0], [])
    if state.attributes[node.output[0]]["perm"] != [0, 2, 3, 1] or any(
        reader.op_type != "Reshape" for reader in readers
    ):
        raise UnsupportedNetwork(
            f"TRANSPOSE -> {node.output[0]}: only before a flatten", "report the student's name"
        )
    state.stored[node.output[0]] = node.input[0]


def _slice(state: Lowering, node: Any) -> None:
    edge, source = node.output[0], node.input[0]
    start, _, axis = (int(state.constants[name][0]) for name in node.input[1:])
    begin = [
        start if index == _lite_axis(axis, len(state.shapes[edge])) else 0
        for index in range(len(state.shapes[edge]))
    ]
    vectors = [
        state.builder.tensor(
            f"{edge}_{part}", (len(value),), "INT32", data=np.array(value, np.int32)
        )
        for part, value in (("begin", begin), ("size", state.lite_shape(edge)))
    ]
    state.builder.op("SLICE", [state.activation(source), *vectors], [state.activation(edge)], {})


def _lite_axis(axis: int, rank: int) -> int:
    """An axis of an NCHW tensor in the file's NHWC."""
    return {1: 3, 2: 1, 3: 2}.get(axis, 0) if rank == 4 else axis


def _global_pool(state: Lowering, node: Any) -> None:
    edge = node.output[0]
    axes = state.builder.tensor(f"{edge}_axes", (2,), "INT32", data=np.array([1, 2], np.int32))
    state.builder.op(
        "MEAN",
        [state.activation(node.input[0]), axes],
        [state.activation(edge)],
        {"keepDims": True},
    )


def _pool(op: str) -> Callable[[Lowering, Any], None]:
    def run(state: Lowering, node: Any) -> None:
        attributes, edge, source = state.attributes[node.output[0]], node.output[0], node.input[0]
        kernel, strides, pads = (
            attributes["kernel_shape"],
            attributes["strides"],
            list(attributes["pads"]),
        )
        lowest_is_zero = state.exported.ranges[source]["zero_point"] == int8_rules.INT8_MIN
        border_is_zero = lowest_is_zero or op == "AVERAGE_POOL_2D" or not any(pads)
        tensor, padding = (
            _window(state, node, source, pads, edge)
            if border_is_zero
            else (_padded_with_lowest(state, source, pads, edge), PADDING_VALID)
        )
        if op == "AVERAGE_POOL_2D" and any(pads) and padding != PADDING_SAME:
            raise UnsupportedNetwork(
                f"{op} -> {edge}: a border of {pads} is not TFLite's SAME",
                "report the student's name",
            )
        state.builder.op(
            op,
            [tensor],
            [state.activation(edge)],
            {
                "padding": padding,
                "strideH": strides[0],
                "strideW": strides[1],
                "filterHeight": kernel[0],
                "filterWidth": kernel[1],
                "fusedActivationFunction": 0,
            },
        )

    return run


def _padded_with_lowest(state: Lowering, source: str, pads: Sequence[int], edge: str) -> int:
    """Before a max pool whose input can be negative: PADV2 with the lowest code, which never wins a maximum."""
    shape, learned = state.lite_shape(source), state.exported.ranges[source]
    amounts = np.array([[0, 0], [pads[0], pads[2]], [pads[1], pads[3]], [0, 0]], np.int32)
    grown = [int(size + sum(pair)) for size, pair in zip(shape, amounts, strict=True)]
    inputs = [
        state.activation(source),
        state.builder.tensor(f"{edge}/pad_amounts", (4, 2), "INT32", data=amounts),
        state.builder.tensor(
            f"{edge}/pad_lowest",
            (),
            "INT8",
            data=np.array(int8_rules.INT8_MIN, np.int8),
            scale=[learned["scale"]],
            zero_point=[learned["zero_point"]],
        ),
    ]
    output = state.activation(source, f"{edge}/pad", grown)
    state.builder.op("PADV2", inputs, [output], {})
    return output


def _pad(state: Lowering, node: Any) -> None:
    edge, source, amounts = (
        node.output[0],
        node.input[0],
        [int(value) for value in state.constants[node.input[1]]],
    )
    if len(amounts) != 8 or any(amounts[axis] or amounts[4 + axis] for axis in (0, 1)):
        raise UnsupportedNetwork(
            f"PAD -> {edge}: only height and width can be padded", "report the student's name"
        )
    readers = state.consumers.get(edge, [])
    pads = [amounts[2], amounts[3], amounts[6], amounts[7]]
    if len(readers) == 1 and readers[0].op_type == "Conv":
        state.pad_of[edge] = (source, pads)
        return
    state.padded(source, edge, pads[:2], pads[2:])


def _reshape(state: Lowering, node: Any) -> None:
    edge = node.output[0]
    stored = node.input[0] in state.stored
    source = state.stored.get(node.input[0], node.input[0])
    tensor = state.activation(source)
    before, after = state.shapes[source], state.shapes[edge]
    if len(after) == 4 and after[2:] != [1, 1]:
        raise UnsupportedNetwork(
            f"RESHAPE -> {edge}: reshaping to a map", "report the student's name"
        )
    if len(before) == 4 and before[2:] != [1, 1] and not stored:
        raise UnsupportedNetwork(
            f"RESHAPE -> {edge}: a map beyond 1x1 in torch's order", "report the student's name"
        )
    shape = np.array(state.lite_shape(edge), np.int32)
    target = state.builder.tensor(f"{edge}_shape", shape.shape, "INT32", data=shape)
    state.builder.op("RESHAPE", [tensor, target], [state.activation(edge)], None)


def _concat(state: Lowering, node: Any) -> None:
    edge = node.output[0]
    rank = len(state.shapes[edge])
    axis = int(state.attributes[edge]["axis"]) % rank
    state.builder.op(
        "CONCATENATION",
        [state.activation(name) for name in node.input],
        [state.activation(edge)],
        {"axis": _lite_axis(axis, rank), "fusedActivationFunction": 0},
    )


def _softmax(state: Lowering, node: Any) -> None:
    edge = node.output[0]
    if len(state.shapes[edge]) != 2:
        raise UnsupportedNetwork(
            f"SOFTMAX -> {edge}: only over the classes", "report the student's name"
        )
    state.builder.op(
        "SOFTMAX", [state.activation(node.input[0])], [state.activation(edge)], {"beta": 1.0}
    )


LOWERINGS: Mapping[str, Callable[[Lowering, Any], None]] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "Add": _pairwise("ADD"),
    "Mul": _pairwise("MUL"),
    "Relu": _activation,
    "Clip": _activation,
    "Sigmoid": _unary("LOGISTIC"),
    "HardSwish": _unary("HARD_SWISH"),
    "GlobalAveragePool": _global_pool,
    "AveragePool": _pool("AVERAGE_POOL_2D"),
    "MaxPool": _pool("MAX_POOL_2D"),
    "Pad": _pad,
    "Reshape": _reshape,
    "Concat": _concat,
    "Softmax": _softmax,
    "Slice": _slice,
    "Transpose": _transpose,
}
