"""Puts an int8 network behind uint8 or float32 inputs and outputs, and takes them off again.

MediaPipe, the Task Library and LiteRT.js take uint8 or float32 tensors and refuse int8. The network
inside stays the certified one: only a QUANTIZE behind the input and a QUANTIZE or DEQUANTIZE before
the output are added. Between uint8 and int8 of the same scale a code moves by 128 and nothing is
lost (kernels/quantize.cc, RequantizeIdentity). `core` gives back the int8 network, byte for byte.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgekd.core.errors import ModelFileError
from edgekd.tflite.flatbuffer import LiteGraph, read, schema, write

FORMS = ("uint8", "float32")
SHIFT = 128  # between a uint8 code and the int8 code of the same real number
# tflite/tools/versioning/op_version.cc: QUANTIZE to 8 bits is version 1, DEQUANTIZE from int8
# version 2.
VERSIONS = {"QUANTIZE": 1, "DEQUANTIZE": 2}
# Names of the ports, which apps show.
INPUT, OUTPUT = "image", "scores"
# Behind the name of the int8 tensor of a further output.
PORT = "_port"


def core(data: bytes | memoryview) -> bytes:
    """The int8 network without ports. A file without ports is returned as it is.

    Remove metadata first (`model_metadata.detach`). Raises ModelFileError when the file holds no
    int8 network.
    """
    graph = read(data)
    first = _port(graph, graph.inputs[0], "reads")
    last = [_port(graph, index, "writes") for index in graph.outputs]
    source = first.outputs[0] if first else graph.inputs[0]
    targets = [op.inputs[0] if op else index for op, index in zip(last, graph.outputs, strict=True)]
    types = [graph.tensors[index].dtype for index in (source, *targets)]
    if any(dtype != "INT8" for dtype in types):
        raise ModelFileError(
            f"not an int8 network: its input and output are {types} inside its ports",
            "take a file written by `edgekd build`",
        )
    if first is None and not any(last):
        return bytes(data)
    drop_ops = {op.index for op in (first, *last) if op}
    drop = {graph.inputs[0]} if first else set()
    drop |= {index for op, index in zip(last, graph.outputs, strict=True) if op}
    _reduce(graph, drop_ops, drop, source, targets)
    return write(graph.model)


def _port(graph: LiteGraph, tensor: int, side: str) -> Any:
    """The port operator at an input ("reads") or output ("writes"), or None."""
    near = [op for op in graph.ops if tensor in (op.inputs if side == "reads" else op.outputs)]
    return near[0] if len(near) == 1 and near[0].name in VERSIONS else None


def _reduce(
    graph: LiteGraph, ops: set[int], tensors: set[int], source: int, targets: list[int]
) -> None:
    """Remove operators and tensors with their buffers from the schema's model, and renumber the
    rest.
    """
    model, subgraph = graph.model, graph.model.subgraphs[0]
    place = {
        old: new for new, old in enumerate(i for i in range(len(graph.tensors)) if i not in tensors)
    }
    gone = sorted({int(subgraph.tensors[index].buffer) for index in tensors} - {0}, reverse=True)
    subgraph.tensors = [tensor for index, tensor in enumerate(subgraph.tensors) if index in place]
    for buffer in gone:
        model.buffers.pop(buffer)
        for holder in [*subgraph.tensors, *(model.metadata or [])]:
            holder.buffer -= holder.buffer > buffer
    subgraph.operators = [op for index, op in enumerate(subgraph.operators) if index not in ops]
    for op in subgraph.operators:
        op.inputs, op.outputs = (
            np.array([place.get(int(i), -1) for i in part], np.int32)
            for part in (op.inputs, op.outputs)
        )
    used = sorted({op.opcodeIndex for op in subgraph.operators})
    for op in subgraph.operators:
        op.opcodeIndex = used.index(op.opcodeIndex)
    model.operatorCodes = [model.operatorCodes[index] for index in used]
    _point(graph, place[source], [place[index] for index in targets])


def _point(graph: LiteGraph, source: int, targets: list[int]) -> None:
    """Make these tensors the graph's input and its outputs, in its signature too."""
    model, subgraph = graph.model, graph.model.subgraphs[0]
    subgraph.inputs, subgraph.outputs = np.array([source], np.int32), np.array(targets, np.int32)
    moved = dict(zip(graph.outputs, targets, strict=True))
    for signature in model.signatureDefs or []:
        for port in signature.inputs or []:
            port.tensorIndex = source
        for port in signature.outputs or []:
            port.tensorIndex = moved[port.tensorIndex]


def with_ports(data: bytes | memoryview, form: str) -> bytes:
    """The network of a .tflite behind ports of `form`. Other ports are replaced.

        "uint8"    pixels in, codes out: int8's codes + 128, same scale
        "float32"  real numbers in and out; the input is scale * (pixel - 128 - zero_point)

    A file that has these ports stays as it is; equal input gives equal bytes. Raises ModelFileError
    as `core` does, and ValueError for another form.
    """
    if form not in FORMS:
        raise ValueError(f"form {form!r} is not one of {FORMS}")
    graph = read(data)
    if all(
        graph.tensors[index].dtype == form.upper() for index in (graph.inputs[0], *graph.outputs)
    ):
        core(data)  # raises for a file without an int8 network inside
        return bytes(data)
    graph = read(core(data))
    inside, outside = graph.inputs[0], list(graph.outputs)
    entry = _tensor(graph, inside, INPUT, form)
    leave = [
        # The further outputs keep their names, which tell them apart.
        _tensor(graph, index, f"{graph.tensors[index].name}{PORT}" if number else OUTPUT, form)
        for number, index in enumerate(outside)
    ]
    subgraph = graph.model.subgraphs[0]
    subgraph.operators.insert(0, _operator(graph, "QUANTIZE", entry, inside))
    for inner, outer in zip(outside, leave, strict=True):
        subgraph.operators.append(
            _operator(graph, "DEQUANTIZE" if form == "float32" else "QUANTIZE", inner, outer)
        )
    _point(graph, entry, leave)
    return write(graph.model)


def _tensor(graph: LiteGraph, like: int, name: str, form: str) -> int:
    """Append the port's tensor with a buffer of its own. Returns its index."""
    parts, model, subgraph, inner = (
        schema(),
        graph.model,
        graph.model.subgraphs[0],
        graph.tensors[like],
    )
    names = {tensor.name for tensor in graph.tensors}
    tensor = parts.TensorT()
    tensor.name = name if name not in names else f"{name}{PORT}"
    tensor.shape, tensor.hasRank = np.asarray(inner.shape, np.int32), True
    tensor.type = getattr(parts.TensorType, form.upper())
    tensor.quantization = parts.QuantizationParametersT()
    if form == "uint8":
        tensor.quantization.scale = inner.scale
        tensor.quantization.zeroPoint = inner.zero_point + SHIFT
    tensor.buffer = len(model.buffers)
    model.buffers.append(parts.BufferT())
    subgraph.tensors.append(tensor)
    return len(subgraph.tensors) - 1


def _operator(graph: LiteGraph, name: str, source: int, target: int) -> Any:
    parts, model = schema(), graph.model
    builtin, version = getattr(parts.BuiltinOperator, name), VERSIONS[name]
    known = [(code.builtinCode, code.version) for code in model.operatorCodes]
    if (builtin, version) not in known:
        code = parts.OperatorCodeT()
        # Both operators are below 127, where the two fields agree.
        code.builtinCode = code.deprecatedBuiltinCode = builtin
        code.version = version
        model.operatorCodes.append(code)
        known.append((builtin, version))
    op = parts.OperatorT()
    op.opcodeIndex = known.index((builtin, version))
    op.inputs, op.outputs = np.array([source], np.int32), np.array([target], np.int32)
    return op
