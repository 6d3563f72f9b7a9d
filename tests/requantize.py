"""How each kernel family turns an int32 accumulator into an int8 code, to the bit.

All three compute round(acc * M) + zero_point with M = s_in * s_w / s_out, and then clamp. They
differ in how they hold M, and in how they round ties and small errors. So each is within one code
of exact arithmetic, and seldom different from it. HARD_SWISH, which has no accumulator, is here
too.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from edgekd.tflite.int8_rules import INT8_MAX, INT8_MIN, Range

Accumulators = npt.NDArray[np.int64]  # int32 values, last axis the output channels
Scales = npt.NDArray[np.float32]  # float32 [channels] or [1]


def exact(
    acc: Accumulators, source: float, weights: Scales, target: float
) -> npt.NDArray[np.int64]:
    """Acc * M in float64, rounded half to even: the exact arithmetic of
    `edgekd.proof.exact_kernels`.
    """
    real = acc.astype(np.float64) * (np.float64(np.float32(source)) * weights.astype(np.float64))
    return np.rint(real / np.float64(np.float32(target))).astype(np.int64)


def xnnpack(
    acc: Accumulators, source: float, weights: Scales, target: float
) -> npt.NDArray[np.int64]:
    """XNNPACK's fp32 requantization (qs8-qc8w GEMM and depthwise kernels, x86 and ARMv8).

    M is computed in float32 from float32 scales, s_in * s_w first. The accumulator is rounded to
    float32 (exact under 2^24), multiplied once and rounded half to even. The product has a relative
    error of at most 2^-23, so a code differs only where acc * M lies that near to a tie.
    """
    multiplier = (np.float32(source) * weights.astype(np.float32)) / np.float32(target)
    return np.rint(acc.astype(np.float32) * multiplier).astype(np.int64)


def fixed_point(
    acc: Accumulators, source: float, weights: Scales, target: float
) -> npt.NDArray[np.int64]:
    """MultiplyByQuantizedMultiplier: the reference kernels, and the built-in depthwise convolution.

    M = q * 2^(shift - 31) with a 31-bit integer q (QuantizeMultiplier, quantization_util.cc). The
    high half of the doubled product acc * q is rounded (SaturatingRoundingDoublingHighMul), then
    divided by 2^-shift and rounded half away from zero (RoundingDivideByPOT). With two roundings, a
    value just below a tie may be lifted onto the tie and then over it. That is why a few codes in a
    thousand differ from exact arithmetic by one, and none by more.
    """
    high, right = _high_half(acc, source, weights, target)
    threshold = ((np.int64(1) << right) - 1 >> 1) + (high < 0)
    away: npt.NDArray[np.int64] = (high >> right) + (
        (high & (np.int64(1) << right) - 1) > threshold
    )
    return away


def fixed_point_half_up(
    acc: Accumulators, source: float, weights: Scales, target: float
) -> npt.NDArray[np.int64]:
    """Ruy's multiplication, which the built-in CONV_2D and FULLY_CONNECTED use.

    It is `fixed_point` with ties of the second rounding going up, also below zero. This was seen on
    x86 with AVX-512; ruy's other kernels were not run.
    """
    high, right = _high_half(acc, source, weights, target)
    mask = (np.int64(1) << right) - 1
    up: npt.NDArray[np.int64] = (high >> right) + ((high & mask) > (mask >> 1))
    return up


def _high_half(
    acc: Accumulators, source: float, weights: Scales, target: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """(high half of 2 * acc * q, rounded; the bits by which to shift it right), both int64."""
    multipliers = (
        np.float64(np.float32(source)) * weights.astype(np.float64) / np.float64(np.float32(target))
    )
    held = [quantize_multiplier(float(value)) for value in multipliers]
    q, shift = (np.array([part[index] for part in held], np.int64) for index in (0, 1))
    product = acc.astype(np.int64) * (np.int64(1) << np.maximum(shift, 0)) * q
    nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    high = np.where(
        nudged >= 0, nudged >> 31, -((-nudged) >> 31)
    )  # C++ rounds a division towards zero
    return high, np.maximum(-shift, 0)


def hard_swish(
    codes: npt.NDArray[np.integer], source: Range, target: Range
) -> npt.NDArray[np.int64]:
    """HARD_SWISH of int8 codes of any shape, in int16 (reference/hard_swish.h).

    The optimized kernels compute the same. x is held 128 times finer, and relu6(x + 3) / 6 in 15
    bits. Their product is shifted down and rounded once. Raises ValueError for s_in / 128 >= s_out,
    where the kernel would have to shift up and refuses.
    """
    hires = np.float32(1 / 128) * np.float32(source.scale)
    (out, out_shift), (relu, relu_shift) = (
        _multiplier16(float(hires / np.float32(scale))) for scale in (target.scale, 3.0 / 32768.0)
    )
    if out_shift > 0:
        raise ValueError(
            f"an output scale of {target.scale:.3g} is under 1/128 of the input's "
            f"{source.scale:.3g}"
        )
    fine = (codes.astype(np.int64) - source.zero_point) << 7
    factor = np.clip(fine << max(relu_shift - 1, 0), -(1 << 15), (1 << 15) - 1)
    factor = _high_half16(factor, relu)
    if relu_shift > 0:
        factor = np.clip(factor << 1, -(1 << 15), (1 << 15) - 1)
    factor = (_divide_by_power(factor, max(-relu_shift, 0)) + (1 << 15)) >> 1
    product = factor * _high_half16(fine, out)
    product = np.where(
        product >= 0, product >> 15, -((-product) >> 15)
    )  # C++ rounds a division towards zero
    return np.clip(_divide_by_power(product, -out_shift) + target.zero_point, INT8_MIN, INT8_MAX)


def _multiplier16(value: float) -> tuple[int, int]:
    """(q, shift) with value ~ q * 2^(shift - 15): `quantize_multiplier` cut to 16 bits.

    Source: DownScaleInt32ToInt16Multiplier.
    """
    q, shift = quantize_multiplier(value)
    return min((q + (1 << 15)) >> 16, (1 << 15) - 1), shift


def _high_half16(value: npt.NDArray[np.int64], q: int) -> npt.NDArray[np.int64]:
    """SaturatingRoundingDoublingHighMul of int16 values."""
    product = value * q
    nudged = product + np.where(product >= 0, 1 << 14, 1 - (1 << 14))
    high: npt.NDArray[np.int64] = np.where(nudged >= 0, nudged >> 15, -((-nudged) >> 15))
    return high


def _divide_by_power(value: npt.NDArray[np.int64], right: int) -> npt.NDArray[np.int64]:
    """RoundingDivideByPOT: ties are rounded away from zero."""
    mask = (1 << right) - 1
    away: npt.NDArray[np.int64] = (value >> right) + ((value & mask) > (mask >> 1) + (value < 0))
    return away


def quantize_multiplier(value: float) -> tuple[int, int]:
    """(q, shift) with value ~ q * 2^(shift - 31) and q in [2^30, 2^31); (0, 0) for a value under
    2^-32.
    """
    if value == 0.0:
        return 0, 0
    mantissa, shift = math.frexp(value)
    q = math.floor(mantissa * (1 << 31) + 0.5)
    if q == 1 << 31:
        q, shift = q // 2, shift + 1
    return (0, 0) if shift < -31 else (q, shift)


# (kernel family, op) -> its arithmetic; tests/test_requantize.py holds each to the runtime's own
# output, bit for bit
ARITHMETIC: dict[
    tuple[str, str], Callable[[Accumulators, float, Scales, float], npt.NDArray[np.int64]]
] = {
    ("xnnpack", "CONV_2D"): xnnpack,
    ("xnnpack", "DEPTHWISE_CONV_2D"): xnnpack,
    ("xnnpack", "FULLY_CONNECTED"): xnnpack,
    ("builtin", "CONV_2D"): fixed_point_half_up,
    ("builtin", "DEPTHWISE_CONV_2D"): fixed_point,
    ("builtin", "FULLY_CONNECTED"): fixed_point_half_up,
    ("reference", "CONV_2D"): fixed_point,
    ("reference", "DEPTHWISE_CONV_2D"): fixed_point,
    ("reference", "FULLY_CONNECTED"): fixed_point,
}
