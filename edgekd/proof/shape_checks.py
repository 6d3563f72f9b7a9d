"""The shape of every operator's output, worked out again from the operator's inputs and options.

A file that fails this check is not run: TFLite's kernels trust the shapes in the file and may read
outside a tensor. `SHAPES` holds one rule for each operator. A rule raises an exception when the
inputs do not fit each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from edgekd.proof.certificate_record import CheckedOps
from edgekd.proof.failures import Failures
from edgekd.tflite.flatbuffer import LiteGraph, LiteOp, LiteTensor
from edgekd.tflite.int8_rules import PADDING_SAME, WEIGHTED_OPS, windows
from edgekd.tflite.operators import operator_table

Shape = list[int]
# (the operator, its inputs, its output tensor) -> the shape that the output must have, or None
# where several would do
ShapeRule = Callable[[LiteOp, list[LiteTensor], LiteTensor], Shape | None]


def check_shapes(graph: LiteGraph, failures: Failures) -> CheckedOps:
    """Check the output shape of every operator, and count those that leave no choice."""
    checked = 0
    for op in graph.ops:
        rule = SHAPES.get(op.name)
        if rule is None:
            continue
        target = graph.tensors[op.outputs[0]]
        inputs = [graph.tensors[index] for index in op.inputs if index >= 0]
        try:
            expected = rule(op, inputs, target)
        except (ValueError, IndexError, KeyError, AttributeError, ArithmeticError) as error:
            failures.add(
                "shapes", "op", op.label(graph.tensors), "inputs that fit each other", str(error)
            )
            continue
        checked += expected is not None
        if expected is not None and expected != list(target.shape):
            failures.add("shapes", "op", op.label(graph.tensors), expected, list(target.shape))
    return CheckedOps(checked)


def _same(_op: LiteOp, inputs: list[LiteTensor], _target: LiteTensor) -> Shape:
    return list(inputs[0].shape)


def _broadcast(_op: LiteOp, inputs: list[LiteTensor], _target: LiteTensor) -> Shape:
    return list(np.broadcast_shapes(*(tensor.shape for tensor in inputs)))


def _pad(_op: LiteOp, inputs: list[LiteTensor], _target: LiteTensor) -> Shape:
    source, amounts = inputs[0].shape, inputs[1].data
    if amounts is None or amounts.shape != (len(source), 2):
        raise ValueError("padding amounts that are not a constant pair for each axis")
    return [int(size + sum(pair)) for size, pair in zip(source, amounts.tolist(), strict=True)]


def _concatenation(op: LiteOp, inputs: list[LiteTensor], _target: LiteTensor) -> Shape:
    source = inputs[0].shape
    axis = int(op.options["axis"]) % len(source)
    sides = {tensor.shape[:axis] + tensor.shape[axis + 1 :] for tensor in inputs}
    if len(sides) != 1:
        raise ValueError(f"parts of {[list(tensor.shape) for tensor in inputs]} on axis {axis}")
    return [*source[:axis], sum(tensor.shape[axis] for tensor in inputs), *source[axis + 1 :]]


def _fully_connected(op: LiteOp, inputs: list[LiteTensor], _target: LiteTensor) -> Shape:
    source, weight = inputs[0].shape, inputs[1].shape
    rows, left = divmod(math.prod(source), weight[1])
    if left or (op.options.get("keepNumDims") and source[-1] != weight[1]):
        raise ValueError(f"{list(source)} into rows of {weight[1]}")
    return [*source[:-1], weight[0]] if op.options.get("keepNumDims") else [rows, weight[0]]


def _batch_matmul(op: LiteOp, inputs: list[LiteTensor], _target: LiteTensor) -> Shape:
    left, right = (list(tensor.shape) for tensor in inputs[:2])
    rows, inner = left[:-3:-1] if op.options["adjX"] else left[-2:]
    other, columns = right[:-3:-1] if op.options["adjY"] else right[-2:]
    if inner != other:
        raise ValueError(f"a product of {left} and {right}")
    return [*np.broadcast_shapes(tuple(left[:-2]), tuple(right[:-2])), rows, columns]


def _resize(_op: LiteOp, inputs: list[LiteTensor], _target: LiteTensor) -> Shape:
    source = inputs[0].shape
    return [source[0], *_constant(inputs[1], 2), source[3]]


def _strided_slice(op: LiteOp, inputs: list[LiteTensor], _target: LiteTensor) -> Shape:
    source = inputs[0].shape
    begin, end, steps = (_constant(tensor, len(source)) for tensor in inputs[1:4])
    shape = []
    for first, last, step, whole in zip(begin, end, steps, source, strict=True):
        if not 0 <= first < last <= whole or step < 1:
            raise ValueError(f"from {begin} to {end} in steps of {steps}, of {list(source)}")
        shape.append(-(-(last - first) // step))
    masks = [name for name, value in op.options.items() if name.endswith("Mask") and value]
    if masks:
        raise ValueError(f"the masks {masks}")
    return shape


def _reshape(_op: LiteOp, inputs: list[LiteTensor], target: LiteTensor) -> None:
    """Any shape with as many elements will do."""
    if math.prod(inputs[0].shape) != math.prod(target.shape):
        raise ValueError(f"{list(inputs[0].shape)} into {list(target.shape)}")


def _constant(tensor: LiteTensor, length: int | None) -> list[int]:
    """The int32 values of a constant.

    Raises ValueError when it is no constant, or has another length.
    """
    wrong = length is not None and tensor.data is not None and tensor.data.size != length
    if tensor.data is None or tensor.dtype != "INT32" or wrong:
        raise ValueError(f"{tensor.name!r} is no constant of {length or 'some'} int32")
    return [int(value) for value in tensor.data.reshape(-1)]


def _slice(_op: LiteOp, inputs: list[LiteTensor], _target: LiteTensor) -> Shape:
    source = inputs[0].shape
    begin, size = (_constant(tensor, len(source)) for tensor in inputs[1:3])
    for first, count, whole in zip(begin, size, source, strict=True):
        if first < 0 or count < 1 or first + count > whole:
            raise ValueError(f"{size} elements from {begin} on, of {list(source)}")
    return size


def _mean(op: LiteOp, inputs: list[LiteTensor], _target: LiteTensor) -> Shape:
    source = inputs[0].shape
    axes = {axis % len(source) for axis in _constant(inputs[1], None)}
    if op.options["keepDims"]:
        return [1 if axis in axes else size for axis, size in enumerate(source)]
    return [size for axis, size in enumerate(source) if axis not in axes]


def _transpose(_op: LiteOp, inputs: list[LiteTensor], _target: LiteTensor) -> Shape:
    order = _constant(inputs[1], len(inputs[0].shape))
    if sorted(order) != list(range(len(order))):
        raise ValueError(f"axes in the order {order}")
    return [inputs[0].shape[axis] for axis in order]


def _window(op: LiteOp, inputs: list[LiteTensor], _target: LiteTensor) -> Shape:
    """Convolutions and pools: NHWC in and out."""
    source, options = inputs[0].shape, op.options
    kernel = (
        (options["filterHeight"], options["filterWidth"])
        if "filterHeight" in options
        else inputs[1].shape[1:3]
    )
    sides = [
        windows(
            source[1 + axis],
            int(kernel[axis]),
            int(options[f"stride{side}"]),
            int(options.get(f"dilation{side}Factor", 1)),
            int(options["padding"]),
        )[0]
        for axis, side in enumerate("HW")
    ]
    return [source[0], *sides, _window_channels(op, inputs)]


def _window_channels(op: LiteOp, inputs: list[LiteTensor]) -> int:
    """Output channels of a pool or a convolution.

    A grouped CONV_2D has as many groups as its weight's input channels fit into the input's
    channels.
    """
    channels = inputs[0].shape[3]
    if op.name not in WEIGHTED_OPS:
        return channels
    weight = inputs[1].shape
    outputs = weight[WEIGHTED_OPS[op.name]]
    inputs_of_group = 1 if op.name == "DEPTHWISE_CONV_2D" else weight[3]
    groups, left = divmod(channels, inputs_of_group)
    if left or outputs % groups or (len(inputs) > 2 and inputs[2].shape != (outputs,)):
        raise ValueError(
            f"{channels} channels with a weight of {list(weight)} and a bias of "
            f"{list(inputs[2].shape) if len(inputs) > 2 else None}"
        )
    return outputs


def _transposed_window(op: LiteOp, inputs: list[LiteTensor], _target: LiteTensor) -> Shape:
    """The shape that the first input states. SAME and VALID say what it is of the input's size."""
    stated = _constant(inputs[0], 4)
    weight, source, options = inputs[1].shape, inputs[2].shape, op.options
    if source[3] != weight[3] or stated[0] != source[0] or stated[3] != weight[0]:
        raise ValueError(f"{list(source)} with a weight of {list(weight)} into {stated}")
    for axis, side in enumerate("HW"):
        stride, size = int(options[f"stride{side}"]), source[1 + axis]
        whole = (size - 1) * stride + weight[1 + axis]
        expected = size * stride if options["padding"] == PADDING_SAME else whole
        fits = (
            -(-stated[1 + axis] // stride) == size
            if options["padding"] == PADDING_SAME
            else (stated[1 + axis] == whole)
        )
        if not fits:
            raise ValueError(f"{stated[1 + axis]} rows or columns, expected {expected}")
    return stated


SHAPES: dict[str, ShapeRule] = {
    "CONV_2D": _window,
    "DEPTHWISE_CONV_2D": _window,
    "TRANSPOSE_CONV": _transposed_window,
    "AVERAGE_POOL_2D": _window,
    "MAX_POOL_2D": _window,
    "FULLY_CONNECTED": _fully_connected,
    "ADD": _broadcast,
    "MUL": _broadcast,
    "MEAN": _mean,
    "PAD": _pad,
    "PADV2": _pad,
    "SUB": _broadcast,
    "PRELU": _broadcast,
    "BATCH_MATMUL": _batch_matmul,
    "RESIZE_BILINEAR": _resize,
    "RESIZE_NEAREST_NEIGHBOR": _resize,
    "STRIDED_SLICE": _strided_slice,
    "GELU": _same,
    "ELU": _same,
    "LEAKY_RELU": _same,
    "RSQRT": _same,
    "L2_NORMALIZATION": _same,
    "RESHAPE": _reshape,
    "TRANSPOSE": _transpose,
    "SLICE": _slice,
    "CONCATENATION": _concatenation,
    "RELU": _same,
    "RELU6": _same,
    "LOGISTIC": _same,
    "HARD_SWISH": _same,
    "TANH": _same,
    "SOFTMAX": _same,
    "QUANTIZE": _same,
}
operator_table(f"{__name__}.SHAPES", SHAPES)
