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
from edgekd.networks.further_outputs import FURTHER_OUTPUT
from edgekd.quantization import int8_functions
from edgekd.quantization.fakequant import ActivationFakeQuant, PerChannelWeightFakeQuant
from edgekd.quantization.graphs import Node, nodes_of, op_name, where
from edgekd.quantization.op_limits import activation_of, fill_of, is_depthwise, odd_form
from edgekd.tflite.int8_rules import (
    FIXED_OUTPUT,
    SYMMETRIC_INPUTS,
    WEIGHTED_OPS,
    Int8Rules,
    Range,
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
    # A fused activation came to the kernel with version 4 (TensorFlow 2.15).
    int8_functions.transposed_convolution: OpRule("TRANSPOSE_CONV", "own"),
    aten.linear.default: OpRule("FULLY_CONNECTED", "own", fuses=True),
    aten.matmul.default: OpRule("BATCH_MATMUL", "own"),
    aten.add.Tensor: OpRule("ADD", "own", fuses=True),
    aten.sub.Tensor: OpRule("SUB", "own", fuses=True),
    aten.mul.Tensor: OpRule("MUL", "own", fuses=True),
    aten.adaptive_avg_pool2d.default: OpRule("MEAN", "own"),
    aten.mean.dim: OpRule("MEAN", "own"),
    aten.avg_pool2d.default: OpRule("AVERAGE_POOL_2D", "same"),
    aten.max_pool2d.default: OpRule("MAX_POOL_2D", "same"),
    aten.pad.default: OpRule("PAD", "same"),
    aten.constant_pad_nd.default: OpRule("PAD", "same"),
    aten.flatten.using_ints: OpRule("RESHAPE", "same"),
    aten.unflatten.int: OpRule("RESHAPE", "same"),
    aten.view.default: OpRule("RESHAPE", "same"),
    aten.reshape.default: OpRule("RESHAPE", "same"),
    aten.squeeze.dim: OpRule("RESHAPE", "same"),
    aten.expand.default: OpRule("RESHAPE", "same"),
    aten.unsqueeze.default: OpRule("RESHAPE", "same"),
    # Lowering writes a TRANSPOSE only where the next operator needs another order of the axes.
    aten.permute.default: OpRule("TRANSPOSE", "same"),
    aten.transpose.int: OpRule("TRANSPOSE", "same"),
    aten.cat.default: OpRule("CONCATENATION", "same"),
    aten.slice.Tensor: OpRule("SLICE", "same"),
    aten.upsample_nearest2d.vec: OpRule("RESIZE_NEAREST_NEIGHBOR", "same"),
    aten.upsample_bilinear2d.vec: OpRule("RESIZE_BILINEAR", "same"),
    aten.hardswish.default: OpRule("HARD_SWISH", "own"),
    aten.gelu.default: OpRule("GELU", "own"),
    aten.leaky_relu.default: OpRule("LEAKY_RELU", "own"),
    aten.elu.default: OpRule("ELU", "own"),
    int8_functions.prelu: OpRule("PRELU", "own"),
    int8_functions.inverse_root: OpRule("RSQRT", "own"),
    int8_functions.l2_normalize: OpRule("L2_NORMALIZATION", "fixed"),
    int8_functions.scaled_softmax: OpRule("SOFTMAX", "fixed"),
    aten.softmax.int: OpRule("SOFTMAX", "fixed"),
    aten.sigmoid.default: OpRule("LOGISTIC", "fixed"),
    aten.relu.default: OpRule("RELU", "own"),
    aten.relu6.default: OpRule("RELU6", "own"),
    aten.hardtanh.default: OpRule("RELU6", "own"),
}
# A convolution whose weight has one input channel for each group becomes this operator.
DEPTHWISE = Operator.DEPTHWISE_CONV_2D
# A slice with gaps becomes this operator.
STRIDED = Operator.STRIDED_SLICE
# A pad with another number than zero becomes this operator.
FILLED = Operator.PADV2
CONSTANT = "CONSTANT"  # the writer of an edge that is a constant: a position embedding, a slope
# In the meta data of a layer whose weights are given on their grid: the step of that grid.
WEIGHT_STEP = "weight_step"
operator_table(
    f"{__name__}.RULES",
    [*(rule.op for rule in RULES.values()), DEPTHWISE, STRIDED, FILLED],
    absent={
        Operator.QUANTIZE: "no aten operator becomes one: lowering puts it at uint8 ports",
    },
)
# Operators whose inputs may be constants, which then have a range of their own.
READS_CONSTANTS = frozenset(
    {
        aten.add.Tensor,
        aten.sub.Tensor,
        aten.mul.Tensor,
        aten.matmul.default,
        aten.cat.default,
        aten.expand.default,
        int8_functions.prelu,
    }
)


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
    what = f"the op {op_name(node)}" if rule is None else odd_form(node)
    if what or rule is None:
        raise UnsupportedNetwork(
            f"{what} {where(node)} has no int8 rule",
            "use a student of the models that `edgekd models` lists",
        )
    if is_depthwise(node):
        return DEPTHWISE
    if fill_of(node) != 0.0:
        return FILLED
    if node.target is aten.slice.Tensor and len(node.args) > 4 and node.args[4] != 1:
        return STRIDED
    return rule.op


def constants_of(node: Node) -> list[Node]:
    """The parameters and buffers that a node reads as operands, not as weights of a layer."""
    if node.target not in READS_CONSTANTS:
        return []
    operands = node.args[0] if node.target is aten.cat.default else node.args
    return [arg for arg in operands if isinstance(arg, fx.Node) and arg.op == "get_attr"]


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
            and node.target is not FURTHER_OUTPUT
            and not isinstance(node.meta.get("val"), (int, torch.SymInt))
        ):
            tflite_op(node)


def is_compute(node: Node) -> bool:
    """Whether a node computes a tensor: not a parameter, an input, an output or a batch size."""
    return (
        node.op == "call_function"
        and node.target is not FURTHER_OUTPUT
        and isinstance(node.meta.get("val"), torch.Tensor)
    )


def insert(network: fx.GraphModule, rules: Int8Rules, input_range: Range) -> None:
    """Put a fake-quantizer behind every tensor of the int8 file, in place.

    These are the image, each operator's output behind its fused activation, each constant operand,
    and each weight.
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
            for constant in constants_of(node):
                groups.add_once(constant)
            last = fused_activation(node) or node
            fused.add(last)
            groups.add(last, FIXED_OUTPUT[op] if RULES[node.target].output == "fixed" else None)
            if RULES[node.target].output == "same":
                for source in node.args[0] if node.target is aten.cat.default else [node.args[0]]:
                    groups.join(source, last)
            for index in SYMMETRIC_INPUTS.get(op, ()):
                groups.make_symmetric(node.args[index], node)
            if op in WEIGHTED_OPS:
                weights.append(
                    (node, rules.classifier if op == "FULLY_CONNECTED" else "per_channel")
                )
    modules = groups.quantizers()
    for number, node in enumerate(groups.parents):
        network.add_module(f"fake_quant_{number}", modules[groups.root(node)])
        with network.graph.inserting_after(node):
            quantized = network.graph.call_module(f"fake_quant_{number}", ())
        node.replace_all_uses_with(quantized)
        quantized.args = (node,)
    for number, (layer, granularity) in enumerate(weights):
        network.add_module(
            f"weight_fake_quant_{number}",
            PerChannelWeightFakeQuant(granularity, layer.meta.get(WEIGHT_STEP)),
        )
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
        self._symmetric: dict[Node, Node] = {}  # tensor -> the operator that asks for it

    def add(self, node: Node, fixed: Range | None) -> None:
        """Put a tensor in a group of its own."""
        self.parents[node] = node
        self.fixed[node] = fixed

    def add_once(self, node: Node) -> None:
        """Put a tensor in a group of its own unless it is in one."""
        if node not in self.parents:
            self.add(node, None)

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

    def make_symmetric(self, node: Node, reader: Node) -> None:
        """Give the group of a tensor the zero point 0, which the operator `reader` needs."""
        self._symmetric[node] = reader

    def quantizers(self) -> dict[Node, ActivationFakeQuant]:
        """{root: the fake-quantizer of its group}.

        Raises UnsupportedNetwork where a fixed range has another zero point than its reader needs.
        """
        readers = {self.root(node): reader for node, reader in self._symmetric.items()}
        for root, reader in readers.items():
            fixed = self.fixed[root]
            if fixed is not None and fixed.zero_point != 0:
                raise UnsupportedNetwork(
                    f"the second operand of {op_name(reader)} {where(reader)} has a fixed range "
                    "(of a softmax, a sigmoid or pixels), so it has no int8 rule",
                    "use a student of the models that `edgekd models` lists",
                )
        return {
            root: ActivationFakeQuant(fixed, root in readers) for root, fixed in self.fixed.items()
        }
