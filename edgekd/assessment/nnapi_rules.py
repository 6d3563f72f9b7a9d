"""Which operators TFLite's NNAPI delegate hands to Android, by API level.

These are the rules of NNAPIDelegateKernel::Validate in LiteRT's
tflite/delegates/nnapi/nnapi_delegate.cc at commit f6745779 (August 2026). API level 27 is Android
8.1 with NNAPI 1.0; levels 28, 29, 30 and 31 are NNAPI 1.1, 1.2, 1.3 and feature level 5. Feature
levels 6 to 8 came as updates on levels 31 to 34, and no rule here uses them. NNAPI is deprecated
since Android 15 (API level 35).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from edgekd.assessment.op_placement import Judge, Refusal
from edgekd.tflite.flatbuffer import LiteGraph, LiteOp, LiteTensor
from edgekd.tflite.int8_rules import DATA_INPUT
from edgekd.tflite.operators import Operator, operator_group, operator_table

LEVELS = range(27, 35)
MAPPED = "delegated to NNAPI"
# The kinds of NNAPIValidationFailureType in nnapi_delegate.h, by the delegate's own names.
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

QUANTIZED = frozenset({"INT8", "UINT8"})
FLOATS = frozenset({"FLOAT32"})


@dataclasses.dataclass(frozen=True)
class Rule:
    """What the delegate asks of every operator of one kind.

    `newest`, `oldest`: bounds of the operator's version. `since`: its first API level.
    `quantized_since`: first API level for 8-bit inputs, 0 for never. `rank`: greatest rank of an
    input, 0 for any. `plain`: whether a fused activation is refused.
    """

    newest: int
    oldest: int = 1
    since: int = 27
    quantized_since: int = 27
    rank: int = 0
    plain: bool = False


RULES: dict[str, Rule] = {
    "ADD": Rule(2, rank=4),
    "SUB": Rule(3, since=28, quantized_since=29, rank=4),
    "MUL": Rule(2, rank=4),
    "DIV": Rule(1, since=28, quantized_since=0),
    "AVERAGE_POOL_2D": Rule(2),
    "MAX_POOL_2D": Rule(2),
    "CONV_2D": Rule(5),
    "DEPTHWISE_CONV_2D": Rule(3),
    "FULLY_CONNECTED": Rule(5),
    "SOFTMAX": Rule(2, oldest=2, rank=4),
    "RESHAPE": Rule(1, rank=4),
    "RESIZE_BILINEAR": Rule(3, quantized_since=29),
    "RESIZE_NEAREST_NEIGHBOR": Rule(3, since=29),
    "CONCATENATION": Rule(2, rank=4, plain=True),
    "MEAN": Rule(2, since=28, quantized_since=29, rank=4),
    "PAD": Rule(2, since=28, quantized_since=29),
    "PADV2": Rule(2, since=29, quantized_since=29),
    "QUANTIZE": Rule(2, since=29),
    "DEQUANTIZE": Rule(2),
    "RELU": Rule(2),
    "RELU6": Rule(2),
    "RELU_N1_TO_1": Rule(2),
    "LOGISTIC": Rule(2),
    "TANH": Rule(2, quantized_since=29),
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
    "SUM": Rule(1, since=29, quantized_since=0),
    "REDUCE_PROD": Rule(1, since=29, quantized_since=0),
    "ARG_MAX": Rule(2, since=29),
    "ARG_MIN": Rule(2, since=29),
    "TRANSPOSE_CONV": Rule(4, since=29),
    "PRELU": Rule(1, since=29),
    "LEAKY_RELU": Rule(1, since=29),
    "RSQRT": Rule(2, oldest=2, since=29, quantized_since=0),
    "SQRT": Rule(1, since=29, quantized_since=0),
    "EXP": Rule(1, since=29, quantized_since=0),
    "LOG": Rule(1, since=29, quantized_since=0),
    "ABS": Rule(1, since=29, quantized_since=0),
    "POW": Rule(1, since=29, quantized_since=0),
    "ELU": Rule(1, since=30, quantized_since=0),
    "L2_NORMALIZATION": Rule(2, quantized_since=29, plain=True),
}
operator_table(
    f"{__name__}.RULES",
    RULES,
    absent={
        Operator.GELU: "the delegate has no mapping for it",
        Operator.BATCH_MATMUL: "the delegate takes it from feature level 6 on, which no rule uses",
    },
)
# Operators whose signed int8 form needs a later level than uint8. Before NNAPI 1.3 the delegate
# turns int8 into uint8 where it can (NeedInt8Conversion), and per-channel weights have no uint8
# form.
INT8_SINCE: dict[str, int] = {
    "CONV_2D": 29,
    "DEPTHWISE_CONV_2D": 29,
    "FULLY_CONNECTED": 29,
    "DEQUANTIZE": 29,
    "SPLIT": 30,
}
operator_group(f"{__name__}.INT8_SINCE", INT8_SINCE, "its int8 form is as old as its uint8 form")
# Elements in the window of a quantized AVERAGE_POOL_2D, unless an accelerator is named.
POOL_LIMIT = 256
# First level for int32 inputs, of the operators that take them.
INT32_SINCE = {"ADD": 30, "ARG_MAX": 27, "ARG_MIN": 27}


@dataclasses.dataclass(frozen=True)
class Case:
    """An operator and where it would run: API level 27 to 34, and the accelerator's name or ""."""

    op: LiteOp
    inputs: list[LiteTensor]
    outputs: list[LiteTensor]
    level: int
    accelerator: str

    @property
    def fused(self) -> bool:
        """Whether an activation is fused into the operator."""
        return bool(self.op.options.get("fusedActivationFunction", 0))


def judge_for(level: int, accelerator: str = "") -> Judge:
    """The judge of one API level (27 to 34).

    `accelerator`: the name that is given to the delegate, "" for none.
    """

    def judge(graph: LiteGraph, op: LiteOp) -> Refusal | None:
        inputs = [graph.tensors[index] for index in op.inputs if index >= 0]
        outputs = [graph.tensors[index] for index in op.outputs]
        case = Case(op, inputs, outputs, level, accelerator)
        special = SPECIAL.get(op.name)
        return _general(case) or (special(case) if special else None)

    return judge


def _general(case: Case) -> Refusal | None:
    """Operator, version, level, data type, rank and activation, by the table."""
    op, level = case.op, case.level
    rule = RULES.get(op.name)
    if rule is None:
        return OPERATOR, f"{op.name} has no NNAPI mapping"
    newest = 3 if op.name == "MUL" and case.accelerator else rule.newest
    if not rule.oldest <= op.version <= newest:
        wanted = f"exactly {newest}" if rule.oldest == newest else f"up to {newest}"
        return OP_VERSION, f"version {op.version}, and the delegate takes {wanted}"
    if level < rule.since:
        return ANDROID, f"{op.name} needs API {rule.since}, and this is {level}"
    refusal = _data_type(case, rule)
    if refusal is not None:
        return refusal
    if rule.rank and any(len(tensor.shape) > rule.rank for tensor in case.inputs):
        return RANK, f"inputs may have rank {rule.rank} at most"
    if rule.plain and case.fused:
        return ACTIVATION, "it has a fused activation"
    return None


def _data_type(case: Case, rule: Rule) -> Refusal | None:
    """The data type of the input that holds the data."""
    name, level = case.op.name, case.level
    data = case.inputs[DATA_INPUT.get(name, 0) :]
    dtype = data[0].dtype if data else "FLOAT32"
    if dtype in FLOATS or (dtype == "INT32" and level >= INT32_SINCE.get(name, level + 1)):
        return None
    if dtype not in QUANTIZED:
        return INPUT_TYPE, f"its input is {dtype.lower()}"
    if not rule.quantized_since:
        return INPUT_TYPE, f"{name} takes floats only, and its input is {dtype.lower()}"
    since = max(rule.quantized_since, INT8_SINCE.get(name, 0) if dtype == "INT8" else 0)
    if level < since:
        return ANDROID, f"{name} of {dtype.lower()} needs API {since}, and this is {level}"
    return None


def _add(case: Case) -> Refusal | None:
    if case.inputs[0].dtype == "INT32" and case.fused:
        return ACTIVATION, "an int32 ADD has a fused activation"
    return None


def _average_pool(case: Case) -> Refusal | None:
    options = case.op.options
    area = int(options.get("filterWidth", 0)) * int(options.get("filterHeight", 0))
    if case.inputs[0].dtype in QUANTIZED and area > POOL_LIMIT and not case.accelerator:
        limit = f"at most {POOL_LIMIT} without a named accelerator"
        return SIZE, f"its window has {area} elements, {limit}"
    return None


def _conv(case: Case) -> Refusal | None:
    op, inputs = case.op, case.inputs
    if op.name == "CONV_2D" and len(inputs) != 3:
        return VARIANT, "it has no bias"
    if inputs[1].data is None:
        return VARIANT, "its filter is not constant"
    if case.level >= 29:
        return None
    if inputs[1].scale.size > 1:
        return ANDROID, "per-channel weights need API 29"
    if inputs[0].dtype == "FLOAT32" and inputs[1].dtype in QUANTIZED:
        return ANDROID, "float activations with 8-bit weights need API 29"
    if max(int(op.options.get(key) or 1) for key in ("dilationWFactor", "dilationHFactor")) > 1:
        return ANDROID, "dilation needs API 29"
    if op.name == "CONV_2D" and inputs[1].shape[3] != inputs[0].shape[3]:
        return ANDROID, "a grouped convolution needs API 29"
    return None


def _fully_connected(case: Case) -> Refusal | None:
    if case.outputs[0].dtype == "INT16":
        return OUTPUT_TYPE, "its output is int16"
    if case.op.options.get("keepNumDims") and case.level < 30:
        return ANDROID, "keep_num_dims needs API 30"
    return None


def _softmax(case: Case) -> Refusal | None:
    if case.level < 29 and len(case.inputs[0].shape) not in (2, 4):
        return RANK, "rank 2 or 4 before API 29"
    return None


def _constant_second(case: Case) -> Refusal | None:
    if len(case.inputs) > 1 and case.inputs[1].data is None:
        return VARIANT, f"{case.inputs[1].name or 'its second input'} is not constant"
    return None


def _resize(case: Case) -> Refusal | None:
    if len(case.inputs[0].shape) != 4:
        return RANK, "its input must have rank 4"
    if case.inputs[1].data is None:
        return VARIANT, "its size is not constant"
    options = case.op.options
    if case.level < 30 and (options.get("alignCorners") or options.get("halfPixelCenters")):
        return ANDROID, "align_corners and half_pixel_centers need API 30"
    return None


def _mean(case: Case) -> Refusal | None:
    return None if case.outputs[0].shape else (RANK, "its output is a scalar")


def _quantize(case: Case) -> Refusal | None:
    if case.level < 30 and case.outputs[0].dtype != "UINT8":
        return OUTPUT_TYPE, "its output must be uint8 before API 30"
    return None


def _dequantize(case: Case) -> Refusal | None:
    source = case.inputs[0]
    if case.level == 29 and source.dtype == "INT8" and source.zero_point.any():
        return VALUE, "on API 29 an int8 input must have zero point 0"
    return None


def _pack(case: Case) -> Refusal | None:
    if case.inputs[0].dtype == "UINT8":
        return INPUT_TYPE, "int8 and float only"
    rank = len(case.outputs[0].shape)
    if int(case.op.options.get("axis", 0)) % max(rank, 1) == rank - 1:
        return VARIANT, "packing over the last axis needs feature level 6"
    return None


def _arg(case: Case) -> Refusal | None:
    return None if case.outputs[0].dtype == "INT32" else (OUTPUT_TYPE, "its output must be int32")


def _transpose_conv(case: Case) -> Refusal | None:
    constant = case.inputs[0].data is not None and case.inputs[1].data is not None
    return None if constant else (VARIANT, "shape and filter must be constant")


def _reshape(case: Case) -> Refusal | None:
    if len(case.outputs[0].shape) > 4:
        return RANK, "its output has more than rank 4"
    return _constant_second(case)


# What the delegate asks of single operators beyond the table.
SPECIAL: dict[str, Callable[[Case], Refusal | None]] = {
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
