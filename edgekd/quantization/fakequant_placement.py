"""Puts fake-quantizers into an aten graph by TFLite's int8 rules.

The table RULES says which aten operator becomes which TFLite operator, and which range its output
has. A range is observed *after* the fused activation, since that is the tensor that the int8
operator writes. Observing before ReLU6 cost 5 points of top-1 on EfficientNet-Lite0.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import fx

from edgekd.core.errors import UnsupportedNetwork
from edgekd.quantization.fakequant import ActivationFakeQuant, PerChannelWeightFakeQuant
from edgekd.quantization.graphs import Node, nodes_of, op_name, shape_of, where
from edgekd.tflite.int8_rules import (
    FIXED_OUTPUT,
    PADDING_SAME,
    SATURATION,
    WEIGHTED_OPS,
    Int8Rules,
    Range,
    windows,
)
from edgekd.tflite.operators import Operator, operator_table

aten = torch.ops.aten


@dataclasses.dataclass(frozen=True)
class OpRule:
    """How one aten operator is written in int8.

    `op`: the TFLite operator. `output`: "own" (a learned range), "same" (that of the first input)
    or "fixed" (`FIXED_OUTPUT`). `fuses`: whether an activation that follows becomes part of the
    TFLite operator.
    """

    op: str
    output: str
    fuses: bool = False


RULES: dict[Any, OpRule] = {
    aten.conv2d.default: OpRule("CONV_2D", "own", fuses=True),
    aten.conv2d.padding: OpRule("CONV_2D", "own", fuses=True),
    aten.linear.default: OpRule("FULLY_CONNECTED", "own", fuses=True),
    aten.add.Tensor: OpRule("ADD", "own", fuses=True),
    aten.mul.Tensor: OpRule("MUL", "own", fuses=True),
    aten.adaptive_avg_pool2d.default: OpRule("MEAN", "own"),
    aten.avg_pool2d.default: OpRule("AVERAGE_POOL_2D", "same"),
    aten.max_pool2d.default: OpRule("MAX_POOL_2D", "same"),
    aten.pad.default: OpRule("PAD", "same"),
    aten.constant_pad_nd.default: OpRule("PAD", "same"),
    aten.flatten.using_ints: OpRule("RESHAPE", "same"),
    aten.view.default: OpRule("RESHAPE", "same"),
    aten.reshape.default: OpRule("RESHAPE", "same"),
    # Before a flatten in stored order: an operator in NCHW, none in the file.
    aten.permute.default: OpRule("RESHAPE", "same"),
    aten.cat.default: OpRule("CONCATENATION", "same"),
    aten.slice.Tensor: OpRule("SLICE", "same"),
    aten.hardswish.default: OpRule("HARD_SWISH", "own"),
    aten.softmax.int: OpRule("SOFTMAX", "fixed"),
    aten.sigmoid.default: OpRule("LOGISTIC", "fixed"),
    aten.relu.default: OpRule("RELU", "own"),
    aten.relu6.default: OpRule("RELU6", "own"),
    aten.hardtanh.default: OpRule("RELU6", "own"),
}
# A convolution whose weight has one input channel for each group becomes this operator.
DEPTHWISE = Operator.DEPTHWISE_CONV_2D
operator_table(
    f"{__name__}.RULES",
    [*(rule.op for rule in RULES.values()), DEPTHWISE],
    absent={
        Operator.PADV2: "no aten operator becomes one: lowering puts it before a max pool",
        Operator.QUANTIZE: "no aten operator becomes one: lowering puts it at uint8 ports",
    },
)
# What a message proposes instead of an operator without a rule.
INSTEAD: dict[str, str] = {
    "gelu": "relu6 (timm: act_layer='relu6')",
    "mish": "relu6 (timm: act_layer='relu6')",
    "layer_norm": "a student with batch norm",
    "prelu": "relu",
    "leaky_relu": "relu",
    "elu": "relu",
}
STORED_ORDER = [0, 2, 3, 1]  # NCHW -> the file's NHWC


def activation_of(node: Node) -> str | None:
    """TFLite's name of a node that is an activation: "RELU", "RELU6", "RELU_N1_TO_1", SATURATION,
    or None.
    """
    if node.target is aten.relu.default:
        return "RELU"
    if node.target is aten.relu6.default:
        return "RELU6"
    if node.target is aten.hardtanh.default:
        low = float(node.args[1]) if len(node.args) > 1 else -1.0
        high = float(node.args[2]) if len(node.args) > 2 else 1.0
        return {(0.0, 6.0): "RELU6", (-1.0, 1.0): "RELU_N1_TO_1", (0.0, 1.0): SATURATION}.get(
            (low, high)
        )
    return None


def fused_activation(node: Node) -> Node | None:
    """The activation node that becomes part of `node`'s TFLite operator, or None."""
    if not RULES[node.target].fuses or len(node.users) != 1:
        return None
    (user,) = node.users
    return user if activation_of(user) else None


def tflite_op(node: Node) -> str:
    """The TFLite operator that a node becomes.

    Raises UnsupportedNetwork, naming the operator and the module, when there is none.
    """
    rule = RULES.get(node.target)
    what = "" if rule is not None else f"the op {op_name(node)}"
    for check in (_odd_convolution, _odd_pool, _odd_pairing, _odd_border, _odd_order):
        what = what or check(node)
    if what or rule is None:
        instead = INSTEAD.get(op_name(node), "a student of the models that `edgekd models` lists")
        raise UnsupportedNetwork(f"{what} {where(node)} has no int8 rule", f"use {instead}")
    weight = _weight(node)
    if weight is not None and _groups(node) > 1 and shape_of(weight)[1] == 1:
        return DEPTHWISE
    return rule.op


def _weight(node: Node) -> Node | None:
    """The parameter node of a convolution's weight; None for other nodes."""
    if node.target not in (aten.conv2d.default, aten.conv2d.padding):
        return None
    # The argument is the parameter, or the fake-quantizer that reads it.
    return node.args[1] if node.args[1].op == "get_attr" else node.args[1].args[0]


def _groups(node: Node) -> int:
    return int(node.args[6]) if len(node.args) > 6 else 1


def _odd_convolution(node: Node) -> str:
    weight = _weight(node)
    return (
        f"a convolution over {len(shape_of(weight)) - 2} axes"
        if weight is not None and len(shape_of(weight)) != 4
        else ""
    )


def _odd_pool(node: Node) -> str:
    """What TFLite cannot do in a pool. Its one border is SAME, and averages never count it."""
    if node.target is aten.adaptive_avg_pool2d.default and list(node.args[1]) != [1, 1]:
        return f"adaptive average pooling to {list(node.args[1])}"
    if node.target is aten.max_pool2d.default and any(size != 1 for size in _pair(node.args, 4, 1)):
        return "max pooling with dilation"
    if node.target is aten.avg_pool2d.default:
        if len(node.args) > 6 and node.args[6] is not None:
            return "average pooling with a divisor of its own"
        if any(window_pads(node)) and window_pads(node) != same_pads(node):
            return (
                f"average pooling with a border of {window_pads(node)}, where TFLite's SAME is "
                f"{same_pads(node)},"
            )
    return ""


def _odd_pairing(node: Node) -> str:
    if node.target not in (aten.add.Tensor, aten.mul.Tensor):
        return ""
    constant = any(not isinstance(arg, fx.Node) or arg.op == "get_attr" for arg in node.args)
    return f"the op {op_name(node)} with a constant" if constant or node.kwargs else ""


def _odd_border(node: Node) -> str:
    constant = (
        node.target is aten.constant_pad_nd.default
        or len(node.args) <= 2
        or node.args[2] == "constant"
    )
    fill = {aten.pad.default: 3, aten.constant_pad_nd.default: 2}.get(node.target)
    return (
        "padding with anything but zeros"
        if fill is not None and (not constant or _fill(node, fill) != 0)
        else ""
    )


def _odd_order(node: Node) -> str:
    """What TFLite cannot do in a clamp or permutation that stands alone, or a slice with gaps."""
    if node.target is aten.hardtanh.default and activation_of(node) != "RELU6":
        return f"the op hardtanh({node.args[1]}, {node.args[2]}) by itself"
    if node.target is aten.permute.default and (
        list(node.args[1]) != STORED_ORDER
        or any(
            user.target is not aten.flatten.using_ints and user.op != "call_module"
            for user in node.users
        )
    ):
        return f"the op permute({list(node.args[1])})"
    if node.target is aten.slice.Tensor and len(node.args) > 4 and node.args[4] != 1:
        return "a slice with gaps"
    if node.target is aten.slice.Tensor and int(node.args[1]) == 0:
        return "a slice of the batch"
    return ""


def window_pads(node: Node) -> list[int]:
    """[top, left, bottom, right] that a pool reads outside its map.

    With ceil_mode it reads past the end; with a stride it may stop before the border.
    """
    kernel, pads = _pair(node.args, 1), _pair(node.args, 3)
    strides = _pair(node.args, 2) if len(node.args) > 2 and node.args[2] else kernel
    ends = []
    for axis, (size, out) in enumerate(
        zip(shape_of(node.args[0])[2:], shape_of(node)[2:], strict=True)
    ):
        reach = (out - 1) * strides[axis] + kernel[axis]
        ends.append(max(reach - size - pads[axis], 0))
    return [*pads, *ends]


def same_pads(node: Node) -> list[int]:
    """[top, left, bottom, right] of TFLite's border SAME for a pool of this kernel and stride."""
    kernel = _pair(node.args, 1)
    strides = _pair(node.args, 2) if len(node.args) > 2 and node.args[2] else kernel
    plans = [
        windows(size, kernel[axis], strides[axis], 1, PADDING_SAME)
        for axis, size in enumerate(shape_of(node.args[0])[2:])
    ]
    return [plans[0][1], plans[1][1], plans[0][2], plans[1][2]]


def refuse_unknown(graph: fx.Graph) -> None:
    """Raise UnsupportedNetwork for an operator without a rule. Fused activations need none."""
    fused: set[Node] = set()
    for node in nodes_of(graph):
        if is_compute(node) and node not in fused:
            tflite_op(node)
            fused.add(fused_activation(node) or node)
        elif (
            node.op == "call_function"
            and node not in fused
            and not isinstance(node.meta.get("val"), (int, torch.SymInt))
        ):
            tflite_op(node)


def _pair(args: tuple[Any, ...], index: int, default: int = 0) -> list[int]:
    value = args[index] if len(args) > index else default
    pair = [int(part) for part in value] if isinstance(value, (list, tuple)) else [int(value)]
    return pair * 2 if len(pair) == 1 else pair


def _fill(node: Node, index: int) -> float:
    return float(node.args[index] or 0.0) if len(node.args) > index else 0.0


def is_compute(node: Node) -> bool:
    """Whether a node computes a tensor: not a parameter, an input, an output or a batch size."""
    return node.op == "call_function" and isinstance(node.meta.get("val"), torch.Tensor)


def insert(network: fx.GraphModule, rules: Int8Rules, input_range: Range) -> None:
    """Put a fake-quantizer behind every tensor of the int8 file, in place.

    These are the image, each operator's output behind its fused activation, and each weight.
    Tensors that TFLite keeps in one range share one fake-quantizer. `input_range`: the fixed range
    of the image (`edgekd.tflite.int8_rules.input_range`). Raises UnsupportedNetwork for an operator
    without a rule.
    """
    groups = _Groups()
    weights: list[tuple[Node, str]] = []  # (layer, granularity of its weight's scales)
    fused: set[Node] = set()
    for node in nodes_of(network.graph):
        if node.op == "placeholder":
            groups.add(node, input_range)
        elif is_compute(node) and node not in fused:
            op = tflite_op(node)
            last = fused_activation(node) or node
            fused.add(last)
            groups.add(last, FIXED_OUTPUT[op] if RULES[node.target].output == "fixed" else None)
            if RULES[node.target].output == "same":
                for source in node.args[0] if node.target is aten.cat.default else [node.args[0]]:
                    groups.join(source, last)
            if op in WEIGHTED_OPS:
                weights.append(
                    (node, rules.classifier if op == "FULLY_CONNECTED" else "per_channel")
                )
    modules = {root: ActivationFakeQuant(fixed) for root, fixed in groups.fixed.items()}
    for number, node in enumerate(groups.parents):
        network.add_module(f"fake_quant_{number}", modules[groups.root(node)])
        with network.graph.inserting_after(node):
            quantized = network.graph.call_module(f"fake_quant_{number}", ())
        node.replace_all_uses_with(quantized)
        quantized.args = (node,)
    for number, (layer, granularity) in enumerate(weights):
        network.add_module(f"weight_fake_quant_{number}", PerChannelWeightFakeQuant(granularity))
        with network.graph.inserting_before(layer):
            quantized = network.graph.call_module(f"weight_fake_quant_{number}", (layer.args[1],))
        layer.args = (layer.args[0], quantized, *layer.args[2:])
    network.graph.lint()
    network.recompile()


class _Groups:
    """Which tensors share a range (union-find).

    `parents`: {tensor: another one of its group, or itself}, in the graph's order. `fixed`: {root:
    the fixed range of its group, or None where it is learned}.
    """

    def __init__(self) -> None:
        self.parents: dict[Node, Node] = {}
        self.fixed: dict[Node, Range | None] = {}

    def add(self, node: Node, fixed: Range | None) -> None:
        """Put a tensor in a group of its own."""
        self.parents[node] = node
        self.fixed[node] = fixed

    def root(self, node: Node) -> Node:
        """The tensor that stands for the group."""
        while self.parents[node] is not node:
            node = self.parents[node]
        return node

    def join(self, first: Node, second: Node) -> None:
        """Join two groups. A fixed range becomes that of both."""
        first, second = self.root(first), self.root(second)
        if first is not second:
            self.parents[second] = first
            fixed = self.fixed.pop(second)
            self.fixed[first] = self.fixed[first] or fixed
