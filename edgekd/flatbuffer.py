"""Reads, checks and writes TFLite flatbuffers: bytes -> LiteGraph, ModelT -> canonical bytes.

The interpreter can crash on a truncated file, so every file passes `read` before it meets one. `write` makes the file
say what TensorFlow's own converter would say: op versions, one buffer a tensor, no shape signatures, 16-byte aligned
data, `min_runtime_version`; the Edge TPU compiler and NNAPI's delegate look at op versions.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import struct
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.errors import MissingExtra, ModelFileError

IDENTIFIER = b"TFL3"  # file_identifier in tflite's schema.fbs, at bytes 4..8
ALIGNMENT = 16  # force_align of Buffer.data in schema.fbs; kernels load weights with aligned vector loads
DTYPES: dict[str, Any] = {
    "FLOAT32": np.float32, "FLOAT16": np.float16, "FLOAT64": np.float64, "INT64": np.int64, "INT32": np.int32,
    "INT16": np.int16, "INT8": np.int8, "UINT8": np.uint8, "BOOL": np.bool_, "UINT32": np.uint32,
}
PLACEHOLDER_MAX = 127  # deprecated_builtin_code of an op beyond it: BuiltinOperator_PLACEHOLDER_FOR_GREATER_OP_CODES
INTEGER_TYPES = frozenset({"INT8", "UINT8", "INT16", "INT32", "INT64", "BOOL"})

# (version, first runtime that has it) of each int8 op, as tflite/tools/versioning/op_version.cc and runtime_version.cc
# give them. Ops not listed are written as version 1.
INT8_VERSIONS: dict[str, tuple[int, str]] = {
    "ADD": (2, "1.14.0"),
    "AVERAGE_POOL_2D": (2, "1.14.0"),
    "CONCATENATION": (2, "1.14.0"),
    "CONV_2D": (3, "1.14.0"),
    "DEPTHWISE_CONV_2D": (3, "1.14.0"),
    "FULLY_CONNECTED": (4, "1.14.0"),
    "HARD_SWISH": (1, "1.15.0"),
    "LOGISTIC": (2, "1.14.0"),
    "MAX_POOL_2D": (2, "1.14.0"),
    "MEAN": (2, "1.14.0"),
    "MUL": (2, "1.14.0"),
    "PAD": (2, "1.14.0"),
    "PADV2": (2, "1.14.0"),
    "QUANTIZE": (1, "1.14.0"),
    "RELU": (2, "2.1.0"),
    "RELU6": (2, "1.14.0"),
    "RESHAPE": (1, "1.5.0"),
    "SLICE": (2, "1.14.0"),
    "SOFTMAX": (2, "1.14.0"),
    "TRANSPOSE": (2, "1.14.0"),
}
OLDEST_RUNTIME = "1.5.0"  # what runtime_version.cc gives for version 1 of the ops used here
# op -> its options table in schema.fbs
OPTIONS: dict[str, str] = {
    "ADD": "AddOptions", "AVERAGE_POOL_2D": "Pool2DOptions", "CONCATENATION": "ConcatenationOptions",
    "CONV_2D": "Conv2DOptions", "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions", "MAX_POOL_2D": "Pool2DOptions", "MEAN": "ReducerOptions",
    "MUL": "MulOptions", "PAD": "PadOptions", "PADV2": "PadV2Options", "RESHAPE": "ReshapeOptions",
    "SLICE": "SliceOptions", "SOFTMAX": "SoftmaxOptions", "TRANSPOSE": "TransposeOptions",
}


@dataclasses.dataclass(frozen=True)
class LiteTensor:
    """A tensor. `scale` (float32), `zero_point` (int64): empty unless quantised; `data`: None unless constant."""

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int64]
    axis: int
    data: npt.NDArray[Any] | None


@dataclasses.dataclass(frozen=True)
class LiteOp:
    """One operator: `options` are the schema's builtin options by name; an absent optional input is -1."""

    index: int
    name: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any]

    def label(self, tensors: list[LiteTensor]) -> str:
        """How messages name it: "CONV_2D #3 -> blocks.0.0.conv_pw"."""
        return f"{self.name} #{self.index} -> {tensors[self.outputs[0]].name}"


@dataclasses.dataclass(frozen=True)
class LiteGraph:
    """The one subgraph of a model, checked. `model` is the schema's own object, for passes that change it."""

    tensors: list[LiteTensor]
    ops: list[LiteOp]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    model: Any

    def counts(self) -> dict[str, int]:
        """{OP: how many}, by name."""
        return dict(sorted(collections.Counter(op.name for op in self.ops).items()))

    def by_name(self) -> dict[str, LiteTensor]:
        """{tensor name: tensor}."""
        return {tensor.name: tensor for tensor in self.tensors}


def schema() -> ModuleType:
    """The generated TFLite schema. Raises MissingExtra when ai-edge-litert is not installed."""
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise MissingExtra("ai-edge-litert", "lite", "reading a .tflite") from error
    return schema_py_generated


def _names(enum: type) -> dict[int, str]:
    return {value: name for name, value in vars(enum).items() if not name.startswith("_")}


def read(data: bytes | memoryview) -> LiteGraph:
    """Parse and check a .tflite: identifier, every offset, every index, every constant's length.

    Raises ModelFileError for a file that is truncated, of another kind, or holds anything but one subgraph.
    """
    data = bytes(data)
    if len(data) < 8 or data[4:8] != IDENTIFIER:
        raise ModelFileError(f"not a .tflite: {len(data)} bytes, and bytes 4..8 are {data[4:8]!r} instead of "
                             f"{IDENTIFIER!r}", "give a file written by a TFLite converter")
    parts = schema()
    if struct.unpack_from("<I", data)[0] + 4 > len(data):
        raise _broken("its root lies outside the file")
    try:
        model = parts.ModelT.InitFromObj(parts.Model.GetRootAs(data, 0))
    except Exception as error:  # struct, index, value and unicode errors: whatever the broken offset led to
        raise _broken(f"{type(error).__name__}: {error}") from error
    if not model.subgraphs or len(model.subgraphs) != 1:
        raise ModelFileError(f"this .tflite has {len(model.subgraphs or [])} subgraphs; exactly one is supported",
                             "convert a network without control flow")
    graph = model.subgraphs[0]
    try:
        tensors = [_tensor(model, index, tensor) for index, tensor in enumerate(_listed(graph.tensors))]
        ops = [_operator(model, index, op, len(tensors)) for index, op in enumerate(_listed(graph.operators))]
        inputs, outputs = (_indices(part, len(tensors), 0) for part in (graph.inputs, graph.outputs))
    except (TypeError, AttributeError, KeyError, ValueError) as error:
        raise _broken(f"{type(error).__name__}: {error}") from error
    return LiteGraph(tensors, ops, inputs, outputs, model)


def _broken(why: str) -> ModelFileError:
    return ModelFileError(f"this .tflite is truncated or damaged ({why})", "copy it again, or convert it again")


def _listed(values: Any) -> list[Any]:
    return [] if values is None else list(values)


def _indices(values: Any, count: int, lowest: int) -> tuple[int, ...]:
    found = tuple(int(value) for value in _listed(values))
    if any(not lowest <= index < count for index in found):
        raise ValueError(f"tensor index out of 0..{count - 1} in {found}")
    return found


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")


def _tensor(model: Any, index: int, tensor: Any) -> LiteTensor:
    dtype = _names(schema().TensorType)[tensor.type]
    shape = tuple(int(dim) for dim in _listed(tensor.shape))
    if not 0 <= tensor.buffer < len(model.buffers):
        raise ValueError(f"tensor {index} has buffer {tensor.buffer} of {len(model.buffers)}")
    buffer = model.buffers[tensor.buffer]
    if getattr(buffer, "offset", 0) > 1 or getattr(buffer, "size", 0) > 1:
        raise ValueError(f"tensor {index} lies outside the flatbuffer")
    raw, data = buffer.data, None
    if raw is not None and len(raw):
        if dtype not in DTYPES:
            raise ValueError(f"constant tensor {index} has type {dtype}")
        expected = math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize
        if len(raw) != expected:
            raise ValueError(f"tensor {index} holds {len(raw)} bytes instead of {expected}")
        data = np.frombuffer(bytes(bytearray(raw)), DTYPES[dtype]).reshape(shape)
    quant = tensor.quantization
    scale = np.asarray(_listed(quant.scale) if quant else [], np.float32)
    zero = np.asarray(_listed(quant.zeroPoint) if quant else [], np.int64)
    axis = int(quant.quantizedDimension) if quant else 0
    if len(scale) > 1 and (not 0 <= axis < len(shape) or shape[axis] != len(scale)):
        raise ValueError(f"tensor {index} has {len(scale)} scales on axis {axis} of {shape}")
    return LiteTensor(index, _text(tensor.name), shape, dtype, scale, zero, axis, data)


def _operator(model: Any, index: int, op: Any, tensors: int) -> LiteOp:
    code = model.operatorCodes[op.opcodeIndex] if 0 <= op.opcodeIndex < len(model.operatorCodes) else None
    if code is None:
        raise ValueError(f"op {index} has opcode {op.opcodeIndex} of {len(model.operatorCodes)}")
    builtin = max(int(code.builtinCode), int(code.deprecatedBuiltinCode))
    name = _names(schema().BuiltinOperator)[builtin]
    outputs = _indices(op.outputs, tensors, 0)
    if not outputs:
        raise ValueError(f"op {index} has no output")
    options = dict(vars(op.builtinOptions)) if op.builtinOptions is not None else {}
    return LiteOp(index, name, int(code.version), _indices(op.inputs, tensors, -1), outputs, options)


def is_full_integer(graph: LiteGraph) -> bool:
    """Whether every tensor is an integer and no op only converts between number formats.

    A QUANTIZE from the uint8 input, or to the uint8 output, moves integer codes by 128 and is none of those.
    """
    from edgekd.int8 import FLOAT_OPS
    used = {index for op in graph.ops for index in (*op.inputs, *op.outputs) if index >= 0}
    return all(graph.tensors[index].dtype in INTEGER_TYPES for index in used | set(graph.inputs) | set(graph.outputs)) \
        and not any(op.name in FLOAT_OPS and not {*op.inputs, *op.outputs} & {*graph.inputs, *graph.outputs}
                    for op in graph.ops)


class ModelBuilder:
    """Builds a model the way TensorFlow's converter lays an int8 model out.

    Op versions and their deprecated codes; buffer 0 empty and then one buffer for each tensor, in order; static shapes
    without a signature; a signature_def that names input and output; `min_runtime_version`, zero-padded to 16 bytes.
    Equal calls give equal bytes.
    """

    def __init__(self) -> None:
        self.indices: dict[str, int] = {}
        self._tensors: list[Any] = []
        self._data: list[npt.NDArray[Any] | None] = []
        self._ops: list[Any] = []
        self._codes: list[str] = []

    def tensor(self, name: str, shape: Iterable[int], dtype: str, *, data: npt.NDArray[Any] | None = None,
               scale: Any = None, zero_point: Any = None, axis: int = 0) -> int:
        """Index of the tensor `name`, added when it is new. `axis`: which one the scales belong to."""
        if name in self.indices:
            return self.indices[name]
        parts = schema()
        tensor = parts.TensorT()
        tensor.name, tensor.type, tensor.hasRank = name, getattr(parts.TensorType, dtype), True
        tensor.shape = np.asarray(list(shape), np.int32)
        tensor.buffer = len(self._tensors) + 1
        tensor.quantization = parts.QuantizationParametersT()
        if scale is not None:
            tensor.quantization.scale = np.asarray(scale, np.float32)
            tensor.quantization.zeroPoint = np.asarray(zero_point, np.int64)
            tensor.quantization.quantizedDimension = axis
        self.indices[name] = len(self._tensors)
        self._tensors.append(tensor)
        self._data.append(None if data is None else np.ascontiguousarray(data, DTYPES[dtype]))
        return self.indices[name]

    def op(self, name: str, inputs: Iterable[int], outputs: Iterable[int], options: dict[str, Any] | None) -> None:
        """Append an operator. `options`: fields of the schema's options table, None where the op has none."""
        parts = schema()
        if name not in self._codes:
            self._codes.append(name)
        op = parts.OperatorT()
        op.opcodeIndex = self._codes.index(name)
        op.inputs, op.outputs = (np.asarray(list(part), np.int32) for part in (inputs, outputs))
        if options is not None:
            table = OPTIONS[name]
            op.builtinOptionsType = getattr(parts.BuiltinOptions, table)
            op.builtinOptions = getattr(parts, f"{table}T")()
            for field, value in options.items():
                if not hasattr(op.builtinOptions, field):
                    raise AttributeError(f"{table} has no field {field!r}")
                setattr(op.builtinOptions, field, value)
        self._ops.append(op)

    def finish(self, input_name: str, output_name: str, description: str) -> bytes:
        """The whole model as bytes, with one input and one output."""
        parts = schema()
        graph = parts.SubGraphT()
        graph.name, graph.tensors, graph.operators = "main", self._tensors, self._ops
        graph.inputs, graph.outputs = [self.indices[input_name]], [self.indices[output_name]]
        model = parts.ModelT()
        model.description, model.subgraphs = description, [graph]
        versions = [INT8_VERSIONS.get(name, (1, OLDEST_RUNTIME)) for name in self._codes]
        model.operatorCodes = [_operator_code(name, version) for name, (version, _) in
                               zip(self._codes, versions, strict=True)]
        newest = max((runtime for _, runtime in versions), key=lambda text: [int(part) for part in text.split(".")])
        metadata = parts.MetadataT()
        metadata.name, metadata.buffer = "min_runtime_version", len(self._tensors) + 1
        model.metadata = [metadata]
        blobs = [None, *(None if data is None else data.tobytes() for data in self._data),
                 newest.encode().ljust(16, b"\0")]
        signature = parts.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = "serving_default", 0
        signature.inputs, signature.outputs = (
            [_port(name, self.indices[name])] for name in (input_name, output_name))
        model.signatureDefs = [signature]
        model.buffers = []
        for blob in blobs:
            buffer = parts.BufferT()
            buffer.data = blob
            model.buffers.append(buffer)
        return write(model)


def _port(name: str, index: int) -> Any:
    port = schema().TensorMapT()
    port.name, port.tensorIndex = name, index
    return port


def _operator_code(name: str, version: int) -> Any:
    code = schema().OperatorCodeT()
    code.builtinCode, code.version = getattr(schema().BuiltinOperator, name), version
    code.deprecatedBuiltinCode = min(code.builtinCode, PLACEHOLDER_MAX)
    return code


def write(model: Any) -> bytes:
    """A schema ModelT as .tflite bytes, every buffer 16-byte aligned; equal models give equal bytes."""
    import flatbuffers

    parts = schema()
    builder = flatbuffers.Builder(1 << 20)
    data_offsets = [_aligned_bytes(builder, buffer.data) for buffer in model.buffers]
    buffer_offsets = []
    for offset in data_offsets:
        parts.BufferStart(builder)
        if offset is not None:
            parts.BufferAddData(builder, offset)
        buffer_offsets.append(parts.BufferEnd(builder))
    buffers = _table_vector(builder, buffer_offsets)
    subgraphs = _table_vector(builder, [graph.Pack(builder) for graph in model.subgraphs])
    codes = _table_vector(builder, [code.Pack(builder) for code in model.operatorCodes])
    metadata = _table_vector(builder, [entry.Pack(builder) for entry in model.metadata or []])
    signatures = _table_vector(builder, [entry.Pack(builder) for entry in model.signatureDefs or []])
    description = builder.CreateString(model.description)
    parts.ModelStart(builder)
    parts.ModelAddVersion(builder, 3)  # the schema version of every TFLite since 1.5
    parts.ModelAddOperatorCodes(builder, codes)
    parts.ModelAddSubgraphs(builder, subgraphs)
    parts.ModelAddDescription(builder, description)
    parts.ModelAddBuffers(builder, buffers)
    parts.ModelAddMetadata(builder, metadata)
    parts.ModelAddSignatureDefs(builder, signatures)
    builder.Finish(parts.ModelEnd(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def _aligned_bytes(builder: Any, data: Any) -> int | None:
    if data is None or not len(data):
        return None
    raw = bytes(bytearray(data))
    builder.StartVector(1, len(raw), ALIGNMENT)
    builder.head = builder.Head() - len(raw)
    builder.Bytes[builder.Head():builder.Head() + len(raw)] = raw
    return int(builder.EndVector())


def _table_vector(builder: Any, offsets: Iterable[int]) -> int:
    items = list(offsets)
    builder.StartVector(4, len(items), 4)
    for offset in reversed(items):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())
