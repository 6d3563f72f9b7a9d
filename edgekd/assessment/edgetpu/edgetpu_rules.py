"""Which operators the Edge TPU compiler would map, in its own status strings.

The rules predict the mapping where the compiler is not installed. Sources: coral.ai, "TensorFlow
models on the Edge TPU" (supported operations, model requirements) in its copies of 2019 and 2020,
and the release notes of google-coral/edgetpu.
"""

from __future__ import annotations

import math

from edgekd.assessment.edgetpu.dynamic_shapes import computed_shape
from edgekd.assessment.edgetpu.edgetpu_op_rules import SPECIAL, Case
from edgekd.assessment.edgetpu.status import (
    ANOTHER_SUBGRAPH,
    DATA_TYPE,
    DYNAMIC,
    LIMITATION,
    MAPPED,
    NOT_CONSTANT,
    NOT_SUPPORTED,
    RANK,
    VERSION,
)
from edgekd.assessment.op_placement import OpPlacement, Refusal, place_each
from edgekd.tflite.flatbuffer import LiteGraph, LiteOp, LiteTensor
from edgekd.tflite.operators import operator_group, operator_table
from edgekd.tflite.runtime_ops import compiler

# The operators that the compiler maps. Their versions are those that it loads: runtime_ops.toml.
SUPPORTED = frozenset(
    {
        "ADD",
        "AVERAGE_POOL_2D",
        "CONCATENATION",
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "EXPAND_DIMS",
        "FULLY_CONNECTED",
        "L2_NORMALIZATION",
        "LOGISTIC",
        "LSTM",
        "MAXIMUM",
        "MAX_POOL_2D",
        "MEAN",
        "MINIMUM",
        "MUL",
        "PACK",
        "PAD",
        "PRELU",
        "QUANTIZE",
        "REDUCE_MAX",
        "REDUCE_MIN",
        "RELU",
        "RELU6",
        "RELU_N1_TO_1",
        "RESHAPE",
        "RESIZE_BILINEAR",
        "RESIZE_NEAREST_NEIGHBOR",
        "RSQRT",
        "SLICE",
        "SOFTMAX",
        "SPACE_TO_DEPTH",
        "SPLIT",
        "SQUARED_DIFFERENCE",
        "SQUEEZE",
        "STRIDED_SLICE",
        "SUB",
        "SUM",
        "TANH",
        "TRANSPOSE",
        "TRANSPOSE_CONV",
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
    }
)
_NOT_SUPPORTED = "not in the compiler's list of supported operators: it runs on the CPU"
operator_table(
    f"{__name__}.SUPPORTED",
    SUPPORTED,
    absent=dict.fromkeys(
        ("BATCH_MATMUL", "ELU", "GELU", "HARD_SWISH", "LEAKY_RELU", "PADV2"), _NOT_SUPPORTED
    ),
)
# Operator -> how many inputs, from the second on, must be constants.
PARAMETERS: dict[str, int] = {
    "CONV_2D": 2,
    "DEPTHWISE_CONV_2D": 2,
    "FULLY_CONNECTED": 2,
    "MEAN": 1,
    "SUM": 1,
    "REDUCE_MAX": 1,
    "REDUCE_MIN": 1,
    "PAD": 1,
    "PRELU": 1,
    "RESIZE_BILINEAR": 1,
    "RESIZE_NEAREST_NEIGHBOR": 1,
    "STRIDED_SLICE": 3,
    "SLICE": 2,
    "TRANSPOSE": 1,
}
operator_group(f"{__name__}.PARAMETERS", PARAMETERS, "none of its inputs must be a constant")
INT8 = frozenset({"INT8", "UINT8"})


def map_graph(graph: LiteGraph, *, many_subgraphs: bool = False) -> list[OpPlacement]:
    """Where each operator runs.

    The compiler makes one partition: an operator that it refuses ends the partition, and every
    operator after it stays on the CPU. Operators before the first mapped one (a QUANTIZE of a float
    input) do not end it. `many_subgraphs` lifts the limit, as the compiler's undocumented -a does.
    Of a graph with a shape that is computed at run time nothing maps.
    """
    if not graph.ops:
        return []
    if dynamic := computed_shape(graph):
        why = f"{dynamic.op.name} #{dynamic.op.index}: {dynamic.why}"
        return [OpPlacement(op.index, op.name, False, DYNAMIC, why) for op in graph.ops]
    alone = place_each(graph, judge, MAPPED)
    if many_subgraphs:
        return alone
    made_by = {output: op.index for op in graph.ops for output in op.outputs}
    below: set[int] = set()  # operators that depend on a mapped operator
    # Operators that depend on one that ended the partition -> the first that did.
    cut: dict[int, int] = {}
    result = []
    for op, placement in zip(graph.ops, alone, strict=True):
        producers = {made_by[index] for index in op.inputs if index in made_by}
        root = min((cut[index] for index in producers if index in cut), default=None)
        if root is not None and placement.mapped:
            placement = OpPlacement(
                op.index,
                op.name,
                False,
                ANOTHER_SUBGRAPH,
                f"it comes after {graph.ops[root].name} #{root}",
            )
        if root is not None:
            cut[op.index] = root
        elif not placement.mapped and producers & below:
            cut[op.index] = op.index
        if placement.mapped or producers & below:
            below.add(op.index)
        result.append(placement)
    return result


def judge(graph: LiteGraph, op: LiteOp) -> Refusal | None:
    """(status, why) when the compiler would refuse this operator by itself, else None."""
    if op.name not in SUPPORTED:
        return NOT_SUPPORTED, f"{op.name} is not among the compiler's supported operations"
    newest = compiler("edgetpu_compiler").newest[op.name]
    if op.version > newest:
        return VERSION, f"version {op.version}, and the compiler knows up to {newest}"
    inputs = [graph.tensors[index] for index in op.inputs if index >= 0]
    outputs = [graph.tensors[index] for index in op.outputs]
    if op.name == "QUANTIZE" and any(tensor.dtype not in INT8 for tensor in inputs):
        # As in real logs of 15.0 and 16.0 for float inputs.
        return LIMITATION, f"its input is {inputs[0].dtype.lower()}"
    edges = [tensor for tensor in (*inputs, *outputs) if tensor.data is None]
    odd = next((tensor for tensor in edges if tensor.dtype not in INT8), None)
    if odd is not None:
        return DATA_TYPE, f"{odd.name or 'a tensor'} is {odd.dtype.lower()}"
    missing = [
        graph.tensors[i]
        for i in op.inputs[1 : 1 + PARAMETERS.get(op.name, 0)]
        if i >= 0 and graph.tensors[i].data is None
    ]
    if missing:
        return NOT_CONSTANT, f"{missing[0].name or 'a parameter'} is computed at run time"
    deep = next((tensor for tensor in edges if _too_deep(tensor)), None)
    if deep is not None:
        return RANK, f"{deep.name or 'a tensor'} is {list(deep.shape)}"
    special = SPECIAL.get(op.name)
    return special(Case(op, inputs, outputs)) if special else None


def _too_deep(tensor: LiteTensor) -> bool:
    """More than one element outside the three innermost dimensions."""
    return math.prod(tensor.shape[:-3]) > 1
