"""How views become TFLite operators: RESHAPE, SLICE, CONCATENATION, PAD, and no TRANSPOSE yet.

A Transpose only changes the order in which the file's axes are counted (`axis_orders`), and so does
a Reshape that keeps its shape in the file.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekd.export.axis_orders import (
    file_axes,
    file_shape,
    long_axes,
    natural,
    permuted,
    reshaped,
    with_short_axes,
)
from edgekd.export.lowering_state import Lowering
from edgekd.export.tensor_places import Stored
from edgekd.tflite.int8_rules import Range
from edgekd.tflite.operators import Operator


def reshape(state: Lowering, node: Any) -> None:
    """Reshape: RESHAPE, behind a TRANSPOSE where torch's order of the elements is another one."""
    edge, source = node.output[0], node.input[0]
    stored, sizes, target = state.find(source), state.shapes[source], state.shapes[edge]
    axes = reshaped(sizes, stored.axes, target)
    shape = None if axes is None else file_shape(target, axes)
    if axes is not None and shape == list(stored.shape) and source not in state.constants:
        state.stored[edge] = Stored(stored.index, stored.shape, stored.edge, axes)
        return
    index = stored.index
    if axes is None:
        index = state.read(source, range(len(sizes)))
        axes = with_short_axes(long_axes(range(len(target)), target), target, range(len(target)))
        if axes == tuple(range(len(target))) and natural(len(target)) != axes:
            axes = with_short_axes(long_axes(axes, target), target)
        shape = file_shape(target, axes)
    state.stored.pop(edge, None)
    values = np.array(shape, np.int32)
    vector = state.builder.tensor(f"{edge}_shape", values.shape, "INT32", data=values)
    state.builder.op(Operator.RESHAPE, [index, vector], [state.result_of(edge, axes, shape)], None)


def transpose(state: Lowering, node: Any) -> None:
    """Transpose: the same tensor of the file, whose axes have other numbers now."""
    edge, source = node.output[0], node.input[0]
    stored = state.find(source)
    order = [int(axis) for axis in state.attributes[edge]["perm"]]
    axes = permuted(stored.axes, order)
    state.stored[edge] = Stored(stored.index, stored.shape, stored.edge, axes)


def slice_(state: Lowering, node: Any) -> None:
    """Slice: SLICE, or STRIDED_SLICE where it has gaps."""
    edge, source = node.output[0], node.input[0]
    values = [int(state.constants[name][0]) for name in node.input[1:]]
    start, end, axis = values[:3]
    step = values[3] if len(values) > 3 else 1
    axes, sizes = state.find(source).axes, state.shapes[source]
    kept = file_axes(sizes, axes)
    shape = [state.shapes[edge][one] for one in kept]
    begin = [start if one == axis else 0 for one in kept]
    parts: list[tuple[str, list[int]]] = [("begin", begin), ("size", shape)]
    if step != 1:
        ends = [end if one == axis else sizes[one] for one in kept]
        strides = [step if one == axis else 1 for one in kept]
        parts = [("begin", begin), ("end", ends), ("strides", strides)]
    vectors = [
        state.builder.tensor(
            f"{edge}_{part}", (len(value),), "INT32", data=np.array(value, np.int32)
        )
        for part, value in parts
    ]
    state.builder.op(
        Operator.SLICE if step == 1 else Operator.STRIDED_SLICE,
        [state.read(source, axes), *vectors],
        [state.result_of(edge, axes, shape)],
        {},
    )


def concat(state: Lowering, node: Any) -> None:
    """Concat: CONCATENATION, in the order of its largest part."""
    edge = node.output[0]
    sizes = state.shapes[edge]
    computed = [name for name in node.input if name not in state.constants]
    axes = state.find(max(computed, key=lambda name: np.prod(state.shapes[name]))).axes
    kept = file_axes(sizes, axes)
    along = int(state.attributes[edge]["axis"]) % len(sizes)
    shapes = [[state.find_sizes(name)[one] for one in kept] for name in node.input]
    state.builder.op(
        Operator.CONCATENATION,
        [state.read(name, axes, shape) for name, shape in zip(node.input, shapes, strict=True)],
        [state.result_of(edge, axes)],
        {"axis": kept.index(along), "fusedActivationFunction": 0},
    )


def pad(state: Lowering, node: Any) -> None:
    """Pad: a PAD, a PADV2 for another number than zero, or nothing where a convolution takes it."""
    edge, source = node.output[0], node.input[0]
    amounts = [int(value) for value in state.constants[node.input[1]]]
    rank = len(amounts) // 2
    readers = state.consumers.get(edge, [])
    inner = rank == 4 and not any(amounts[axis] or amounts[rank + axis] for axis in (0, 1))
    filled = len(node.input) > 2
    if inner and not filled and len(readers) == 1 and readers[0].op_type == "Conv":
        state.pad_of[edge] = (source, [amounts[2], amounts[3], amounts[6], amounts[7]])
        return
    axes = state.find(source).axes
    kept = file_axes(state.shapes[source], axes)
    pairs = np.array([[amounts[axis], amounts[rank + axis]] for axis in kept], np.int32)
    shape = [state.shapes[edge][axis] for axis in kept]
    vector = state.builder.tensor(f"{edge}_amounts", pairs.shape, "INT32", data=pairs)
    inputs, target = [state.read(source, axes), vector], state.result_of(edge, axes, shape)
    if not filled:
        state.builder.op(Operator.PAD, inputs, [target], {})
        return
    learned = state.exported.ranges[edge]
    grid = Range(float(learned["scale"]), int(learned["zero_point"]))
    code = state.builder.tensor(
        f"{edge}_fill",
        (),
        "INT8",
        data=grid.quantize(state.constants[node.input[2]]),
        scale=[learned["scale"]],
        zero_point=[learned["zero_point"]],
    )
    state.builder.op(Operator.PADV2, [*inputs, code], [target], {})


def resize(state: Lowering, node: Any) -> None:
    """Resize: RESIZE_BILINEAR or RESIZE_NEAREST_NEIGHBOR."""
    edge = node.output[0]
    bilinear = state.attributes[edge]["mode"] == b"linear"
    pixels = state.attributes[edge]["coordinate_transformation_mode"]
    sizes = np.array(state.shapes[edge][2:], np.int32)
    vector = state.builder.tensor(f"{edge}_sizes", sizes.shape, "INT32", data=sizes)
    state.builder.op(
        Operator.RESIZE_BILINEAR if bilinear else Operator.RESIZE_NEAREST_NEIGHBOR,
        [state.read(node.input[0]), vector],
        [state.result_of(edge)],
        {
            "alignCorners": pixels == b"align_corners",
            "halfPixelCenters": pixels == b"half_pixel",
        },
    )
