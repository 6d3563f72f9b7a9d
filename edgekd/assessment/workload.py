"""What a .tflite asks of a device, op by op: multiply-accumulates by class, parameter bytes, activation bytes.

These counts are the features of `latency.py`, what `mapping.py` weighs fallbacks by, and what `edits.py` changes.
They follow from shapes alone, so an untrained network gives the same counts as a trained one.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable

from edgekd.tflite.flatbuffer import LiteGraph, LiteOp, LiteTensor

# Classes of multiply-accumulates that kernels run at different speeds. "pointwise": 1 x 1 convolutions, a GEMM as it
# stands. "depthwise": one filter a channel. "stem": k x k over fewer than NARROW input channels. "dense": other k x k
# convolutions. "fc": a matrix times one vector (FULLY_CONNECTED, or a 1 x 1 convolution on a 1 x 1 map).
MAC_CLASSES = ("pointwise", "depthwise", "stem", "dense", "fc")
NARROW = 8  # input channels under one kernel tile (8 on AArch64): the image's 1 or 3
WIDTHS = {
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
}  # bytes an element
VIEWS = frozenset(
    {"RESHAPE", "SQUEEZE", "EXPAND_DIMS"}
)  # same bytes under another shape: nothing is computed


@dataclasses.dataclass(frozen=True)
class Work:
    """One op's work. `kind`: one of MAC_CLASSES, or "" for an op without MACs.

    `macs`: multiply-accumulates of one inference. `parameter_bytes`: constants it reads. `moved_bytes`: activations it
    reads and writes. `spatial`: whether its output has height or width above 1, so that a smaller image makes it
    cheaper. `channels`: of its output.
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
    """Bytes of a tensor's data; sub-byte types count as one byte."""
    return math.prod(tensor.shape) * WIDTHS.get(tensor.dtype, 1)


def work(graph: LiteGraph) -> list[Work]:
    """The work of every op of a graph, in order."""
    return [_work(graph, op) for op in graph.ops]


def _work(graph: LiteGraph, op: LiteOp) -> Work:
    inputs = [graph.tensors[index] for index in op.inputs if index >= 0]
    outputs = [graph.tensors[index] for index in op.outputs]
    kind, macs = _macs(op, graph)
    moved = (
        0
        if op.name in VIEWS
        else sum(map(bytes_of, [*(t for t in inputs if t.data is None), *outputs]))
    )
    shape = outputs[0].shape
    return Work(
        op.index,
        op.name,
        kind,
        macs,
        sum(bytes_of(t) for t in inputs if t.data is not None),
        moved,
        len(shape) == 4 and shape[1] * shape[2] > 1,
        shape[-1] if shape else 1,
    )


def _macs(op: LiteOp, graph: LiteGraph) -> tuple[str, int]:
    """(class, multiply-accumulates of one inference)."""
    if op.name not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"):
        return "", 0
    weights = graph.tensors[op.inputs[1]].shape
    output = graph.tensors[op.outputs[0]].shape
    size = math.prod(weights)
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


# The features of latency.py, in order, with the unit of each.
FEATURES = (*MAC_CLASSES, "parameter_bytes", "moved_bytes", "ops", "constant")


def features(rows: Iterable[Work]) -> dict[str, float]:
    """{feature: amount} of a list of ops, with every name of FEATURES: MACs, bytes, a count, and 1."""
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
    """What most of a model's multiply-accumulates compute in: "int8" (int8 or uint8), "fp32", or "fp16"."""
    names = {"INT8": "int8", "UINT8": "int8", "FLOAT16": "fp16"}
    weight: dict[str, int] = {}
    for row in work(graph):
        if row.kind:
            dtype = graph.tensors[graph.ops[row.index].outputs[0]].dtype
            weight[dtype] = weight.get(dtype, 0) + row.macs
    return names.get(max(weight, key=lambda dtype: weight[dtype]), "fp32") if weight else "int8"
