"""Exact arithmetic of TFLite's int8 operators beyond those of convolutional networks.

They are the activations of today's networks, attention, normalizations, and resizing. See
`exact_kernels`, which holds the others and the table of all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from edgekd.proof.operands import Codes, Operand, Real, to_codes
from edgekd.tflite.flatbuffer import LiteOp, LiteTensor
from edgekd.tflite.int8_rules import INT8_MAX, INT8_MIN


def sub(op: LiteOp, inputs: Sequence[Operand], output: LiteTensor) -> Codes:
    """SUB with broadcasting."""
    return to_codes(inputs[0].real - inputs[1].real, output, op.options["fusedActivationFunction"])


def batch_matmul(op: LiteOp, inputs: Sequence[Operand], output: LiteTensor) -> Codes:
    """BATCH_MATMUL: int8 [..., m, k] by [..., k, n], each transposed where the options say so."""
    left, right = (part.centred for part in inputs[:2])
    left = left.swapaxes(-1, -2) if op.options["adjX"] else left
    right = right.swapaxes(-1, -2) if op.options["adjY"] else right
    return to_codes(left @ right * (inputs[0].scale * inputs[1].scale), output)


def _table(
    inputs: Sequence[Operand], output: LiteTensor, function: Callable[[Real], Real]
) -> Codes:
    """A function of each element, computed once for each of the 256 codes."""
    codes = np.arange(INT8_MIN, INT8_MAX + 1, dtype=np.float64)
    values = to_codes(function((codes - inputs[0].zero_point) * inputs[0].scale), output)
    return values[inputs[0].codes.astype(np.int64) - INT8_MIN]


def gelu(op: LiteOp, inputs: Sequence[Operand], output: LiteTensor) -> Codes:
    """GELU: x / 2 * (1 + erf(x / sqrt(2))), or its approximation by tanh (arXiv:1606.08415)."""
    if op.options.get("approximate"):
        return _table(
            inputs,
            output,
            lambda x: x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
        )
    erf = np.vectorize(math.erf)
    return _table(inputs, output, lambda x: x / 2 * (1 + erf(x / math.sqrt(2))))


def elu(_op: LiteOp, inputs: Sequence[Operand], output: LiteTensor) -> Codes:
    """ELU: x, or exp(x) - 1 below zero."""
    return _table(inputs, output, lambda x: np.where(x < 0, np.expm1(np.minimum(x, 0)), x))


def leaky_relu(op: LiteOp, inputs: Sequence[Operand], output: LiteTensor) -> Codes:
    """LEAKY_RELU: x, or alpha * x below zero."""
    alpha = float(op.options["alpha"])
    return _table(inputs, output, lambda x: np.where(x < 0, alpha * x, x))


def prelu(_op: LiteOp, inputs: Sequence[Operand], output: LiteTensor) -> Codes:
    """PRELU: x, or slope * x below zero, with a slope for each channel."""
    real = inputs[0].real
    return to_codes(np.where(real < 0, real * inputs[1].real, real), output)


def rsqrt(_op: LiteOp, inputs: Sequence[Operand], output: LiteTensor) -> Codes:
    """RSQRT: 1 / sqrt(x). Zero gives the largest code."""

    def inverse_root(x: Real) -> Real:
        return np.where(x > 0, 1.0 / np.sqrt(np.maximum(x, np.finfo(np.float64).tiny)), 1e30)

    return _table(inputs, output, inverse_root)


def l2_normalization(_op: LiteOp, inputs: Sequence[Operand], output: LiteTensor) -> Codes:
    """L2_NORMALIZATION over the last axis. The scale of the input cancels; zeros stay zeros."""
    centred = inputs[0].centred
    norm = np.sqrt((centred * centred).sum(axis=-1, keepdims=True))
    return to_codes(centred / np.maximum(norm, 1.0), output)


def resize_nearest(op: LiteOp, inputs: Sequence[Operand], output: LiteTensor) -> Codes:
    """RESIZE_NEAREST_NEIGHBOR: pixel floor(i * in / out), or floor((i + 1/2) * in / out)."""
    codes, shift = inputs[0].codes.astype(np.int64), 0.5 * bool(op.options["halfPixelCenters"])
    rows, columns = (
        np.floor((np.arange(output.shape[axis]) + shift) * codes.shape[axis] / output.shape[axis])
        for axis in (1, 2)
    )
    return codes[:, rows.astype(int)][:, :, columns.astype(int)]


def resize_bilinear(op: LiteOp, inputs: Sequence[Operand], output: LiteTensor) -> Codes:
    """RESIZE_BILINEAR: the weighted mean of four pixels, on the codes."""
    real, shift = inputs[0].real, 0.5 * bool(op.options["halfPixelCenters"])
    for axis in (1, 2):
        size, wanted = real.shape[axis], output.shape[axis]
        ratio = size / wanted
        if op.options["alignCorners"] and wanted > 1:
            ratio = (size - 1) / (wanted - 1)
        place = np.clip((np.arange(wanted) + shift) * ratio - shift, 0, size - 1)
        first = np.floor(place).astype(int)
        second, share = np.minimum(first + 1, size - 1), place - first
        share = share.reshape([-1 if index == axis else 1 for index in range(real.ndim)])
        real = real.take(first, axis) * (1 - share) + real.take(second, axis) * share
    return to_codes(real, output)


def strided_slice(_op: LiteOp, inputs: Sequence[Operand], _output: LiteTensor) -> Codes:
    """STRIDED_SLICE: from `begin` to `end` in steps, for each axis."""
    begin, end, steps = (part.codes.reshape(-1) for part in inputs[1:])
    places = tuple(slice(int(b), int(e), int(s)) for b, e, s in zip(begin, end, steps, strict=True))
    return inputs[0].codes.astype(np.int64)[places]
