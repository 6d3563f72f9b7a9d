"""Stores the weights of a float32 .tflite as float16, in the form of TensorFlow's converter.

Each float32 constant becomes float16, and a DEQUANTIZE at the start of the graph makes float32 of
it again. XNNPACK and the GPU delegates unpack such constants once, when the file is loaded: the
file is half as large and runs as fast.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekd.core.errors import UnsupportedNetwork
from edgekd.tflite.flatbuffer import LiteGraph, LiteTensor, read, schema, write

# tflite/tools/versioning/op_version.cc: DEQUANTIZE from float16.
DEQUANTIZE_VERSION = 3
LARGEST = float(np.finfo(np.float16).max)
SUFFIX = "_float32"  # of the name of what DEQUANTIZE makes


def with_float16_weights(data: bytes) -> bytes:
    """The file with float16 weights. Equal input gives equal bytes.

    Raises UnsupportedNetwork for a weight beyond float16.
    """
    graph = read(data)
    parts, model, subgraph = schema(), graph.model, graph.model.subgraphs[0]
    constants = [row for row in graph.tensors if row.dtype == "FLOAT32" and row.data is not None]
    code = parts.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = parts.BuiltinOperator.DEQUANTIZE
    code.version = DEQUANTIZE_VERSION
    model.operatorCodes.append(code)
    made: dict[int, int] = {}  # constant -> what DEQUANTIZE makes of it
    unpack = []
    for constant in constants:
        made[constant.index] = _unpacked(graph, constant)
        op = parts.OperatorT()
        op.opcodeIndex = len(model.operatorCodes) - 1
        op.inputs = np.array([constant.index], np.int32)
        op.outputs = np.array([made[constant.index]], np.int32)
        unpack.append(op)
    for op in subgraph.operators:
        op.inputs = np.array([made.get(int(index), int(index)) for index in op.inputs], np.int32)
    subgraph.operators = [*unpack, *subgraph.operators]
    _empty_unused_buffers(model)
    return write(model)


def _empty_unused_buffers(model: Any) -> None:
    """Drop the float32 data that nothing refers to any more. Buffers keep their numbers."""
    used = {tensor.buffer for tensor in model.subgraphs[0].tensors}
    used |= {entry.buffer for entry in model.metadata or []}
    for number, buffer in enumerate(model.buffers):
        if number not in used:
            buffer.data = None


def _unpacked(graph: LiteGraph, constant: LiteTensor) -> int:
    """Store a constant as float16, and append the float32 tensor that is made of it.

    Returns the index of that tensor.
    """
    parts, model, subgraph = schema(), graph.model, graph.model.subgraphs[0]
    values = np.asarray(constant.data, np.float32)
    largest = float(np.abs(values).max(initial=0.0))
    if not largest <= LARGEST:
        raise UnsupportedNetwork(
            f"the constant {constant.name!r} holds {largest:.4g}, and float16 ends at {LARGEST:g}",
            "take float32 in place of float16",
        )
    buffer = parts.BufferT()
    buffer.data = np.frombuffer(values.astype("<f2").tobytes(), np.uint8)
    stored = subgraph.tensors[constant.index]
    # A buffer of its own: another tensor may share the float32 one.
    model.buffers.append(buffer)
    whole = parts.TensorT()
    whole.name, whole.shape, whole.hasRank = constant.name + SUFFIX, stored.shape, True
    whole.type = parts.TensorType.FLOAT32
    whole.quantization = parts.QuantizationParametersT()
    stored.type, stored.buffer = parts.TensorType.FLOAT16, len(model.buffers) - 1
    subgraph.tensors.append(whole)
    return len(subgraph.tensors) - 1
