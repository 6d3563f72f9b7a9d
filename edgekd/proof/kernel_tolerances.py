"""How many LSB a runtime's operator may differ from exact arithmetic, and why.

The arithmetic of each operator in the three kernel families (`kernel_runs.FAMILIES`):

    CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED, TRANSPOSE_CONV
        The int32 sums are exact in every family. Only their rounding to int8 differs: 1 LSB
        (`tests/requantize.py` computes it to the bit).
    ADD
        xnnpack: 32-bit fixed-point multipliers of about 21 bits and one rounding. builtin and
        reference: inputs shifted left by 20 bits, one fixed-point multiplier for each, and a third
        one for the sum. An error of 2^-20 and one rounding: 1 LSB.
    MUL
        The int32 product is rounded as the sum of a convolution, with or without broadcasting: 1
        LSB. A clamp to [0, 1] (hard-sigmoid) is the saturation of its layer, and a lone batch norm
        is a DEPTHWISE_CONV_2D.
    MEAN
        The sums are exact. Division and rescaling share one multiplier: float32 in xnnpack, fixed
        point with a shift in the others. Their two roundings meet many ties (a count of 9 or 16),
        so up to 40 % of the elements differ by 1 LSB, and none by 2.
    AVERAGE_POOL_2D
        Integer division of the codes, rounded half away from zero: 1 LSB for a runtime that divides
        in float32.
    LOGISTIC, TANH
        builtin and xnnpack: a table of 256 float results. reference: gemmlowp's fixed-point
        logistic: 1 LSB.
    SOFTMAX
        builtin and reference: exponentials from a table or in fixed point, of 16 to 31 bits, and
        one rounding to 1/256: 1 LSB.
    HARD_SWISH
        16-bit fixed point. x and relu6(x + 3) / 6 have 15 bits each, so their product, shifted down
        to a code and rounded once, is within 1 LSB for s_in / s_out up to 128. The kernel refuses a
        file beyond that ratio; training keeps it under 64.
    RELU, RELU6 as operators of their own
        Rescaling by one multiplier: 1 LSB.
    GELU, ELU, LEAKY_RELU
        GELU and ELU are tables of 256 float results in every family. LEAKY_RELU rescales each side
        of zero by one multiplier. All round once: 1 LSB.
    PRELU, SUB
        As MUL and ADD: fixed-point multipliers and one rounding: 1 LSB.
    BATCH_MATMUL
        The int32 sums are exact, as in a convolution: 1 LSB.
    L2_NORMALIZATION
        The sum of squares is exact in int32. Its inverse root has 31 bits, from Newton's
        iterations in fixed point, and each code is multiplied by it once: 1 LSB.
    RSQRT
        The inverse root of a code has 31 bits, is shifted to 20, and is rescaled by one
        multiplier: 1 LSB.
    RESIZE_BILINEAR
        The shares of the four pixels have 10 bits each in the integer kernels: 1 LSB.
    MAX_POOL_2D, PAD, PADV2, RESHAPE, SQUEEZE, TRANSPOSE, SLICE, STRIDED_SLICE,
    RESIZE_NEAREST_NEIGHBOR, CONCATENATION of one range,
    QUANTIZE between uint8 and int8
        Codes are moved and not computed: exact.
"""

from __future__ import annotations

import dataclasses

from edgekd.tflite.operators import operator_table


@dataclasses.dataclass(frozen=True)
class Tolerance:
    """The largest difference from exact arithmetic in LSB, and the reason for it."""

    lsb: int
    why: str

    def gated(self, max_lsb: int) -> int:
        """The difference that is allowed when the recipe's gate on rounding operators is `max_lsb`.

        The gate takes the place of a tolerance of 1. Operators that move codes have no gate.
        """
        return max_lsb if self.lsb == 1 else self.lsb


MOVES_CODES = Tolerance(0, "moves codes: nothing is rounded")
ROUNDING = Tolerance(1, "one or two roundings of a product with a multiplier of 24 to 31 bits")
TOLERANCES: dict[str, Tolerance] = {
    "CONV_2D": ROUNDING,
    "DEPTHWISE_CONV_2D": ROUNDING,
    "FULLY_CONNECTED": ROUNDING,
    "TRANSPOSE_CONV": ROUNDING,
    "MUL": ROUNDING,
    "RELU": ROUNDING,
    "RELU6": ROUNDING,
    "ADD": Tolerance(1, "two input multipliers and an output multiplier in fixed point of 20 bits"),
    "MEAN": Tolerance(1, "division and rescaling share one multiplier; ties are common"),
    "AVERAGE_POOL_2D": Tolerance(1, "integer division here, float division there"),
    "LOGISTIC": Tolerance(1, "a table of float results here, fixed-point exponentials there"),
    "SOFTMAX": Tolerance(1, "exponentials from a table or in fixed point"),
    "HARD_SWISH": Tolerance(1, "two factors of 15 bits and one rounding against real numbers"),
    "SUB": ROUNDING,
    "PRELU": ROUNDING,
    "BATCH_MATMUL": ROUNDING,
    "LEAKY_RELU": ROUNDING,
    "GELU": Tolerance(1, "a table of float32 results, each rounded once"),
    "ELU": Tolerance(1, "a table of float32 results, each rounded once"),
    "RSQRT": Tolerance(1, "an inverse root of 20 bits, and one multiplier"),
    "L2_NORMALIZATION": Tolerance(1, "an inverse root of 31 bits, and one rounding"),
    "RESIZE_BILINEAR": Tolerance(1, "shares of 10 bits for each of four pixels"),
    "RESIZE_NEAREST_NEIGHBOR": MOVES_CODES,
    "STRIDED_SLICE": MOVES_CODES,
    "MAX_POOL_2D": MOVES_CODES,
    "PAD": MOVES_CODES,
    "PADV2": MOVES_CODES,
    "RESHAPE": MOVES_CODES,
    "TRANSPOSE": MOVES_CODES,
    "SQUEEZE": MOVES_CODES,
    "SLICE": MOVES_CODES,
    "CONCATENATION": MOVES_CODES,
    "QUANTIZE": Tolerance(0, "uint8 to int8 and back: the code less 128, and more"),
}
operator_table(f"{__name__}.TOLERANCES", TOLERANCES)
UNSTATED = Tolerance(1, "one rounding")  # an operator without a row of its own


def tolerance(op: str) -> Tolerance:
    """The tolerance of an operator, by its TFLite name."""
    return TOLERANCES.get(op, UNSTATED)
