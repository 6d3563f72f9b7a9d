"""The version of each operator in an int8 graph, and the oldest runtime that has it.

The rules are TensorFlow's: tflite/tools/versioning/op_version.cc and runtime_version.cc. Compilers
and delegates read the versions: the Edge TPU compiler and NNAPI's delegate refuse an operator whose
version they do not know. Each row was compared with files that TensorFlow 2.21 wrote
(tests/test_reference_converter.py).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from edgekd.tflite.flatbuffer import LiteOp, LiteTensor
from edgekd.tflite.int8_rules import DATA_INPUT
from edgekd.tflite.operators import operator_group, operator_table

# What runtime_version.cc gives for version 1 of the operators of such networks.
OLDEST_RUNTIME = "1.5.0"


@dataclasses.dataclass(frozen=True)
class OpVersion:
    """`number`: the operator's version. `runtime`: the oldest TFLite runtime that knows it."""

    number: int
    runtime: str = OLDEST_RUNTIME


# (operator, its inputs, its outputs) -> its version, or None where INT8 holds
Rule = Callable[[LiteOp, Sequence[LiteTensor], Sequence[LiteTensor]], OpVersion | None]

# Operators whose version depends only on whether their first input is int8.
INT8: dict[str, OpVersion] = {
    "ADD": OpVersion(2, "1.14.0"),
    "AVERAGE_POOL_2D": OpVersion(2, "1.14.0"),
    "BATCH_MATMUL": OpVersion(2, "2.3.0"),
    "CONCATENATION": OpVersion(2, "1.14.0"),
    "CONV_2D": OpVersion(3, "1.14.0"),
    "DEPTHWISE_CONV_2D": OpVersion(3, "1.14.0"),  # dilation has no version of its own in int8
    "DEQUANTIZE": OpVersion(2, "1.14.0"),
    "ELU": OpVersion(1, "1.14.0"),
    "FULLY_CONNECTED": OpVersion(4, "1.14.0"),  # per-channel weights included
    "GELU": OpVersion(2, "2.9.0"),
    "HARD_SWISH": OpVersion(1, "1.15.0"),
    "L2_NORMALIZATION": OpVersion(2, "1.14.0"),
    "LEAKY_RELU": OpVersion(1, "1.13.1"),  # version 2 is int16's
    "LOGISTIC": OpVersion(2, "1.14.0"),
    "MAX_POOL_2D": OpVersion(2, "1.14.0"),
    "MAXIMUM": OpVersion(2, "1.14.0"),
    "MEAN": OpVersion(2, "1.14.0"),
    "MUL": OpVersion(2, "1.14.0"),
    "PAD": OpVersion(2, "1.14.0"),
    "PADV2": OpVersion(2, "1.14.0"),
    "PRELU": OpVersion(1, "1.8.0"),
    "QUANTIZE": OpVersion(1, "1.14.0"),
    "REDUCE_MAX": OpVersion(2, "1.14.0"),
    "RELU": OpVersion(2, "2.1.0"),
    "RELU6": OpVersion(2, "1.14.0"),
    "RESHAPE": OpVersion(1),
    "RESIZE_BILINEAR": OpVersion(2, "1.14.0"),
    "RESIZE_NEAREST_NEIGHBOR": OpVersion(2, "1.14.0"),
    "RSQRT": OpVersion(2, "2.5.0"),
    "SLICE": OpVersion(2, "1.14.0"),
    "SOFTMAX": OpVersion(2, "1.14.0"),
    "SPLIT": OpVersion(2, "1.14.0"),
    "STRIDED_SLICE": OpVersion(2, "1.14.0"),
    "SUB": OpVersion(2, "1.14.0"),
    "TANH": OpVersion(2, "1.14.0"),
    "TRANSPOSE": OpVersion(2, "1.14.0"),
    "TRANSPOSE_CONV": OpVersion(3, "2.3.0"),  # with a bias; 2 has none, 4 fuses an activation
}
operator_table(f"{__name__}.INT8", INT8)


def _conv(
    _op: LiteOp, inputs: Sequence[LiteTensor], _outputs: Sequence[LiteTensor]
) -> OpVersion | None:
    """Grouped: the weight, OHWI, holds fewer input channels than the map has."""
    return OpVersion(6, "2.9.0") if inputs[1].shape[3] != inputs[0].shape[3] else None


def _fully_connected(
    op: LiteOp, _inputs: Sequence[LiteTensor], _outputs: Sequence[LiteTensor]
) -> OpVersion | None:
    if len(op.inputs) == 2:
        return OpVersion(6, "2.3.0")  # no place for a bias; an absent one, index -1, is version 4
    return OpVersion(5, "1.15.0") if op.options.get("keepNumDims") else None


def _mul(
    _op: LiteOp, inputs: Sequence[LiteTensor], outputs: Sequence[LiteTensor]
) -> OpVersion | None:
    """A multiplier of 1 or more needs a shift to the left, which came with version 3."""
    scales = [float(tensor.scale[0]) for tensor in (*inputs, *outputs) if tensor.scale.size]
    return (
        OpVersion(3, "1.15.0")
        if len(scales) == 3 and scales[0] * scales[1] / scales[2] >= 1.0
        else None
    )


def _resize(
    op: LiteOp, _inputs: Sequence[LiteTensor], _outputs: Sequence[LiteTensor]
) -> OpVersion | None:
    """Half pixels came with version 3."""
    if not op.options.get("halfPixelCenters"):
        return None
    return OpVersion(3, "2.2.0" if op.name == "RESIZE_BILINEAR" else "2.3.0")


def _deep(number: int, runtime: str) -> Rule:
    """More than four dimensions came with a later version."""

    def rule(
        _op: LiteOp, inputs: Sequence[LiteTensor], _outputs: Sequence[LiteTensor]
    ) -> OpVersion | None:
        return OpVersion(number, runtime) if len(inputs[0].shape) > 4 else None

    return rule


# Operators whose version depends on more. The rule returns None where INT8 holds.
BY_OPERANDS: dict[str, Rule] = {
    "CONV_2D": _conv,
    "FULLY_CONNECTED": _fully_connected,
    "MUL": _mul,
    "RESIZE_BILINEAR": _resize,
    "RESIZE_NEAREST_NEIGHBOR": _resize,
    "SLICE": _deep(5, "2.5.0"),
    "TRANSPOSE": _deep(4, "2.3.0"),
}
operator_group(f"{__name__}.BY_OPERANDS", BY_OPERANDS, "its version depends on int8 alone")
# The same version for int8, uint8 and float inputs.
ANY_TYPE = frozenset({"QUANTIZE", "RESHAPE"})


def has_rule(op: LiteOp, tensors: Sequence[LiteTensor]) -> bool:
    """Whether this file knows the version: of int8 operators, and of those alike for all types."""
    data = op.inputs[DATA_INPUT.get(op.name, 0) :]
    first = next((tensors[index] for index in data if index >= 0), None)
    return op.name in INT8 and first is not None and (first.dtype == "INT8" or op.name in ANY_TYPE)


def version_of(op: LiteOp, tensors: Sequence[LiteTensor]) -> OpVersion:
    """The version that TensorFlow's converter writes; without a rule, the one that the file has.

    `tensors`: those of the graph.
    """
    if not has_rule(op, tensors):
        return OpVersion(op.version)
    inputs = [tensors[index] for index in op.inputs if index >= 0]
    outputs = [tensors[index] for index in op.outputs]
    special = BY_OPERANDS.get(op.name)
    return (special(op, inputs, outputs) if special else None) or INT8[op.name]


def shared_versions(ops: Sequence[LiteOp], tensors: Sequence[LiteTensor]) -> list[OpVersion]:
    """The version of each operator of a graph, in their order: the newest that any of its name
    needs.

    TensorFlow's exporter keeps one operator code for each name and raises its version as the
    operators need (UpdateOpVersion of op_version.cc): beside a grouped convolution, version 6, a
    plain one has version 6 too. Custom operators share a name but not a code.
    """
    own = [version_of(op, tensors) for op in ops]
    highest: dict[str, OpVersion] = {}
    for op, version in zip(ops, own, strict=True):
        highest[op.name] = max(
            highest.get(op.name, version), version, key=lambda known: known.number
        )
    return [
        version if op.name == "CUSTOM" else highest[op.name]
        for op, version in zip(ops, own, strict=True)
    ]


def newest(versions: Sequence[OpVersion]) -> str:
    """The oldest runtime that runs all of them, as `min_runtime_version` holds it."""
    return max(
        (version.runtime for version in versions),
        default=OLDEST_RUNTIME,
        key=lambda text: [int(part) for part in text.split(".") if part.isdigit()],
    )
