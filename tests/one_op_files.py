"""Files of one int8 operator each, for every operator that the int8 route writes."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekd.export.model_builder import OPTIONS, ModelBuilder
from edgekd.tflite.operators import Operator

SIDE, CHANNELS, FILTERS = 8, 16, 24
WHOLE = (1, SIDE, SIDE, CHANNELS)
WINDOW = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
POOL = {"padding": 1, "strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2}
PADS = [[0, 0], [1, 1], [1, 1], [0, 0]]
# operator -> (shape of the output, its further inputs, its options); strings are repeated inputs
SHAPED: dict[str, tuple[tuple[int, ...], list[Any], dict[str, Any]]] = {
    "AVERAGE_POOL_2D": ((1, 4, 4, CHANNELS), [], POOL),
    "MAX_POOL_2D": ((1, 4, 4, CHANNELS), [], POOL),
    "BATCH_MATMUL": ((1, SIDE, SIDE, SIDE), ["input"], {"adjX": False, "adjY": True}),
    "CONCATENATION": ((1, SIDE, SIDE, 2 * CHANNELS), ["input"], {"axis": 3}),
    "MEAN": ((1, 1, 1, CHANNELS), [[1, 2]], {"keepDims": True}),
    "PAD": ((1, SIDE + 2, SIDE + 2, CHANNELS), [PADS], {}),
    "RESHAPE": ((1, 1024), [[1, 1024]], {"newShape": [1, 1024]}),
    "RESIZE_BILINEAR": ((1, 16, 16, CHANNELS), [[16, 16]], {"halfPixelCenters": True}),
    "RESIZE_NEAREST_NEIGHBOR": ((1, 16, 16, CHANNELS), [[16, 16]], {"halfPixelCenters": True}),
    "SLICE": ((1, SIDE, SIDE, 8), [[0, 0, 0, 0], [1, SIDE, SIDE, 8]], {}),
    "STRIDED_SLICE": (
        (1, SIDE, SIDE, 8),
        [[0, 0, 0, 0], [1, SIDE, SIDE, 8], [1, 1, 1, 1]],
        {},
    ),
    "TRANSPOSE": ((1, CHANNELS, SIDE, SIDE), [[0, 3, 1, 2]], {}),
    "ADD": (WHOLE, ["input"], {}),
    "SUB": (WHOLE, ["input"], {}),
    "MUL": (WHOLE, ["input"], {}),
    "LEAKY_RELU": (WHOLE, [], {"alpha": 0.1}),
    "SOFTMAX": (WHOLE, [], {"beta": 1.0}),
}
# Ranges that a kernel asks for, as (scale, zero point) of the output.
GRIDS = {"LOGISTIC": (1 / 256, -128), "SOFTMAX": (1 / 256, -128), "L2_NORMALIZATION": (1 / 128, 0)}


def weights(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(1).integers(-127, 128, shape).astype(np.int8)


class OneOp:
    """Builds the file of one operator."""

    def __init__(self, op: str) -> None:
        self.op, self.builder = op, ModelBuilder()

    def codes(self, name: str, shape: tuple[int, ...], data: Any = None, **grid: Any) -> int:
        grid = {"scale": [0.05], "zero_point": [0], **grid}
        return self.builder.tensor(name, shape, "INT8", data=data, **grid)

    def numbers(self, name: str, values: Any) -> int:
        return self.builder.tensor(name, np.shape(values), "INT32", data=np.array(values, np.int32))

    def filters(self, shape: tuple[int, ...], axis: int) -> list[int]:
        """Weights and a bias with a scale for each output channel."""
        count = shape[axis]
        scales = {"scale": [0.01] * count, "zero_point": [0] * count}
        bias = self.builder.tensor(
            "bias",
            (count,),
            "INT32",
            scale=[0.0005] * count,
            zero_point=[0] * count,
            data=np.zeros(count, np.int32),
        )
        return [self.codes("weights", shape, weights(shape), axis=axis, **scales), bias]

    def finish(self, inputs: list[int], output: int, options: dict[str, Any]) -> bytes:
        self.builder.op(self.op, inputs, [output], options if self.op in OPTIONS else None)
        return self.builder.finish("input", "output", "one op")

    def shaped(self) -> bytes:
        shape, further, options = SHAPED.get(self.op, (WHOLE, [], {}))
        source = self.codes("input", WHOLE)
        inputs = [
            source if one == "input" else self.numbers(f"extra{index}", one)
            for index, one in enumerate(further)
        ]
        scale, zero = GRIDS.get(self.op, (0.05, 0))
        output = self.codes("output", shape, scale=[scale], zero_point=[zero])
        return self.finish([source, *inputs], output, options)


def one_op_file(op: str) -> bytes:
    """A .tflite of that operator alone, which reads a map of int8 codes."""
    one = OneOp(op)
    if op == Operator.FULLY_CONNECTED:
        source, output = one.codes("input", (1, 64)), one.codes("output", (1, 10))
        return one.finish([source, *one.filters((10, 64), 0)], output, {})
    if op == Operator.CONV_2D:
        source = one.codes("input", WHOLE)
        shape = (FILTERS, 3, 3, CHANNELS)
        output = one.codes("output", (1, SIDE, SIDE, FILTERS))
        return one.finish([source, *one.filters(shape, 0)], output, WINDOW)
    if op == Operator.DEPTHWISE_CONV_2D:
        source, options = one.codes("input", WHOLE), {**WINDOW, "depthMultiplier": 1}
        inputs = [source, *one.filters((1, 3, 3, CHANNELS), 3)]
        return one.finish(inputs, one.codes("output", WHOLE), options)
    if op == Operator.TRANSPOSE_CONV:
        source, shape = one.codes("input", WHOLE), (1, 2 * SIDE, 2 * SIDE, FILTERS)
        kernel = one.filters((FILTERS, 3, 3, CHANNELS), 0)[0]
        options = {"padding": 0, "strideH": 2, "strideW": 2}
        inputs = [one.numbers("shape", shape), kernel, source]
        return one.finish(inputs, one.codes("output", shape), options)
    if op == Operator.PADV2:
        source, value = one.codes("input", WHOLE), one.codes("value", (1,), np.int8([-128]))
        output = one.codes("output", (1, SIDE + 2, SIDE + 2, CHANNELS))
        return one.finish([source, one.numbers("pads", PADS), value], output, {})
    if op == Operator.PRELU:
        shape = (1, 1, CHANNELS)
        inputs = [one.codes("input", WHOLE), one.codes("alpha", shape, weights(shape))]
        return one.finish(inputs, one.codes("output", WHOLE), {})
    if op == Operator.QUANTIZE:
        output = one.builder.tensor("output", WHOLE, "UINT8", scale=[0.05], zero_point=[128])
        return one.finish([one.codes("input", WHOLE)], output, {})
    return one.shaped()
