"""Exact arithmetic of TFLite's int8 operators: exact integer accumulators and one rounding.

Every kernel takes the codes of its inputs and computes in float64 the real number that the
operation means. Sums of int8 products stay far under 2^53, so they are exact. Where they stay under
2^24, float32 sums them as exactly, in half of the time. The kernel then multiplies by the scales
once and rounds half to even. Runtimes use fixed-point multipliers with one or two roundings;
`kernel_tolerances` says how far each may differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from edgekd.proof import more_kernels
from edgekd.proof.operands import Codes, Kernel, Operand, Real, to_codes
from edgekd.tflite.flatbuffer import LiteOp, LiteTensor
from edgekd.tflite.int8_rules import PADDING_SAME, windows
from edgekd.tflite.operators import operator_table

EXACT_IN_FLOAT32 = 2**24  # the first whole number after which float32 leaves some out


def _taps(
    x: Real, kernel: tuple[int, int], op: LiteOp, fill: float
) -> Iterator[tuple[int, int, Real]]:
    """Yield (row, column, the part of `x` that this tap of the kernel reads).

    `x` is NHWC and is padded with `fill`; the parts are [n, out_h, out_w, c].
    """
    options = op.options
    strides = (int(options["strideH"]), int(options["strideW"]))
    dilations = (int(options.get("dilationHFactor", 1)), int(options.get("dilationWFactor", 1)))
    plans = [
        windows(x.shape[1 + a], kernel[a], strides[a], dilations[a], int(options["padding"]))
        for a in (0, 1)
    ]
    padded = np.pad(x, ((0, 0), plans[0][1:], plans[1][1:], (0, 0)), constant_values=fill)
    for row in range(kernel[0]):
        for column in range(kernel[1]):
            top, left = row * dilations[0], column * dilations[1]
            yield (
                row,
                column,
                padded[
                    :,
                    top : top + (plans[0][0] - 1) * strides[0] + 1 : strides[0],
                    left : left + (plans[1][0] - 1) * strides[1] + 1 : strides[1],
                ],
            )


def _exact_factors(inputs: Sequence[Operand], axes: tuple[int, ...]) -> tuple[Real, Real]:
    """The map less its zero point and the weights of a convolution, to multiply and add exactly.

    `axes`: those of the weights that an output sums over. float32 where no sum can reach 2^24, up
    to which it holds every whole number; else float64.
    """
    source, weight = inputs[0], inputs[1].codes
    zero = source.zero_point
    bounds = np.iinfo(source.codes.dtype)
    largest = max(zero - int(bounds.min), int(bounds.max) - zero)
    most = int(np.abs(weight.astype(np.int64)).sum(axis=axes).max(initial=0))
    kind: Any = np.float32 if most * largest < EXACT_IN_FLOAT32 else np.float64
    return source.codes.astype(kind) - kind(zero), weight.astype(kind)


def _finish_layer(sums: Real, op: LiteOp, inputs: Sequence[Operand], output: LiteTensor) -> Codes:
    if len(inputs) > 2:
        sums = sums + inputs[2].codes.astype(np.float64)
    real = sums * (inputs[0].scale * inputs[1].tensor.scale.astype(np.float64))
    return to_codes(real, output, op.options["fusedActivationFunction"])


def conv_2d(op: LiteOp, inputs: Sequence[Operand], output: LiteTensor) -> Codes:
    """CONV_2D: int8 [n, h, w, c] with weights [o, kh, kw, c / groups] and int32 bias [o].

    Output channel o reads the input channels of group o // (outputs / groups). Source: TFLite,
    kernels/internal/reference/integer_ops/conv.h.
    """
    source, weight = _exact_factors(inputs, axes=(1, 2, 3))
    groups = source.shape[3] // weight.shape[3]
    filters = np.split(weight, groups, axis=0)
    sums: Any = 0.0
    for row, column, seen in _taps(source, (weight.shape[1], weight.shape[2]), op, 0.0):
        parts = zip(np.split(seen, groups, axis=3), filters, strict=True)
        sums = sums + np.concatenate(
            [part @ filter_[:, row, column, :].T for part, filter_ in parts], axis=3
        )
    return _finish_layer(sums, op, inputs, output)


def depthwise_conv_2d(op: LiteOp, inputs: Sequence[Operand], output: LiteTensor) -> Codes:
    """DEPTHWISE_CONV_2D: int8 [n, h, w, c], weights [1, kh, kw, c * multiplier].

    Input channel i and multiplier m give output channel i * multiplier + m.
    """
    source, weight = _exact_factors(inputs, axes=(1, 2))
    multiplier = weight.shape[3] // source.shape[3]
    sums: Any = 0.0
    for row, column, seen in _taps(source, (weight.shape[1], weight.shape[2]), op, 0.0):
        wide = seen if multiplier == 1 else np.repeat(seen, multiplier, axis=3)
        product = wide * weight[0, row, column]
        sums = np.add(sums, product, out=product)
    return _finish_layer(sums, op, inputs, output)


def transpose_conv(op: LiteOp, inputs: Sequence[Operand], output: LiteTensor) -> Codes:
    """TRANSPOSE_CONV: int8 [n, h, w, c] with weights [o, kh, kw, c], int32 bias [o].

    Its inputs are the output's shape, the weights, the map and the bias. Input pixel i adds to the
    output pixels i * stride - before + tap. SAME cuts evenly, and the odd row at the end. Source:
    TFLite, kernels/internal/reference/integer_ops/transpose_conv.h.
    """
    weight, x = inputs[1].codes.astype(np.float64), inputs[2].centred
    strides = (int(op.options["strideH"]), int(op.options["strideW"]))
    spans = [(x.shape[1 + a] - 1) * strides[a] + 1 for a in (0, 1)]
    whole = [spans[a] + weight.shape[1 + a] - 1 for a in (0, 1)]
    sums = np.zeros((x.shape[0], *whole, weight.shape[0]))
    for row in range(weight.shape[1]):
        for column in range(weight.shape[2]):
            rows = slice(row, row + spans[0], strides[0])
            columns = slice(column, column + spans[1], strides[1])
            sums[:, rows, columns] += x @ weight[:, row, column].T
    sizes = output.shape[1:3]
    same = int(op.options["padding"]) == PADDING_SAME
    first = [max(whole[a] - sizes[a], 0) // 2 if same else 0 for a in (0, 1)]
    sums = sums[:, first[0] : first[0] + sizes[0], first[1] : first[1] + sizes[1]]
    return _finish_layer(sums, op, (inputs[2], inputs[1], *inputs[3:]), output)


def fully_connected(op: LiteOp, inputs: Sequence[Operand], output: LiteTensor) -> Codes:
    """FULLY_CONNECTED: int8 [..., i] flattened to [n, i], weights [o, i], int32 bias [o]."""
    weight = inputs[1].codes.astype(np.float64)
    sums = inputs[0].centred.reshape(-1, weight.shape[1]) @ weight.T
    return _finish_layer(sums, op, inputs, output).reshape(output.shape)


def add(op: LiteOp, inputs: Sequence[Operand], output: LiteTensor) -> Codes:
    """ADD with broadcasting."""
    return to_codes(inputs[0].real + inputs[1].real, output, op.options["fusedActivationFunction"])


def mul(op: LiteOp, inputs: Sequence[Operand], output: LiteTensor) -> Codes:
    """MUL with broadcasting."""
    real = inputs[0].centred * inputs[1].centred * (inputs[0].scale * inputs[1].scale)
    return to_codes(real, output, op.options["fusedActivationFunction"])


def mean(_op: LiteOp, inputs: Sequence[Operand], output: LiteTensor) -> Codes:
    """MEAN over constant axes."""
    axes = tuple(int(axis) for axis in inputs[1].codes.reshape(-1))
    return to_codes(inputs[0].centred.mean(axis=axes) * inputs[0].scale, output).reshape(
        output.shape
    )


def average_pool_2d(op: LiteOp, inputs: Sequence[Operand], output: LiteTensor) -> Codes:
    """AVERAGE_POOL_2D: mean over the pixels inside the image, rounded half away from zero on the
    codes.
    """
    kernel = (int(op.options["filterHeight"]), int(op.options["filterWidth"]))
    codes = inputs[0].codes.astype(np.float64)
    sums: Any = 0.0
    counts: Any = 0.0
    for (_, _, seen), (_, _, inside) in zip(
        _taps(codes, kernel, op, 0.0),
        _taps(np.ones_like(codes), kernel, op, 0.0),
        strict=True,
    ):
        sums, counts = sums + seen, counts + inside
    average = np.copysign(np.floor(np.abs(sums) / counts + 0.5), sums)
    return _clamp_to_activation(average, op, output)


def max_pool_2d(op: LiteOp, inputs: Sequence[Operand], output: LiteTensor) -> Codes:
    """MAX_POOL_2D over the pixels inside the image."""
    kernel = (int(op.options["filterHeight"]), int(op.options["filterWidth"]))
    taps = _taps(inputs[0].codes.astype(np.float64), kernel, op, -np.inf)
    return _clamp_to_activation(np.maximum.reduce([seen for _, _, seen in taps]), op, output)


def _clamp_to_activation(codes: Real, op: LiteOp, output: LiteTensor) -> Codes:
    scale, zero_point = float(output.scale[0]), int(output.zero_point[0])
    return to_codes(
        (codes - zero_point) * scale, output, op.options.get("fusedActivationFunction", 0)
    )


def pad(_op: LiteOp, inputs: Sequence[Operand], output: LiteTensor) -> Codes:
    """PAD with the code of zero; PADV2 with the code of its third input."""
    amounts = [tuple(int(value) for value in pair) for pair in inputs[1].codes]
    fill = int(inputs[2].codes.reshape(-1)[0]) if len(inputs) > 2 else int(output.zero_point[0])
    return np.pad(inputs[0].codes.astype(np.int64), amounts, constant_values=fill)


def reshape(_op: LiteOp, inputs: Sequence[Operand], output: LiteTensor) -> Codes:
    """RESHAPE and SQUEEZE: the same codes."""
    return inputs[0].codes.astype(np.int64).reshape(output.shape)


def transpose(_op: LiteOp, inputs: Sequence[Operand], _output: LiteTensor) -> Codes:
    """TRANSPOSE: the same codes with permuted axes."""
    return inputs[0].codes.astype(np.int64).transpose([int(axis) for axis in inputs[1].codes])


def concatenation(op: LiteOp, inputs: Sequence[Operand], output: LiteTensor) -> Codes:
    """CONCATENATION of inputs in the output's range."""
    return np.concatenate(
        [to_codes(part.real, output) for part in inputs], axis=int(op.options["axis"])
    )


def softmax(op: LiteOp, inputs: Sequence[Operand], output: LiteTensor) -> Codes:
    """SOFTMAX over the last axis."""
    scaled = inputs[0].real * float(op.options["beta"])
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return to_codes(powers / powers.sum(axis=-1, keepdims=True), output)


def logistic(_op: LiteOp, inputs: Sequence[Operand], output: LiteTensor) -> Codes:
    """LOGISTIC: 1 / (1 + exp(-x))."""
    return to_codes(1.0 / (1.0 + np.exp(-inputs[0].real)), output)


def hard_swish(_op: LiteOp, inputs: Sequence[Operand], output: LiteTensor) -> Codes:
    """HARD_SWISH: x * relu6(x + 3) / 6 (Howard et al. 2019, arXiv:1905.02244)."""
    real = inputs[0].real
    return to_codes(real * np.clip(real + 3.0, 0.0, 6.0) / 6.0, output)


def slice_(_op: LiteOp, inputs: Sequence[Operand], _output: LiteTensor) -> Codes:
    """SLICE: `size` codes from `begin` on, for each axis."""
    begin, size = (part.codes.reshape(-1) for part in inputs[1:])
    return inputs[0].codes.astype(np.int64)[
        tuple(slice(int(b), int(b + s)) for b, s in zip(begin, size, strict=True))
    ]


def quantize(_op: LiteOp, inputs: Sequence[Operand], output: LiteTensor) -> Codes:
    """QUANTIZE between integers: the same real number in another range.

    From uint8 to int8, that is code - 128.
    """
    return to_codes(inputs[0].real, output)


def _lone_activation(activation: int) -> Kernel:
    def run(_op: LiteOp, inputs: Sequence[Operand], output: LiteTensor) -> Codes:
        return to_codes(inputs[0].real, output, activation)

    return run


KERNELS: dict[str, Kernel] = {
    "CONV_2D": conv_2d,
    "DEPTHWISE_CONV_2D": depthwise_conv_2d,
    "FULLY_CONNECTED": fully_connected,
    "ADD": add,
    "MUL": mul,
    "MEAN": mean,
    "AVERAGE_POOL_2D": average_pool_2d,
    "MAX_POOL_2D": max_pool_2d,
    "PAD": pad,
    "PADV2": pad,
    "RESHAPE": reshape,
    "SQUEEZE": reshape,
    "TRANSPOSE": transpose,
    "CONCATENATION": concatenation,
    "SOFTMAX": softmax,
    "LOGISTIC": logistic,
    "HARD_SWISH": hard_swish,
    "SLICE": slice_,
    "QUANTIZE": quantize,
    "RELU": _lone_activation(1),
    "RELU6": _lone_activation(3),
    "SUB": more_kernels.sub,
    "BATCH_MATMUL": more_kernels.batch_matmul,
    "GELU": more_kernels.gelu,
    "ELU": more_kernels.elu,
    "LEAKY_RELU": more_kernels.leaky_relu,
    "PRELU": more_kernels.prelu,
    "RSQRT": more_kernels.rsqrt,
    "L2_NORMALIZATION": more_kernels.l2_normalization,
    "RESIZE_NEAREST_NEIGHBOR": more_kernels.resize_nearest,
    "RESIZE_BILINEAR": more_kernels.resize_bilinear,
    "STRIDED_SLICE": more_kernels.strided_slice,
    "TRANSPOSE_CONV": transpose_conv,
}
operator_table(f"{__name__}.KERNELS", KERNELS)
