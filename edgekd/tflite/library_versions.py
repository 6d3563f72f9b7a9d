"""Operator versions of files that ai-edge-quantizer wrote, which states version 1 for each.

A runtime finds a kernel by operator and version. With version 1, one that is older than int16
activations, or than int8 weights with a scale for each channel, loads the file and then fails, or
takes the first scale for all. The rules are TensorFlow's: tflite/tools/versioning/op_version.cc at
02087409. It has none for int16 activations with int8 weights in CONV_2D, DEPTHWISE_CONV_2D and
FULLY_CONNECTED, so those stay as they are.
"""

from __future__ import annotations

from edgekd.tflite.flatbuffer import LiteGraph, LiteOp, LiteTensor, read, write
from edgekd.tflite.operators import operator_group

# Operators whose version depends on their first input being int16.
INT16 = {
    "ADD": 3,
    "AVERAGE_POOL_2D": 3,
    "BATCH_MATMUL": 3,
    "CONCATENATION": 3,
    "DEQUANTIZE": 3,
    "LEAKY_RELU": 2,
    "LOGISTIC": 3,
    "MAXIMUM": 4,
    "MAX_POOL_2D": 3,
    "MEAN": 3,
    "MUL": 4,
    "PAD": 3,
    "PADV2": 3,
    "REDUCE_MAX": 3,
    "RELU": 3,
    "RELU6": 3,
    "RESIZE_BILINEAR": 4,
    "RESIZE_NEAREST_NEIGHBOR": 4,
    "RSQRT": 3,
    "SLICE": 4,
    "SOFTMAX": 3,
    "SUB": 5,
    "TANH": 3,
    "TRANSPOSE": 5,
}
operator_group(f"{__name__}.INT16", INT16, "op_version.cc has no version of its own for int16")
# Layers with float32 inputs and int8 weights: the version with one scale, and with one a channel.
HYBRID = {"CONV_2D": (2, 5), "DEPTHWISE_CONV_2D": (4, 6), "FULLY_CONNECTED": (3, 12)}
operator_group(f"{__name__}.HYBRID", HYBRID, "it has no weights, or is not computed so")
QUANTIZE_TO_INT16 = 2
GROUPED = 6  # CONV_2D whose weight has fewer input channels than the map


def with_versions(data: bytes) -> bytes:
    """The file with the versions that its operators need; the rest stays. Equal input gives equal
    bytes.
    """
    graph = read(data)
    codes, operators = graph.model.operatorCodes, graph.model.subgraphs[0].operators
    for op in graph.ops:
        code = codes[operators[op.index].opcodeIndex]
        code.version = max(int(code.version), _version(op, graph))
    return write(graph.model)


def _version(op: LiteOp, graph: LiteGraph) -> int:
    tensors = [graph.tensors[index] for index in op.inputs if index >= 0]
    if not tensors:
        return op.version
    if op.name == "QUANTIZE":
        return QUANTIZE_TO_INT16 if graph.tensors[op.outputs[0]].dtype == "INT16" else op.version
    if tensors[0].dtype == "INT16" and op.name in INT16:
        return INT16[op.name]
    return _layer(op, tensors) if op.name in HYBRID else op.version


def _layer(op: LiteOp, tensors: list[LiteTensor]) -> int:
    """The version of a layer whose weight is its second input."""
    source, weight = tensors[:2]
    found = op.version
    if source.dtype == "FLOAT32" and weight.dtype == "INT8":
        found = HYBRID[op.name][weight.scale.size > 1]
    grouped = op.name == "CONV_2D" and weight.shape[3] != source.shape[3]
    return max(found, GROUPED) if grouped else found
