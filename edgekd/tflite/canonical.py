"""The canonical form of a .tflite: what TensorFlow's converter writes beside the network itself.

The pass takes any file with one graph. It sets the following; names, codes, scales and the order of
the operators stay:

    operator codes  one for each name, in order of first use, in the newest version that an operator
                    of that name needs (`edgekd.tflite.op_versions`); deprecated_builtin_code beside
                    builtin_code, 127 for what does not fit
    tensors         inputs, then constants in the order in which operators read them, then outputs
                    of operators; unread tensors are dropped; equal parameters (axes, shapes,
                    paddings) are one tensor; no shape_signature for a static shape
    buffers         0 is empty, tensor i has buffer i + 1 (empty for activations), metadata come
                    last; no offsets
    quantization    float32 scales with as many int64 zero points, quantized_dimension 0 unless
                    there are several scales, no min and max
    options         none for RESHAPE and TRANSPOSE, whose second input holds them
    metadata        min_runtime_version, in 16 bytes, before the others

Some things differ from TensorFlow on purpose. Its CONVERSION_METADATA, with the version and the
flags of a TensorFlow that did not run, is left out, and so is its description "MLIR Converted.".
The order of constants is TensorFlow's own (2.3 and 2.21 differ), so ours is the plain one.
TensorFlow 2.21 lets two biases with equal contents share a buffer; here each has its own. Tensors
are named after the modules that they come from, and not after Keras layers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np

from edgekd.core.artifacts import Json
from edgekd.core.errors import ModelFileError
from edgekd.tflite.flatbuffer import LiteGraph, LiteTensor, read, schema, write
from edgekd.tflite.op_versions import OpVersion, has_rule, newest, shared_versions
from edgekd.tflite.operators import operator_group

# deprecated_builtin_code of every operator beyond it:
# BuiltinOperator_PLACEHOLDER_FOR_GREATER_OP_CODES.
PLACEHOLDER_MAX = 127
MIN_RUNTIME = "min_runtime_version"
MIN_RUNTIME_BYTES = 16  # TensorFlow pads the text with zeros to this length
# The second input holds the shape or the order, and no options repeat it.
WITHOUT_OPTIONS = frozenset({"RESHAPE", "TRANSPOSE"})
operator_group(f"{__name__}.WITHOUT_OPTIONS", WITHOUT_OPTIONS, "its options stay in the file")


@dataclasses.dataclass(frozen=True)
class Deviation:
    """A difference from TensorFlow's converter. `where`: "op", "tensor" or "metadata"."""

    where: str
    name: str
    expected: Json
    found: Json


def canonical(data: bytes | memoryview) -> bytes:
    """The same network in canonical form. A canonical file stays as it is.

    Equal input gives equal bytes.

    Raises ModelFileError for a file that cannot be read, or in which two tensors share a name.
    """
    graph = read(data)
    model, subgraph = graph.model, graph.model.subgraphs[0]
    order, place = tensor_order(graph)
    names = [graph.tensors[old].name for old in order]
    if len(set(names)) != len(names) or "" in names:
        twice = next((name for name in names if names.count(name) > 1), "")
        raise ModelFileError(
            f"two tensors of this .tflite are called {twice!r}",
            "give every tensor a name of its own",
        )
    blobs = [graph.tensors[old].data for old in order]
    tensors = [
        _tensor(subgraph.tensors[old], graph.tensors[old], new) for new, old in enumerate(order)
    ]
    versions = shared_versions(graph.ops, graph.tensors)
    _operators(graph, place, versions)
    subgraph.tensors = tensors
    subgraph.inputs, subgraph.outputs = (
        [place[index] for index in part] for part in (graph.inputs, graph.outputs)
    )
    subgraph.name = subgraph.name or "main"
    for signature in model.signatureDefs or []:
        for port in [*(signature.inputs or []), *(signature.outputs or [])]:
            port.tensorIndex = place[port.tensorIndex]
    metadata = {
        _text(entry.name): model.buffers[entry.buffer].data for entry in model.metadata or []
    }
    stated = metadata.pop(MIN_RUNTIME, None)
    # With an operator that we have no rule for, the file's own statement counts too.
    if stated is not None and not all(has_rule(op, graph.tensors) for op in graph.ops):
        versions.append(
            OpVersion(1, bytes(bytearray(stated)).rstrip(b"\0").decode("ascii", "replace"))
        )
    metadata = {MIN_RUNTIME: newest(versions).encode().ljust(MIN_RUNTIME_BYTES, b"\0"), **metadata}
    model.metadata = [
        _metadata(name, len(tensors) + 1 + number) for number, name in enumerate(metadata)
    ]
    model.buffers = [
        _buffer(None),
        *(_buffer(None if blob is None else blob.tobytes()) for blob in blobs),
        *map(_buffer, metadata.values()),
    ]
    model.description = _text(model.description)
    return write(model)


def complete(model: Any, graph: LiteGraph) -> None:
    """Give the ModelT of a canonical graph what the canonical form adds, in place.

    `model`: with the tensors and operators of the graph, in their order, and a buffer for each
    tensor.
    """
    versions = shared_versions(graph.ops, graph.tensors)
    names = [(op.name, one.number, None) for op, one in zip(graph.ops, versions, strict=True)]
    model.operatorCodes = operator_codes(dict.fromkeys(names))
    for index, tensor in enumerate(model.subgraphs[0].tensors):
        tensor.buffer, tensor.hasRank = index + 1, True
    stated = newest(versions).encode().ljust(MIN_RUNTIME_BYTES, b"\0")
    model.metadata = [_metadata(MIN_RUNTIME, len(model.buffers) + 1)]
    model.buffers = [_buffer(None), *model.buffers, _buffer(stated)]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")


def tensor_order(graph: LiteGraph) -> tuple[list[int], dict[int, int]]:
    """The canonical order of a graph's tensors: (old indices in their new order, {old: new}).

    Equal parameters share one new index, and the first of them is in the order.
    """
    order: list[int] = list(graph.inputs)
    seen: dict[tuple[Any, ...], int] = {}  # what a parameter holds -> its old index
    same: dict[int, int] = {}
    for op in graph.ops:
        for index in op.inputs:
            tensor = graph.tensors[index]
            if index < 0 or tensor.data is None or index in order or index in same:
                continue
            first = seen.setdefault(_content(tensor), index)
            if first == index:
                order.append(index)
            else:
                same[index] = first
    outputs = [index for op in graph.ops for index in op.outputs]
    order += [index for index in outputs if index not in order]
    read_only = [index for op in graph.ops for index in op.inputs if index >= 0]
    order += [
        index
        for index in dict.fromkeys([*read_only, *graph.outputs])
        if index not in order and index not in same
    ]
    place = {old: new for new, old in enumerate(order)}
    return order, place | {old: place[first] for old, first in same.items()}


def _content(tensor: LiteTensor) -> tuple[Any, ...]:
    """What makes two constants equal: all of a parameter, the name of a weight or bias."""
    assert tensor.data is not None
    if tensor.scale.size:
        return ("layer", tensor.name, tensor.index)
    return (tensor.dtype, tensor.shape, tensor.data.tobytes())


def _tensor(tensor: Any, facts: LiteTensor, index: int) -> Any:
    tensor.buffer, tensor.hasRank = index + 1, True
    if tensor.shapeSignature is not None and -1 not in list(tensor.shapeSignature):
        tensor.shapeSignature = None
    quantization = schema().QuantizationParametersT()
    if facts.scale.size:
        zeros = facts.zero_point if facts.zero_point.size else np.zeros(1, np.int64)
        quantization.scale = facts.scale
        quantization.zeroPoint = np.ascontiguousarray(
            np.broadcast_to(zeros, facts.scale.shape), np.int64
        )
        quantization.quantizedDimension = facts.axis if facts.scale.size > 1 else 0
    tensor.quantization = quantization
    return tensor


def _operators(graph: LiteGraph, place: dict[int, int], versions: list[OpVersion]) -> None:
    parts, model = schema(), graph.model
    codes: dict[tuple[str, int, Any], int] = {}
    for op, version, written in zip(graph.ops, versions, model.subgraphs[0].operators, strict=True):
        number, custom = version.number, model.operatorCodes[written.opcodeIndex].customCode
        written.opcodeIndex = codes.setdefault((op.name, number, custom), len(codes))
        written.inputs, written.outputs = (
            np.array([place[index] if index >= 0 else -1 for index in part], np.int32)
            for part in (op.inputs, op.outputs)
        )
        if op.name in WITHOUT_OPTIONS and len(op.inputs) == 2:
            written.builtinOptions, written.builtinOptionsType = None, parts.BuiltinOptions.NONE
        written.mutatingVariableInputs = written.intermediates = None
    model.operatorCodes = operator_codes(codes)


def operator_codes(codes: Iterable[tuple[str, int, Any]]) -> list[Any]:
    """The OperatorCodeT of each operator: (name, version, name of a custom one or None)."""
    parts = schema()
    made = []
    for name, number, custom in codes:
        code = parts.OperatorCodeT()
        code.builtinCode, code.version, code.customCode = (
            getattr(parts.BuiltinOperator, name),
            number,
            custom,
        )
        code.deprecatedBuiltinCode = min(code.builtinCode, PLACEHOLDER_MAX)
        made.append(code)
    return made


def _metadata(name: str, buffer: int) -> Any:
    entry = schema().MetadataT()
    entry.name, entry.buffer = name, buffer
    return entry


def _buffer(data: Any) -> Any:
    buffer = schema().BufferT()
    buffer.data = data
    return buffer


def deviations(data: bytes | memoryview) -> list[Deviation]:
    """Where a file differs from its canonical form, under the name of the operator or tensor.

    Raises ModelFileError as `canonical` does.
    """
    found, expected = _facts(read(data)), _facts(read(canonical(data)))
    return [
        Deviation(
            where,
            name,
            {field: expected.get((where, name, field))},
            {field: found.get((where, name, field))},
        )
        for where, name, field in dict.fromkeys([*found, *expected])
        if found.get((where, name, field)) != expected.get((where, name, field))
    ]


def _facts(graph: LiteGraph) -> dict[tuple[str, str, str], Json]:
    """{(where, name, field): value} of everything that the canonical form decides."""
    model = graph.written
    facts: dict[tuple[str, str, str], Json] = {}
    for op, written in zip(graph.ops, model.subgraphs[0].operators, strict=True):
        code = model.operatorCodes[written.opcodeIndex]
        label = op.label(graph.tensors)
        facts["op", label, "version"] = int(code.version)
        facts["op", label, "deprecated_builtin_code"] = int(code.deprecatedBuiltinCode)
        facts["op", label, "options"] = int(written.builtinOptionsType)
    for tensor, written in zip(graph.tensors, model.subgraphs[0].tensors, strict=True):
        signature, quantization = written.shapeSignature, written.quantization
        for field, value in {
            "buffer less index": int(written.buffer) - tensor.index,
            "place": _place(graph, tensor),
            "shape_signature": None if signature is None else [int(size) for size in signature],
            "scales": int(tensor.scale.size),
            "zero_points": int(tensor.zero_point.size),
            "quantized_dimension": tensor.axis,
            "min and max": bool(
                quantization is not None and quantization.min is not None and len(quantization.min)
            ),
        }.items():
            facts["tensor", tensor.name, field] = value
    for entry in model.metadata or []:
        if _text(entry.name) == MIN_RUNTIME:
            facts["metadata", MIN_RUNTIME, "text"] = bytes(
                bytearray(model.buffers[entry.buffer].data)
            ).decode("latin1")
    facts["metadata", "buffer 0", "bytes"] = (
        len(model.buffers[0].data) if model.buffers[0].data is not None else 0
    )
    return facts


def _place(graph: LiteGraph, tensor: LiteTensor) -> str:
    """Whether a tensor stands where inputs, constants and results stand in a canonical file."""
    constants = [other.index for other in graph.tensors if other.data is not None]
    if not constants or tensor.data is not None:
        return "in order"
    early = tensor.index < min(constants)
    return "in order" if early == (tensor.index in graph.inputs) else "out of order"
