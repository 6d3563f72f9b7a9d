"""Which ops TFLite's NNAPI delegate hands to Android, by API level: NNAPIDelegateKernel::Validate as rules.

Source: LiteRT tflite/delegates/nnapi/nnapi_delegate.cc at commit f6745779 (August 2026). API level 27 is Android 8.1 with
NNAPI 1.0; 28, 29, 30 and 31 are NNAPI 1.1, 1.2, 1.3 and feature level 5; feature levels 6 to 8 came with updates on
31 to 34 and are only used here where `feature_level` says so. NNAPI is deprecated since Android 15 (API 35).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from edgekd.assessment.op_placement import Judge, Refusal
from edgekd.tflite.flatbuffer import LiteGraph, LiteOp, LiteTensor
from edgekd.tflite.operators import operator_group, operator_table

LEVELS = range(27, 35)
MAPPED = "delegated to NNAPI"
# The kinds of NNAPIValidationFailureType in nnapi_delegate.h, in the delegate's own names.
OPERATOR = "kUnsupportedOperator"
ANDROID = "kUnsupportedAndroidVersion"
OP_VERSION = "kUnsupportedOperatorVersion"
INPUT_TYPE = "kUnsupportedInputType"
ACTIVATION = "kNoActivationExpected"
RANK = "kUnsupportedOperandRank"
VALUE = "kUnsupportedOperandValue"
OUTPUT_TYPE = "kUnsupportedOutputType"
VARIANT = "kUnsupportedOperatorVariant"
SIZE = "kUnsupportedOperandSize"

QUANTISED = frozenset({"INT8", "UINT8"})
FLOATS = frozenset({"FLOAT32"})


@dataclasses.dataclass(frozen=True)
class Rule:
    """`newest`: greatest op version; `oldest`: least. `since`: first API level of the op. `quantised_since`: first level
    for 8-bit inputs, 0 for never. `rank`: greatest rank of any input. `plain`: no fused activation may stand on it.
    """

    newest: int
    oldest: int = 1
    since: int = 27
    quantised_since: int = 27
    rank: int = 0
    plain: bool = False


RULES: dict[str, Rule] = {
    "ADD": Rule(2, rank=4),
    "SUB": Rule(3, since=28, quantised_since=29, rank=4),
    "MUL": Rule(2, rank=4),
    "DIV": Rule(1, since=28, quantised_since=0),
    "AVERAGE_POOL_2D": Rule(2),
    "MAX_POOL_2D": Rule(2),
    "CONV_2D": Rule(5),
    "DEPTHWISE_CONV_2D": Rule(3),
    "FULLY_CONNECTED": Rule(5),
    "SOFTMAX": Rule(2, oldest=2, rank=4),
    "RESHAPE": Rule(1, rank=4),
    "RESIZE_BILINEAR": Rule(3, quantised_since=29),
    "RESIZE_NEAREST_NEIGHBOR": Rule(3, since=29),
    "CONCATENATION": Rule(2, rank=4, plain=True),
    "MEAN": Rule(2, since=28, quantised_since=29, rank=4),
    "PAD": Rule(2, since=28, quantised_since=29),
    "PADV2": Rule(2, since=29, quantised_since=29),
    "QUANTIZE": Rule(2, since=29),
    "DEQUANTIZE": Rule(2),
    "RELU": Rule(2),
    "RELU6": Rule(2),
    "RELU_N1_TO_1": Rule(2),
    "LOGISTIC": Rule(2),
    "TANH": Rule(2, quantised_since=29),
    "HARD_SWISH": Rule(99),
    "TRANSPOSE": Rule(2, since=28),
    "STRIDED_SLICE": Rule(2, since=28),
    "SLICE": Rule(2, since=29),
    "SQUEEZE": Rule(1, since=28),
    "EXPAND_DIMS": Rule(1, since=29),
    "SPLIT": Rule(3, oldest=3, since=29),
    "SPLIT_V": Rule(2, oldest=2, since=30),
    "PACK": Rule(2, oldest=2, since=30),
    "MAXIMUM": Rule(3, since=29),
    "MINIMUM": Rule(3, since=29),
    "REDUCE_MAX": Rule(2, since=29),
    "REDUCE_MIN": Rule(2, since=29),
    "SUM": Rule(1, since=29, quantised_since=0),
    "REDUCE_PROD": Rule(1, since=29, quantised_since=0),
    "ARG_MAX": Rule(2, since=29),
    "ARG_MIN": Rule(2, since=29),
    "TRANSPOSE_CONV": Rule(4, since=29),
    "PRELU": Rule(1, since=29),
    "LEAKY_RELU": Rule(1, since=29),
    "RSQRT": Rule(2, oldest=2, since=29, quantised_since=0),
    "SQRT": Rule(1, since=29, quantised_since=0),
    "EXP": Rule(1, since=29, quantised_since=0),
    "LOG": Rule(1, since=29, quantised_since=0),
    "ABS": Rule(1, since=29, quantised_since=0),
    "POW": Rule(1, since=29, quantised_since=0),
}
operator_table(f"{__name__}.RULES", RULES)
# Ops whose signed int8 form needs a later level than uint8: before NNAPI 1.3 the delegate turns int8 into uint8 where it
# can (NeedInt8Conversion), and per-channel weights have no uint8 form.
INT8_SINCE: dict[str, int] = {
    "CONV_2D": 29,
    "DEPTHWISE_CONV_2D": 29,
    "FULLY_CONNECTED": 29,
    "DEQUANTIZE": 29,
    "SPLIT": 30,
}
operator_group(f"{__name__}.INT8_SINCE", INT8_SINCE, "its int8 form is as old as its uint8 form")
POOL_LIMIT = (
    256  # filter_w * filter_h of a quantised AVERAGE_POOL_2D, unless an accelerator is named
)


def judge_for(level: int, accelerator: str = "") -> Judge:
    """The judge of one API level (27 to 34); `accelerator`: the name given to the delegate, "" for none."""

    def judge(graph: LiteGraph, op: LiteOp) -> Refusal | None:
        inputs = [graph.tensors[index] for index in op.inputs if index >= 0]
        outputs = [graph.tensors[index] for index in op.outputs]
        return _general(op, inputs, level, accelerator) or _special(
            op, inputs, outputs, level, accelerator
        )

    return judge


def _general(op: LiteOp, inputs: list[LiteTensor], level: int, accelerator: str) -> Refusal | None:
    """Op, version, level, data type, rank and activation, from the table."""
    rule = RULES.get(op.name)
    if rule is None:
        return OPERATOR, f"{op.name} has no NNAPI mapping"
    newest = 3 if op.name == "MUL" and accelerator else rule.newest
    if not rule.oldest <= op.version <= newest:
        wanted = f"exactly {newest}" if rule.oldest == newest else f"up to {newest}"
        return OP_VERSION, f"version {op.version}, and the delegate takes {wanted}"
    if level < rule.since:
        return ANDROID, f"{op.name} needs API {rule.since}, and this is {level}"
    dtype = inputs[0].dtype if inputs else "FLOAT32"
    integers = {"ADD"} if level >= 30 else set[str]()
    if dtype not in QUANTISED | FLOATS and not (
        dtype == "INT32" and op.name in integers | {"ARG_MAX", "ARG_MIN"}
    ):
        return INPUT_TYPE, f"its input is {dtype.lower()}"
    if dtype in QUANTISED:
        since = max(rule.quantised_since, INT8_SINCE.get(op.name, 0) if dtype == "INT8" else 0)
        if not rule.quantised_since:
            return INPUT_TYPE, f"{op.name} takes floats only, and its input is {dtype.lower()}"
        if level < since:
            return ANDROID, f"{op.name} of {dtype.lower()} needs API {since}, and this is {level}"
    if rule.rank and any(len(tensor.shape) > rule.rank for tensor in inputs):
        return RANK, f"inputs may have rank {rule.rank} at most"
    if rule.plain and op.options.get("fusedActivationFunction", 0):
        return ACTIVATION, "it has a fused activation"
    return None


Special = Callable[[LiteOp, list[LiteTensor], list[LiteTensor], int, str], Refusal | None]


def _special(
    op: LiteOp, inputs: list[LiteTensor], outputs: list[LiteTensor], level: int, accelerator: str
) -> Refusal | None:
    check = SPECIAL.get(op.name)
    return check(op, inputs, outputs, level, accelerator) if check else None


def _add(
    op: LiteOp, inputs: list[LiteTensor], _outputs: list[LiteTensor], _level: int, _name: str
) -> Refusal | None:
    if inputs[0].dtype == "INT32" and op.options.get("fusedActivationFunction", 0):
        return ACTIVATION, "an int32 ADD has a fused activation"
    return None


def _average_pool(
    op: LiteOp, inputs: list[LiteTensor], _outputs: list[LiteTensor], _level: int, name: str
) -> Refusal | None:
    area = int(op.options.get("filterWidth", 0)) * int(op.options.get("filterHeight", 0))
    if inputs[0].dtype in QUANTISED and area > POOL_LIMIT and not name:
        return (
            SIZE,
            f"its window has {area} elements, at most {POOL_LIMIT} without a named accelerator",
        )
    return None


def _conv(
    op: LiteOp, inputs: list[LiteTensor], _outputs: list[LiteTensor], level: int, _name: str
) -> Refusal | None:
    if op.name == "CONV_2D" and len(inputs) != 3:
        return VARIANT, "it has no bias"
    if inputs[1].data is None:
        return VARIANT, "its filter is not constant"
    if level < 29:
        if inputs[1].scale.size > 1:
            return ANDROID, "per-channel weights need API 29"
        if inputs[0].dtype == "FLOAT32" and inputs[1].dtype in QUANTISED:
            return ANDROID, "float activations with 8-bit weights need API 29"
        if max(int(op.options.get(key) or 1) for key in ("dilationWFactor", "dilationHFactor")) > 1:
            return ANDROID, "dilation needs API 29"
        if op.name == "CONV_2D" and inputs[1].shape[3] != inputs[0].shape[3]:
            return ANDROID, "a grouped convolution needs API 29"
    return None


def _fully_connected(
    op: LiteOp, _inputs: list[LiteTensor], outputs: list[LiteTensor], level: int, _name: str
) -> Refusal | None:
    if outputs[0].dtype == "INT16":
        return OUTPUT_TYPE, "its output is int16"
    if op.options.get("keepNumDims") and level < 30:
        return ANDROID, "keep_num_dims needs API 30"
    return None


def _softmax(
    _op: LiteOp, inputs: list[LiteTensor], _outputs: list[LiteTensor], level: int, _name: str
) -> Refusal | None:
    if level < 29 and len(inputs[0].shape) not in (2, 4):
        return RANK, "rank 2 or 4 before API 29"
    return None


def _constant_second(
    _op: LiteOp, inputs: list[LiteTensor], _outputs: list[LiteTensor], _level: int, _name: str
) -> Refusal | None:
    if len(inputs) > 1 and inputs[1].data is None:
        return VARIANT, f"{inputs[1].name or 'its second input'} is not constant"
    return None


def _resize(
    op: LiteOp, inputs: list[LiteTensor], _outputs: list[LiteTensor], level: int, _name: str
) -> Refusal | None:
    if len(inputs[0].shape) != 4:
        return RANK, "its input must have rank 4"
    if inputs[1].data is None:
        return VARIANT, "its size is not constant"
    if level < 30 and (op.options.get("alignCorners") or op.options.get("halfPixelCenters")):
        return ANDROID, "align_corners and half_pixel_centers need API 30"
    return None


def _mean(
    _op: LiteOp, _inputs: list[LiteTensor], outputs: list[LiteTensor], _level: int, _name: str
) -> Refusal | None:
    return None if outputs[0].shape else (RANK, "its output is a scalar")


def _quantize(
    _op: LiteOp, _inputs: list[LiteTensor], outputs: list[LiteTensor], level: int, _name: str
) -> Refusal | None:
    if level < 30 and outputs[0].dtype != "UINT8":
        return OUTPUT_TYPE, "its output must be uint8 before API 30"
    return None


def _dequantize(
    _op: LiteOp, inputs: list[LiteTensor], _outputs: list[LiteTensor], level: int, _name: str
) -> Refusal | None:
    if level == 29 and inputs[0].dtype == "INT8" and inputs[0].zero_point.any():
        return VALUE, "on API 29 an int8 input must have zero point 0"
    return None


def _pack(
    op: LiteOp, inputs: list[LiteTensor], outputs: list[LiteTensor], _level: int, _name: str
) -> Refusal | None:
    if inputs[0].dtype == "UINT8":
        return INPUT_TYPE, "int8 and float only"
    if int(op.options.get("axis", 0)) % max(len(outputs[0].shape), 1) == len(outputs[0].shape) - 1:
        return VARIANT, "packing over the last axis needs feature level 6"
    return None


def _arg(
    _op: LiteOp, _inputs: list[LiteTensor], outputs: list[LiteTensor], _level: int, _name: str
) -> Refusal | None:
    return None if outputs[0].dtype == "INT32" else (OUTPUT_TYPE, "its output must be int32")


def _transpose_conv(
    _op: LiteOp, inputs: list[LiteTensor], _outputs: list[LiteTensor], _level: int, _name: str
) -> Refusal | None:
    constant = inputs[0].data is not None and inputs[1].data is not None
    return None if constant else (VARIANT, "shape and filter must be constant")


def _elements(
    _op: LiteOp, _inputs: list[LiteTensor], outputs: list[LiteTensor], _level: int, _name: str
) -> Refusal | None:
    return (RANK, "its output has more than rank 4") if len(outputs[0].shape) > 4 else None


def _reshape(
    op: LiteOp, inputs: list[LiteTensor], outputs: list[LiteTensor], level: int, name: str
) -> Refusal | None:
    return _elements(op, inputs, outputs, level, name) or _constant_second(
        op, inputs, outputs, level, name
    )


SPECIAL: dict[str, Special] = {
    "ADD": _add,
    "AVERAGE_POOL_2D": _average_pool,
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _conv,
    "FULLY_CONNECTED": _fully_connected,
    "SOFTMAX": _softmax,
    "RESHAPE": _reshape,
    "RESIZE_BILINEAR": _resize,
    "RESIZE_NEAREST_NEIGHBOR": _resize,
    "MEAN": _mean,
    "QUANTIZE": _quantize,
    "DEQUANTIZE": _dequantize,
    "PACK": _pack,
    "TRANSPOSE": _constant_second,
    "EXPAND_DIMS": _constant_second,
    "ARG_MAX": _arg,
    "ARG_MIN": _arg,
    "TRANSPOSE_CONV": _transpose_conv,
}
operator_group(f"{__name__}.SPECIAL", SPECIAL, "its row of RULES says all")
