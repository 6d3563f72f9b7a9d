"""What a .tflite asks of a device, operator by operator: MACs by class, and bytes that are read.

A MAC is one multiply-accumulate. The counts are the features of the latency model (latency/), the
weights of operators that do not map (model_placement.py), and what the edits of graph_edits.py
change. They follow from shapes alone, so an untrained network gives the same counts as a trained
one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

from edgekd.tflite.flatbuffer import LiteGraph, LiteOp, LiteTensor
from edgekd.tflite.operators import operator_group, operator_table

# Classes of MACs that kernels run at different speeds. "pointwise": 1 x 1 convolutions, which are a
# matrix product as they stand. "depthwise": one filter for each channel. "stem": k x k over fewer
# than NARROW input channels. "dense": other k x k convolutions. "fc": a matrix times one vector
# (FULLY_CONNECTED, or a 1 x 1 convolution on a 1 x 1 map).
MAC_CLASSES = ("pointwise", "depthwise", "stem", "dense", "fc")
# Input channels below one tile of the kernels (8 on AArch64): those of an image, 1 or 3.
NARROW = 8
BYTES = {  # of one element, by dtype
    "FLOAT32": 4,
    "FLOAT16": 2,
    "FLOAT64": 8,
    "INT64": 8,
    "INT32": 4,
    "UINT32": 4,
    "INT16": 2,
    "INT8": 1,
    "UINT8": 1,
    "BOOL": 1,
}
# Operators that give the same bytes another shape and compute nothing.
VIEWS = frozenset({"RESHAPE", "SQUEEZE", "EXPAND_DIMS"})
operator_group(f"{__name__}.VIEWS", VIEWS, "it reads and writes bytes")
# The operators that multiply; every other one has no MACs.
MULTIPLYING = frozenset(
    {"BATCH_MATMUL", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"}
)
_WITHOUT_WEIGHTS = "no weights: its work is counted as one operator and as bytes moved"
operator_table(
    f"{__name__}.MULTIPLYING",
    MULTIPLYING,
    absent=dict.fromkeys(
        [
            *("ADD", "AVERAGE_POOL_2D", "CONCATENATION", "ELU", "GELU", "HARD_SWISH"),
            *("L2_NORMALIZATION", "LEAKY_RELU", "LOGISTIC", "MAX_POOL_2D", "MEAN", "MUL", "PAD"),
            *("PADV2", "PRELU", "QUANTIZE", "RELU", "RELU6", "RESHAPE", "RESIZE_BILINEAR"),
            *("RESIZE_NEAREST_NEIGHBOR", "RSQRT", "SLICE", "SOFTMAX", "STRIDED_SLICE", "SUB"),
            "TRANSPOSE",
        ],
        _WITHOUT_WEIGHTS,
    ),
)
# The features of the latency model: MACs of each class, bytes, a count, and 1.
FEATURES = (*MAC_CLASSES, "parameter_bytes", "moved_bytes", "ops", "constant")


@dataclasses.dataclass(frozen=True)
class Work:
    """The work of one operator in one inference.

    `kind`: one of MAC_CLASSES, or "" for an operator without MACs. `parameter_bytes`: constants
    that it reads. `moved_bytes`: activations that it reads and writes. `spatial`: whether its
    output has a height or width above 1, so that a smaller image makes it cheaper. `channels`: of
    its output.
    """

    index: int
    op: str
    kind: str
    macs: int
    parameter_bytes: int
    moved_bytes: int
    spatial: bool
    channels: int


def bytes_of(tensor: LiteTensor) -> int:
    """Bytes of a tensor's data; a type below one byte counts as one byte."""
    return math.prod(tensor.shape) * BYTES.get(tensor.dtype, 1)


def work(graph: LiteGraph) -> list[Work]:
    """The work of every operator of a graph, in the order of the graph."""
    return [_work(graph, op) for op in graph.ops]


def _work(graph: LiteGraph, op: LiteOp) -> Work:
    inputs = [graph.tensors[index] for index in op.inputs if index >= 0]
    outputs = [graph.tensors[index] for index in op.outputs]
    kind, macs = _macs(op, graph)
    activations = [*(tensor for tensor in inputs if tensor.data is None), *outputs]
    shape = outputs[0].shape
    return Work(
        index=op.index,
        op=op.name,
        kind=kind,
        macs=macs,
        parameter_bytes=sum(bytes_of(tensor) for tensor in inputs if tensor.data is not None),
        moved_bytes=0 if op.name in VIEWS else sum(map(bytes_of, activations)),
        spatial=len(shape) == 4 and shape[1] * shape[2] > 1,
        channels=shape[-1] if shape else 1,
    )


def _macs(op: LiteOp, graph: LiteGraph) -> tuple[str, int]:
    """(class, MACs of one inference); none where the shapes are unknown or do not fit."""
    if op.name not in MULTIPLYING or len(op.inputs) < 2:
        return "", 0
    weights = graph.tensors[op.inputs[1]].shape
    output = graph.tensors[op.outputs[0]].shape
    if not _ranks_fit(op, graph, weights, output):
        return "", 0
    size = math.prod(weights)
    if op.name == "BATCH_MATMUL":
        inner = weights[-1] if op.options.get("adjY") else weights[-2]
        return "pointwise", math.prod(output) * inner
    if op.name == "FULLY_CONNECTED" and math.prod(output[:-1]) > 1:  # a row for each token
        return "pointwise", math.prod(output) * weights[1]
    if op.name == "FULLY_CONNECTED":
        return "fc", size * (math.prod(output) // max(output[-1], 1))
    if op.name == "TRANSPOSE_CONV":  # every input position meets every weight
        source = graph.tensors[op.inputs[2]].shape
        return "dense", size * source[1] * source[2]
    positions = output[0] * output[1] * output[2]
    if op.name == "DEPTHWISE_CONV_2D":
        return "depthwise", positions * size
    if weights[1] == weights[2] == 1:
        return ("fc" if positions == 1 else "pointwise"), positions * size
    return ("stem" if weights[3] < NARROW else "dense"), positions * size


def _ranks_fit(
    op: LiteOp, graph: LiteGraph, weights: tuple[int, ...], output: tuple[int, ...]
) -> bool:
    """Whether the tensors have the ranks that the operator's MACs are counted from."""
    if op.name == "FULLY_CONNECTED":
        return len(output) >= 1
    if op.name == "TRANSPOSE_CONV":
        return len(op.inputs) > 2 and len(graph.tensors[op.inputs[2]].shape) == 4
    return len(weights) == len(output) == 4


def features(rows: Iterable[Work]) -> dict[str, float]:
    """{feature: amount} of a list of operators, with every name of FEATURES."""
    found = dict.fromkeys(FEATURES, 0.0)
    for row in rows:
        if row.kind:
            found[row.kind] += row.macs
        found["parameter_bytes"] += row.parameter_bytes
        found["moved_bytes"] += row.moved_bytes
        found["ops"] += row.op not in VIEWS
    found["constant"] = 1.0
    return found


def precision(graph: LiteGraph) -> str:
    """What most of a model's MACs compute in: "int8" (int8 or uint8), "fp32" or "fp16"."""
    names = {"INT8": "int8", "UINT8": "int8", "FLOAT16": "fp16"}
    weight: dict[str, int] = {}
    for row in work(graph):
        if row.kind:
            dtype = graph.tensors[graph.ops[row.index].outputs[0]].dtype
            weight[dtype] = weight.get(dtype, 0) + row.macs
    return names.get(max(weight, key=lambda dtype: weight[dtype]), "fp32") if weight else "int8"
