"""How convolutions and pools become TFLite operators: windows over a map, and their borders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgekd.core.errors import UnsupportedNetwork
from edgekd.export.lowering_state import REPORT, Lower, Lowering
from edgekd.export.tensor_names import BORDER
from edgekd.tflite import int8_rules
from edgekd.tflite.int8_rules import PADDING_SAME, PADDING_VALID, windows
from edgekd.tflite.operators import Operator


def _window(
    state: Lowering, node: Any, source: str, pads: Sequence[int], edge: str
) -> tuple[int, int]:
    """(input tensor, padding) of a window: SAME where it means these pads, VALID, or a PAD and
    VALID.
    """
    before, after = list(pads[:2]), list(pads[2:])
    if not any(pads):
        return state.read(source), PADDING_VALID
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
        return state.read(source), PADDING_SAME
    return state.padded(source, f"{edge}{BORDER}", before, after), PADDING_VALID


def conv(state: Lowering, node: Any) -> None:
    """Conv: CONV_2D, or DEPTHWISE_CONV_2D where each group has one input channel."""
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
        op, [tensor, *state.weights(edge, layout, bias, op)], [state.result_of(edge)], options
    )


def transposed_conv(state: Lowering, node: Any) -> None:
    """ConvTranspose: TRANSPOSE_CONV, which takes the shape of its output as its first input."""
    edge = node.output[0]
    attributes = state.attributes[edge]
    (turned,) = state.parts(node)  # the Transpose of the weight, which TFLite has output first
    weight, bias = state.constants[turned.input[0]], state.constants[node.input[2]]
    target = state.result_of(edge)
    sizes = np.array(state.lite_shape(edge), np.int32)
    shape = state.builder.tensor(f"{edge}_shape", sizes.shape, "INT32", data=sizes)
    op = Operator.TRANSPOSE_CONV
    layer, offset = state.weights(edge, weight.transpose(0, 2, 3, 1), bias, op)
    state.builder.op(
        op,
        [shape, layer, state.read(state.source(node)), offset],
        [target],
        {
            "padding": PADDING_SAME if any(attributes["pads"]) else PADDING_VALID,
            "strideH": attributes["strides"][0],
            "strideW": attributes["strides"][1],
            "fusedActivationFunction": 0,
        },
    )


def pool(op: Operator) -> Lower:
    """AveragePool or MaxPool: `op`, with a PAD or a PADV2 where its border is not TFLite's."""

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
            [state.result_of(edge)],
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
        state.read(source),
        state.builder.tensor(f"{edge}{BORDER}_amounts", (4, 2), "INT32", data=amounts),
        state.builder.tensor(
            f"{edge}{BORDER}_lowest",
            (),
            "INT8",
            data=np.array(int8_rules.INT8_MIN, np.int8),
            scale=[learned["scale"]],
            zero_point=[learned["zero_point"]],
        ),
    ]
    output = state.activation(source, f"{edge}{BORDER}", grown)
    state.builder.op(Operator.PADV2, inputs, [output], {})
    return output
