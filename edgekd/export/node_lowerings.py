"""How each kind of ONNX node becomes TFLite operators: the tables LOWERINGS and COMPOSITES.

Layers with windows are in `window_lowerings`, views in `shape_lowerings`. Here are the rest.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from edgekd.core.errors import UnsupportedNetwork
from edgekd.export.axis_orders import file_axes, file_shape, long_axes
from edgekd.export.lowering_state import REPORT, Lower, Lowering
from edgekd.export.shape_lowerings import concat, pad, reshape, resize, slice_, transpose
from edgekd.export.window_lowerings import conv, pool, transposed_conv
from edgekd.tflite.operators import Operator, operator_table


@dataclasses.dataclass(frozen=True)
class NodeLowering:
    """How one kind of ONNX node is lowered. `operators`: all that `lower` may write for it."""

    lower: Lower
    operators: tuple[Operator, ...]


def _gemm(state: Lowering, node: Any) -> None:
    edge, fused = state.result(node)
    layer = _matrix(state, node, edge)
    state.builder.op(
        Operator.FULLY_CONNECTED,
        [state.read(node.input[0]), *layer],
        [state.result_of(edge)],
        {"fusedActivationFunction": fused},
    )


def _matrix(state: Lowering, node: Any, edge: str) -> list[int]:
    weight, bias = state.constants[node.input[1]], state.constants[node.input[2]]
    return state.weights(edge, weight, bias, Operator.FULLY_CONNECTED)


def _linear(state: Lowering, node: Any) -> None:
    """A layer over the last axis of any tensor: the Gemm between two Reshapes."""
    edge, fused = state.result(node)
    (product,) = (part for part in state.parts(node) if part.op_type == "Gemm")
    source = state.source(node)
    sizes = state.shapes[source]
    axes = _ending_with(state, source, len(sizes) - 1)
    rows = file_shape(sizes, axes)
    layer = _matrix(state, product, edge)
    options: dict[str, Any] = {"fusedActivationFunction": fused}
    if len(rows) > 2:
        options["keepNumDims"] = True
    target = state.result_of(edge, axes, [*rows[:-1], state.shapes[edge][-1]])
    state.builder.op(
        Operator.FULLY_CONNECTED, [state.read(source, axes), *layer], [target], options
    )


def _ending_with(state: Lowering, name: str, axis: int) -> tuple[int, ...]:
    """The order of a tensor in the file, with one axis moved to its end."""
    return (*(other for other in state.find(name).axes if other != axis), axis)


def _pairwise(op: Operator) -> Lower:
    def run(state: Lowering, node: Any) -> None:
        edge, fused = state.result(node)
        inputs, target = _broadcast(state, edge, list(node.input))
        options = None if op == Operator.PRELU else {"fusedActivationFunction": fused}
        state.builder.op(op, inputs, [target], options)

    return run


def _broadcast(state: Lowering, edge: str, names: list[str]) -> tuple[list[int], int]:
    """(the operands, the output) in one order: that of the operand that is as large as the output,
    or the natural one.
    """
    sizes = state.shapes[edge]
    rank = len(sizes)
    whole = [
        name
        for name in names
        if name not in state.constants and state.find_sizes(name) == list(sizes)
    ]
    axes = state.find(whole[0]).axes if whole else None
    target = state.result_of(edge, axes)
    kept = file_axes(sizes, state.find(edge).axes)
    if len(kept) > 4:
        raise UnsupportedNetwork(f"{edge}: {len(kept)} dimensions, and a kernel has 4", REPORT)
    inputs = []
    for name in names:
        offset = rank - len(state.find_sizes(name))
        padded = [1] * offset + state.find_sizes(name)
        own = [axis - offset for axis in state.find(edge).axes if axis >= offset]
        inputs.append(state.read(name, own, [padded[axis] for axis in kept]))
    return inputs, target


def _activation(state: Lowering, node: Any) -> None:
    kind = state.activation_kind(node)
    if kind not in (Operator.RELU, Operator.RELU6):
        raise UnsupportedNetwork(
            f"{node.op_type} -> {node.output[0]}: neither ReLU nor ReLU6", "use relu or relu6"
        )
    _unary(Operator(kind))(state, node)


Options = Callable[[Lowering, Any], dict[str, Any]]


def _unary(op: Operator, options: Options | None = None) -> Lower:
    """An operator that computes each element by itself, in any order of the axes."""

    def run(state: Lowering, node: Any) -> None:
        source, edge = state.find(state.source(node)), node.output[0]
        target = state.result_of(edge, source.axes, source.shape)
        given = options(state, node) if options else None
        state.builder.op(op, [source.index], [target], given)

    return run


def _slope(state: Lowering, node: Any) -> dict[str, Any]:
    return {"alpha": float(state.attributes[node.output[0]]["alpha"])}


def _gelu_form(state: Lowering, node: Any) -> dict[str, Any]:
    return {"approximate": any(part.op_type == "Tanh" for part in state.parts(node))}


def _global_pool(state: Lowering, node: Any) -> None:
    edge = node.output[0]
    axes = state.builder.tensor(f"{edge}_axes", (2,), "INT32", data=np.array([1, 2], np.int32))
    source = state.read(node.input[0])
    state.builder.op(Operator.MEAN, [source, axes], [state.result_of(edge)], {"keepDims": True})


def _mean(state: Lowering, node: Any) -> None:
    edge, source = node.output[0], node.input[0]
    attributes, sizes = state.attributes[edge], state.shapes[source]
    over = {int(axis) % len(sizes) for axis in attributes["axes"]}
    keep, axes = bool(attributes.get("keepdims", 1)), state.find(source).axes
    kept = file_axes(sizes, axes)
    tensor = state.read(source, axes)
    places = [index for index, axis in enumerate(kept) if axis in over]
    shape = [1 if axis in over else sizes[axis] for axis in kept if keep or axis not in over]
    if not keep:
        left = [axis for axis in range(len(sizes)) if axis not in over]
        axes = tuple(left.index(axis) for axis in axes if axis in left)
    values = np.array(places, np.int32)
    vector = state.builder.tensor(f"{edge}_axes", values.shape, "INT32", data=values)
    target = state.result_of(edge, axes, shape)
    state.builder.op(Operator.MEAN, [tensor, vector], [target], {"keepDims": keep})


def _matmul(state: Lowering, node: Any) -> None:
    """MatMul: BATCH_MATMUL. A transposed operand costs nothing where it lies so already."""
    edge = node.output[0]
    rank = len(state.shapes[edge])
    names = list(node.input)
    padded = [[1] * (rank - len(state.find_sizes(name))) + state.find_sizes(name) for name in names]
    spare = max(rank - 4, 0)  # dimensions in front, which must all be 1
    if any(size != 1 for sizes in padded for size in sizes[:spare]):
        raise UnsupportedNetwork(f"{edge}: {rank} dimensions, and BATCH_MATMUL has 4", REPORT)
    inputs, turned = [], []
    for name, sizes in zip(names, padded, strict=True):
        own = state.find_sizes(name)
        straight = list(range(len(own)))
        other = [*straight[:-2], straight[-1], straight[-2]]
        lies_turned = long_axes(state.find(name).axes, own) == long_axes(other, own)
        lies_straight = long_axes(state.find(name).axes, own) == long_axes(straight, own)
        turn = lies_turned and not lies_straight
        shape = [*sizes[spare:-2], *(sizes[:-3:-1] if turn else sizes[-2:])]
        inputs.append(state.read(name, other if turn else straight, shape))
        turned.append(turn)
    target = state.result_of(edge, range(rank), state.shapes[edge][spare:])
    options = {"adjX": turned[0], "adjY": turned[1]}
    state.builder.op(Operator.BATCH_MATMUL, inputs, [target], options)


def _along_last(op: Operator, options: Options) -> Lower:
    """An operator over the last axis, which must be the last in the file, too."""

    def run(state: Lowering, node: Any) -> None:
        edge, source = node.output[0], state.source(node)
        axes = _ending_with(state, source, len(state.shapes[source]) - 1)
        index = state.read(source, axes)
        target = state.result_of(edge, axes)
        state.builder.op(op, [index], [target], options(state, node))

    return run


def _beta(state: Lowering, node: Any) -> dict[str, Any]:
    factors = [name for part in state.parts(node) for name in part.input if name in state.constants]
    return {"beta": float(state.constants[factors[0]]) if factors else 1.0}


PADDED = (Operator.PAD,)  # before a window whose border is not TFLite's SAME
SOFTMAX = NodeLowering(_along_last(Operator.SOFTMAX, _beta), (Operator.SOFTMAX,))
LOWERINGS: Mapping[str, NodeLowering] = {
    "Conv": NodeLowering(conv, (Operator.CONV_2D, Operator.DEPTHWISE_CONV_2D, *PADDED)),
    "Gemm": NodeLowering(_gemm, (Operator.FULLY_CONNECTED,)),
    "MatMul": NodeLowering(_matmul, (Operator.BATCH_MATMUL,)),
    "Add": NodeLowering(_pairwise(Operator.ADD), (Operator.ADD,)),
    "Sub": NodeLowering(_pairwise(Operator.SUB), (Operator.SUB,)),
    "Mul": NodeLowering(_pairwise(Operator.MUL), (Operator.MUL,)),
    "PRelu": NodeLowering(_pairwise(Operator.PRELU), (Operator.PRELU,)),
    "Relu": NodeLowering(_activation, (Operator.RELU,)),
    "Clip": NodeLowering(_activation, (Operator.RELU6,)),
    "Sigmoid": NodeLowering(_unary(Operator.LOGISTIC), (Operator.LOGISTIC,)),
    "HardSwish": NodeLowering(_unary(Operator.HARD_SWISH), (Operator.HARD_SWISH,)),
    "LeakyRelu": NodeLowering(_unary(Operator.LEAKY_RELU, _slope), (Operator.LEAKY_RELU,)),
    "Elu": NodeLowering(_unary(Operator.ELU), (Operator.ELU,)),
    "GlobalAveragePool": NodeLowering(_global_pool, (Operator.MEAN,)),
    "ReduceMean": NodeLowering(_mean, (Operator.MEAN,)),
    "LpNormalization": NodeLowering(
        _along_last(Operator.L2_NORMALIZATION, lambda _state, _node: {}),
        (Operator.L2_NORMALIZATION,),
    ),
    "AveragePool": NodeLowering(pool(Operator.AVERAGE_POOL_2D), (Operator.AVERAGE_POOL_2D,)),
    "MaxPool": NodeLowering(
        pool(Operator.MAX_POOL_2D), (Operator.MAX_POOL_2D, Operator.PADV2, *PADDED)
    ),
    "Pad": NodeLowering(pad, (Operator.PAD, Operator.PADV2)),
    "Reshape": NodeLowering(reshape, (Operator.RESHAPE,)),
    "Concat": NodeLowering(concat, (Operator.CONCATENATION,)),
    "Softmax": SOFTMAX,
    "Slice": NodeLowering(slice_, (Operator.SLICE, Operator.STRIDED_SLICE)),
    "Resize": NodeLowering(resize, (Operator.RESIZE_BILINEAR, Operator.RESIZE_NEAREST_NEIGHBOR)),
    "Transpose": NodeLowering(transpose, (Operator.TRANSPOSE,)),
}
# The kinds of all nodes of an operator that needs several, sorted.
COMPOSITES: Mapping[tuple[str, ...], NodeLowering] = {
    ("ConvTranspose", "Transpose"): NodeLowering(transposed_conv, (Operator.TRANSPOSE_CONV,)),
    ("Gemm", "Reshape", "Reshape"): NodeLowering(_linear, (Operator.FULLY_CONNECTED,)),
    ("Add", "Erf", "Mul", "Mul", "Mul"): NodeLowering(
        _unary(Operator.GELU, _gelu_form), (Operator.GELU,)
    ),
    ("Add", "Add", *("Mul",) * 6, "Tanh"): NodeLowering(
        _unary(Operator.GELU, _gelu_form), (Operator.GELU,)
    ),
    ("Max", "Reciprocal", "Sqrt"): NodeLowering(_unary(Operator.RSQRT), (Operator.RSQRT,)),
    ("Mul", "Softmax"): SOFTMAX,
}
operator_table(
    f"{__name__}.LOWERINGS",
    (op for rule in [*LOWERINGS.values(), *COMPOSITES.values()] for op in rule.operators),
    absent={
        Operator.QUANTIZE: "stands at uint8 ports only, where no ONNX node is: `lower` writes it"
    },
)
