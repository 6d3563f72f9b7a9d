"""How each kind of ONNX node becomes TFLite operators: one function for each kind, and the table
LOWERINGS.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from edgekd.core.errors import UnsupportedNetwork
from edgekd.export.lowering_state import Lowering
from edgekd.tflite import int8_rules
from edgekd.tflite.int8_rules import PADDING_SAME, windows
from edgekd.tflite.operators import Operator, operator_table

PADDING_VALID = 1  # schema.fbs, enum Padding
REPORT = "take a student that `edgekd models` lists, and report the name of this one"

Lower = Callable[[Lowering, Any], None]  # writes the operators of one ONNX node


@dataclasses.dataclass(frozen=True)
class NodeLowering:
    """How one kind of ONNX node is lowered. `operators`: all that `lower` may write for it."""

    lower: Lower
    operators: tuple[Operator, ...]


def _window(
    state: Lowering, node: Any, source: str, pads: Sequence[int], edge: str
) -> tuple[int, int]:
    """(input tensor, padding) of a window: SAME where it means these pads, VALID, or a PAD and
    VALID.
    """
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
        # OIHW -> OHWI. The kernel works out the number of groups from I.
        op, layout = Operator.CONV_2D, weight.transpose(0, 2, 3, 1)
    else:
        op, layout = Operator.DEPTHWISE_CONV_2D, weight.transpose(1, 2, 3, 0)  # O1HW -> 1HWO
        options["depthMultiplier"] = weight.shape[0] // attributes["group"]
    state.builder.op(
        op, [tensor, *state.weights(edge, layout, bias, op)], [state.activation(edge)], options
    )


def _gemm(state: Lowering, node: Any) -> None:
    edge, fused = state.result(node)
    weight, bias = state.constants[node.input[1]], state.constants[node.input[2]]
    layer = state.weights(edge, weight, bias, Operator.FULLY_CONNECTED)
    state.builder.op(
        Operator.FULLY_CONNECTED,
        [state.activation(node.input[0]), *layer],
        [state.activation(edge)],
        {"fusedActivationFunction": fused},
    )


def _pairwise(op: Operator) -> Lower:
    def run(state: Lowering, node: Any) -> None:
        edge, fused = state.result(node)
        if len({len(state.shapes[name]) for name in node.input}) != 1:
            raise UnsupportedNetwork(f"{op} -> {edge}: its inputs have different ranks", REPORT)
        state.builder.op(
            op,
            [state.activation(name) for name in node.input],
            [state.activation(edge)],
            {"fusedActivationFunction": fused},
        )

    return run


def _activation(state: Lowering, node: Any) -> None:
    kind = state.activation_kind(node)
    if kind not in (Operator.RELU, Operator.RELU6):
        raise UnsupportedNetwork(
            f"{node.op_type} -> {node.output[0]}: neither ReLU nor ReLU6", "use relu or relu6"
        )
    state.builder.op(
        Operator(kind), [state.activation(node.input[0])], [state.activation(node.output[0])], None
    )


def _unary(op: Operator) -> Lower:
    def run(state: Lowering, node: Any) -> None:
        state.builder.op(
            op, [state.activation(node.input[0])], [state.activation(node.output[0])], None
        )

    return run


def _transpose(state: Lowering, node: Any) -> None:
    """NCHW to NHWC before a flatten. In the file both names mean one tensor, which is NHWC."""
    readers = state.consumers.get(node.output[0], [])
    if state.attributes[node.output[0]]["perm"] != [0, 2, 3, 1] or any(
        reader.op_type != "Reshape" for reader in readers
    ):
        raise UnsupportedNetwork(f"TRANSPOSE -> {node.output[0]}: only before a flatten", REPORT)
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
    state.builder.op(
        Operator.SLICE, [state.activation(source), *vectors], [state.activation(edge)], {}
    )


def _lite_axis(axis: int, rank: int) -> int:
    """An axis of an NCHW tensor in the file's NHWC."""
    return {1: 3, 2: 1, 3: 2}.get(axis, 0) if rank == 4 else axis


def _global_pool(state: Lowering, node: Any) -> None:
    edge = node.output[0]
    axes = state.builder.tensor(f"{edge}_axes", (2,), "INT32", data=np.array([1, 2], np.int32))
    state.builder.op(
        Operator.MEAN,
        [state.activation(node.input[0]), axes],
        [state.activation(edge)],
        {"keepDims": True},
    )


def _pool(op: Operator) -> Lower:
    def run(state: Lowering, node: Any) -> None:
        attributes, edge, source = state.attributes[node.output[0]], node.output[0], node.input[0]
        kernel, strides, pads = (
            attributes["kernel_shape"],
            attributes["strides"],
            list(attributes["pads"]),
        )
        lowest_is_zero = state.exported.ranges[source]["zero_point"] == int8_rules.INT8_MIN
        border_is_zero = lowest_is_zero or op == Operator.AVERAGE_POOL_2D or not any(pads)
        tensor, padding = (
            _window(state, node, source, pads, edge)
            if border_is_zero
            else (_padded_with_lowest(state, source, pads, edge), PADDING_VALID)
        )
        if op == Operator.AVERAGE_POOL_2D and any(pads) and padding != PADDING_SAME:
            raise UnsupportedNetwork(
                f"{op} -> {edge}: a border of {pads} is not TFLite's SAME",
                REPORT,
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
    """A PADV2 with the lowest code, which never wins a maximum.

    It stands before a max pool whose input can be negative.
    """
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
    state.builder.op(Operator.PADV2, inputs, [output], {})
    return output


def _pad(state: Lowering, node: Any) -> None:
    edge, source, amounts = (
        node.output[0],
        node.input[0],
        [int(value) for value in state.constants[node.input[1]]],
    )
    if len(amounts) != 8 or any(amounts[axis] or amounts[4 + axis] for axis in (0, 1)):
        raise UnsupportedNetwork(f"PAD -> {edge}: only height and width can be padded", REPORT)
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
        raise UnsupportedNetwork(f"RESHAPE -> {edge}: reshaping to a map", REPORT)
    if len(before) == 4 and before[2:] != [1, 1] and not stored:
        raise UnsupportedNetwork(f"RESHAPE -> {edge}: a map beyond 1x1 in torch's order", REPORT)
    shape = np.array(state.lite_shape(edge), np.int32)
    target = state.builder.tensor(f"{edge}_shape", shape.shape, "INT32", data=shape)
    state.builder.op(Operator.RESHAPE, [tensor, target], [state.activation(edge)], None)


def _concat(state: Lowering, node: Any) -> None:
    edge = node.output[0]
    rank = len(state.shapes[edge])
    axis = int(state.attributes[edge]["axis"]) % rank
    state.builder.op(
        Operator.CONCATENATION,
        [state.activation(name) for name in node.input],
        [state.activation(edge)],
        {"axis": _lite_axis(axis, rank), "fusedActivationFunction": 0},
    )


def _softmax(state: Lowering, node: Any) -> None:
    edge = node.output[0]
    if len(state.shapes[edge]) != 2:
        raise UnsupportedNetwork(f"SOFTMAX -> {edge}: only over the classes", REPORT)
    state.builder.op(
        Operator.SOFTMAX, [state.activation(node.input[0])], [state.activation(edge)], {"beta": 1.0}
    )


PADDED = (Operator.PAD,)  # before a window whose border is not TFLite's SAME
LOWERINGS: Mapping[str, NodeLowering] = {
    "Conv": NodeLowering(_conv, (Operator.CONV_2D, Operator.DEPTHWISE_CONV_2D, *PADDED)),
    "Gemm": NodeLowering(_gemm, (Operator.FULLY_CONNECTED,)),
    "Add": NodeLowering(_pairwise(Operator.ADD), (Operator.ADD,)),
    "Mul": NodeLowering(_pairwise(Operator.MUL), (Operator.MUL,)),
    "Relu": NodeLowering(_activation, (Operator.RELU,)),
    "Clip": NodeLowering(_activation, (Operator.RELU6,)),
    "Sigmoid": NodeLowering(_unary(Operator.LOGISTIC), (Operator.LOGISTIC,)),
    "HardSwish": NodeLowering(_unary(Operator.HARD_SWISH), (Operator.HARD_SWISH,)),
    "GlobalAveragePool": NodeLowering(_global_pool, (Operator.MEAN,)),
    "AveragePool": NodeLowering(_pool(Operator.AVERAGE_POOL_2D), (Operator.AVERAGE_POOL_2D,)),
    "MaxPool": NodeLowering(
        _pool(Operator.MAX_POOL_2D), (Operator.MAX_POOL_2D, Operator.PADV2, *PADDED)
    ),
    "Pad": NodeLowering(_pad, PADDED),
    "Reshape": NodeLowering(_reshape, (Operator.RESHAPE,)),
    "Concat": NodeLowering(_concat, (Operator.CONCATENATION,)),
    "Softmax": NodeLowering(_softmax, (Operator.SOFTMAX,)),
    "Slice": NodeLowering(_slice, (Operator.SLICE,)),
    "Transpose": NodeLowering(_transpose, ()),  # the file's maps lie in that order already
}
operator_table(
    f"{__name__}.LOWERINGS",
    (op for rule in LOWERINGS.values() for op in rule.operators),
    absent={
        Operator.QUANTIZE: "stands at uint8 ports only, where no ONNX node is: `lower` writes it"
    },
)
