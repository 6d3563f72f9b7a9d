"""TFLite's int8 rules as data and arithmetic, on which the whole int8 route relies. numpy only.

A real number is r = scale * (q - zero_point). The rules are those of the LiteRT 8-bit quantization
specification (tflite/g3doc/performance/quantization_spec.md). Scales are float32 in the file. They
are computed in float64 and rounded once: float32 minima and maxima would change one scale in ten by
a bit.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.core.errors import RecipeError, UnsupportedNetwork, nearest
from edgekd.tflite.operators import operator_group, operator_table

INT8_MIN, INT8_MAX = -128, 127  # activations use the whole of int8
# Weights use [-127, 127], so that -128 * -128 never occurs in a 16-bit product (spec, "Symmetric").
WEIGHT_LIMIT = 127
# A bias is int32 with scale s_in * s_w. Half of the int32 range is left to the products added to
# it.
BIAS_LIMIT = 2.0**30
# QuantizeMultiplier (tflite/kernels/internal/quantization_util.cc) turns a multiplier under 2^-32
# into zero and XNNPACK refuses it; one bit of margin for the float32 rounding of the scales.
MULTIPLIER_FLOOR = 2.0**-31
# XNNPACK refuses the whole model when one channel's multiplier reaches 2^8 ("failed to create
# XNNPACK runtime"). One step of the accumulator then moves the output through all its 256 codes, so
# clipping such weights loses nothing.
MULTIPLIER_CEILING = 255.0
# The smallest scale of a constant activation, or of a weight channel that is all zero: it keeps the
# scale a normal float32 and r / scale finite. Any other edge of a network is many orders wider.
SCALE_FLOOR = 2.0**-30

# Input and output share scale and zero point (spec, "Int8 quantized operator specifications").
SAME_SCALE_OPS = frozenset(
    {
        "AVERAGE_POOL_2D",
        "MAX_POOL_2D",
        "CONCATENATION",
        "RESHAPE",
        "RESIZE_BILINEAR",
        "RESIZE_NEAREST_NEIGHBOR",
        "SPACE_TO_DEPTH",
        "PAD",
        "PADV2",
        "GATHER",
        "BATCH_TO_SPACE_ND",
        "SPACE_TO_BATCH_ND",
        "TRANSPOSE",
        "SQUEEZE",
        "MAXIMUM",
        "MINIMUM",
        "SLICE",
        "STRIDED_SLICE",
    }
)
# The output has a range of its own, learned in training.
OWN_RANGE_OPS = frozenset(
    {
        "ADD",
        "BATCH_MATMUL",
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "ELU",
        "FULLY_CONNECTED",
        "GELU",
        "HARD_SWISH",
        "LEAKY_RELU",
        "MEAN",
        "MUL",
        "PRELU",
        "QUANTIZE",
        "RELU",
        "RELU6",
        "RSQRT",
        "SUB",
        "TRANSPOSE_CONV",
    }
)
# Operator -> the inputs whose zero point must be 0. XNNPACK's BATCH_MATMUL leaves out that of its
# second operand: with ai-edge-litert 2.1.2 a zero point of 7 gave results that were off by 60
# codes. TFLite's own kernels take any.
SYMMETRIC_INPUTS: dict[str, tuple[int, ...]] = {"BATCH_MATMUL": (1,)}
operator_group(f"{__name__}.SYMMETRIC_INPUTS", SYMMETRIC_INPUTS, "its inputs may have any range")
# Operator -> the axis of its TFLite weight tensor that holds the output channels.
WEIGHTED_OPS: dict[str, int] = {
    "CONV_2D": 0,  # OHWI
    "DEPTHWISE_CONV_2D": 3,  # 1HWO
    "FULLY_CONNECTED": 0,  # OI
    "TRANSPOSE_CONV": 0,  # OHWI
}
operator_group(f"{__name__}.WEIGHTED_OPS", WEIGHTED_OPS, "it has no trained weights")
# Operator -> the index of the input that holds its data, where it is not the first: that is the
# shape of the output. The weights of TRANSPOSE_CONV are input 1, as everywhere.
DATA_INPUT: dict[str, int] = {"TRANSPOSE_CONV": 2}
operator_group(f"{__name__}.DATA_INPUT", DATA_INPUT, "its first input holds the data")
# Operators that exist only because some tensor is not int8.
FLOAT_OPS = frozenset({"QUANTIZE", "DEQUANTIZE"})
PADDING_SAME = 0  # schema.fbs, enum Padding: the border that gives ceil(size / stride) outputs
PADDING_VALID = 1  # no border
# A clamp to [0, 1] behind a layer (hard-sigmoid), without an activation in the file. Its range is
# observed after the clamp, so zero is code -128, the top is at most 1, and int8 saturation is the
# clamp.
SATURATION = "SATURATION"
# HARD_SWISH works in int16 and needs s_in / 128 < s_out (kernels/activations.cc:
# output_multiplier_exponent <= 0), or the runtime refuses the file. Half of that leaves one bit of
# margin. An output so narrow has an input far below -3 nearly everywhere, so the wider step loses
# nothing.
HARD_SWISH_RATIO = 64.0

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.signedinteger[Any]]


@dataclasses.dataclass(frozen=True)
class Range:
    """Scale and zero point of one activation. `scale` is a float32 value held in a Python float."""

    scale: float
    zero_point: int

    def quantize(self, real: FloatArray) -> npt.NDArray[np.int8]:
        """Codes of real numbers, any shape: round half to even, then saturate."""
        codes = np.rint(np.asarray(real, np.float64) / self.scale) + self.zero_point
        return np.clip(codes, INT8_MIN, INT8_MAX).astype(np.int8)

    def dequantize(self, codes: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Real numbers of codes, any shape: scale * (q - zero_point), rounded once to float32."""
        return ((codes.astype(np.float64) - self.zero_point) * self.scale).astype(np.float32)


# Spec: LOGISTIC and SOFTMAX give 0..1 in steps of 1/256; TANH and L2_NORMALIZATION -1..1;
# LOG_SOFTMAX -16..0.
FIXED_OUTPUT: dict[str, Range] = {
    "LOGISTIC": Range(1 / 256, -128),
    "SOFTMAX": Range(1 / 256, -128),
    "TANH": Range(1 / 128, 0),
    "L2_NORMALIZATION": Range(1 / 128, 0),
    "LOG_SOFTMAX": Range(16 / 256, 127),
}
operator_group(f"{__name__}.FIXED_OUTPUT", FIXED_OUTPUT, "its output range is not fixed")
# Each operator's output range is one of three kinds.
OUTPUT_RANGES = {"same": SAME_SCALE_OPS, "own": OWN_RANGE_OPS, "fixed": frozenset(FIXED_OUTPUT)}
for _name, _ops in (("SAME_SCALE_OPS", SAME_SCALE_OPS), ("OWN_RANGE_OPS", OWN_RANGE_OPS)):
    operator_group(f"{__name__}.{_name}", _ops, "its output range is of another kind")
operator_table(f"{__name__}.OUTPUT_RANGES", frozenset().union(*OUTPUT_RANGES.values()))


def windows(
    size: int, kernel: int, stride: int, dilation: int, padding: int
) -> tuple[int, int, int]:
    """(outputs, pixels padded before, after) along one axis, as in tflite/kernels/padding.h."""
    reach = (kernel - 1) * dilation + 1
    if padding == PADDING_SAME:
        outputs = -(-size // stride)
        missing = max((outputs - 1) * stride + reach - size, 0)
        return outputs, missing // 2, missing - missing // 2
    return (size - reach) // stride + 1, 0, 0


def round_away(value: float) -> int:
    """Round half away from zero, as C's std::round and TFLite's TfLiteRound do."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def float32(value: float) -> float:
    """`value` rounded once to float32, held in a Python float."""
    return float(np.float32(value))


def range_from_minmax(low: float, high: float) -> Range:
    """The asymmetric int8 range that covers [low, high] and holds zero exactly.

    Zero must be a code, for zero padding. scale = (high - low) / 255; zero_point = -128 - low /
    scale, rounded half away from zero. `low`, `high`: in the tensor's own unit. Raises ValueError
    when they are not finite or low > high.
    """
    if not (math.isfinite(low) and math.isfinite(high)) or low > high:
        raise ValueError(f"a range needs finite low <= high, found {low} .. {high}")
    low, high = min(low, 0.0), max(high, 0.0)
    scale = float32(max((high - low) / (INT8_MAX - INT8_MIN), SCALE_FLOOR))
    zero_point = round_away(INT8_MIN - low / scale)
    return Range(scale, min(max(zero_point, INT8_MIN), INT8_MAX))


def symmetric_range(low: float, high: float) -> Range:
    """The int8 range that covers [low, high] and whose zero point is 0. Units and errors are those
    of `range_from_minmax`.
    """
    limit = max(-low, high)
    return range_from_minmax(limit * INT8_MIN / INT8_MAX, limit)


def input_range(mean: Sequence[float], std: Sequence[float]) -> Range:
    """The fixed range of an image input, in which a uint8 pixel p is the code p - 128.

    The network's own input is x_c = (p/255 - mean_c) / std_c. So one step of p is 1 / (255 *
    std_c), and x_c = 0 at p = 255 * mean_c. A tensor has one scale, so the mean over the channels
    of 1/std and of the means is taken; `input_fold` folds the differences of the channels into the
    first convolution. With equal channels and 255 * mean whole, nothing is left to fold. Raises
    UnsupportedNetwork when zero is outside 0..255.
    """
    step = sum(1.0 / (255.0 * s) for s in std) / len(std)
    zero_point = round_away(INT8_MIN + 255.0 * sum(mean) / len(mean))
    if not INT8_MIN <= zero_point <= INT8_MAX:
        raise UnsupportedNetwork(
            f"the input's mean {list(mean)} is outside 0..1, so no pixel value means zero",
            "give mean and std for pixels scaled to 0..1, in models/*.toml",
        )
    return Range(float32(step), zero_point)


def input_fold(
    mean: Sequence[float], std: Sequence[float]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Per channel (gain, offset), float64 [channels], with x_c = gain_c * x' + offset_c.

    x_c is the input that the float network was trained on; x' = scale * (q - zero_point) is the
    meaning of the deployed input tensor.
    """
    grid = input_range(mean, std)
    step = 1.0 / (255.0 * np.asarray(std, np.float64))
    zero_pixel = grid.zero_point - INT8_MIN  # the pixel value whose x' is 0
    return step / grid.scale, step * (zero_pixel - 255.0 * np.asarray(mean, np.float64))


def weight_scales(
    weight: FloatArray, axis: int | None, floor: FloatArray | float = 0.0, ceiling: float = math.inf
) -> npt.NDArray[np.float32]:
    """Symmetric scales max|w| / 127 within bounds.

    float32 [channels along `axis`], or [1] when axis is None. Weights beyond 127 * ceiling are
    clipped.
    """
    flat = (
        np.abs(weight).reshape(1, -1)
        if axis is None
        else np.abs(np.moveaxis(weight, axis, 0)).reshape(weight.shape[axis], -1)
    )
    scale = np.maximum(flat.max(axis=1).astype(np.float64) / WEIGHT_LIMIT, SCALE_FLOOR)
    return np.minimum(np.maximum(scale, floor), ceiling).astype(np.float32)


def weight_codes(
    weight: FloatArray, scale: npt.NDArray[np.float32], axis: int
) -> npt.NDArray[np.int8]:
    """int8 codes of a float32 weight, same shape, in [-127, 127].

    Round half to even of the float32 quotient. It is float32 on purpose: the fake-quantizer of
    training divides so, bit for bit.
    """
    shape = [-1 if index == axis and scale.size > 1 else 1 for index in range(weight.ndim)]
    quotient = weight.astype(np.float32) / scale.astype(np.float32).reshape(shape)
    return np.clip(np.rint(quotient), -WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int8)


def weight_scale_floor(
    bias: FloatArray, input_scale: float, output_scale: float
) -> npt.NDArray[np.float64]:
    """The smallest weight scale that a channel may have: float64, shape of `bias`.

    Nearly dead channels have tiny weights beside an ordinary bias. With a scale of their own the
    bias would leave int32 (up to 114 LSB of error, measured on EfficientNet-Lite0) or the
    multiplier would become zero. So |bias| / (s_in * s_w) <= 2^30 and s_in * s_w / s_out >= 2^-31.
    """
    by_bias = np.abs(bias.astype(np.float64)) / (input_scale * BIAS_LIMIT)
    return np.maximum(by_bias, output_scale * MULTIPLIER_FLOOR / input_scale)


def weight_scale_ceiling(input_scale: float, output_scale: float) -> float:
    """The largest weight scale that a channel may have: s_in * s_w / s_out <= 255.

    Batch norms over channels that hardly vary (running variance near zero) fold into weights that
    are some hundred times too large; a mobilenetv2_050 after 48 steps from scratch reached a
    multiplier of 2^11.
    """
    return MULTIPLIER_CEILING * output_scale / input_scale


def bias_codes(
    bias: FloatArray, input_scale: float, scale: npt.NDArray[np.float32]
) -> npt.NDArray[np.int32]:
    """int32 codes of a float bias [channels] at scale s_in * s_w, computed in float64.

    Raises OverflowError for a code outside int32.
    """
    codes = np.rint(bias.astype(np.float64) / (np.float64(input_scale) * scale.astype(np.float64)))
    if codes.size and np.abs(codes).max() > np.iinfo(np.int32).max:
        worst = int(np.abs(codes).argmax())
        raise OverflowError(
            f"the bias of channel {worst} needs code {codes[worst]:.0f}, outside int32"
        )
    return codes.astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Int8Rules:
    """What the device profile requires of the int8 graph. It is read before any training.

    `io_dtype`: dtype of the file's input and output. "uint8" puts one QUANTIZE (code - 128, exact)
    behind the input and one before the output, as TensorFlow's converter does: uint8 kernels have
    no per-channel weights. `classifier`: FULLY_CONNECTED weights have one scale for each row, or
    one for the tensor (for old runtimes and some compilers). `pooling`: global average pooling is a
    MEAN with a range of its own, or an AVERAGE_POOL_2D with its input's. `softmax`: whether the
    file ends in a SOFTMAX or in logits.
    """

    io_dtype: str = "int8"
    classifier: str = "per_channel"
    pooling: str = "mean"
    softmax: str = "none"

    CHOICES = {  # noqa: RUF012 - a class constant, not a field: it has no annotation
        "io_dtype": ("int8", "uint8"),
        "classifier": ("per_channel", "per_tensor"),
        "pooling": ("mean", "average_pool"),
        "softmax": ("none", "append"),
    }

    def __post_init__(self) -> None:
        for name, choices in self.CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise RecipeError(
                    f"int8 rule {name} is {value!r}; it can be {' or '.join(map(repr, choices))}",
                    f"set {name} to one of these in the device profile",
                )

    def to_dict(self) -> dict[str, str]:
        """The rules as plain JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, str]) -> Int8Rules:
        """The inverse of `to_dict`; a missing key has its default. Raises RecipeError for an
        unknown key.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in known:
                raise RecipeError(
                    f"unknown int8 rule {key!r}; known are {known}",
                    f"did you mean {nearest(key, known)!r}?",
                )
        return cls(**values)
