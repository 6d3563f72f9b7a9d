"""Reads, checks and writes TFLite flatbuffers: bytes to LiteGraph, and ModelT to bytes.

The interpreter can crash on a truncated file, so every file goes through `read` before it. What a
file says beside its network (operator versions, buffers, metadata) is set by
`edgekd.tflite.canonical`.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import struct
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.core.errors import MissingExtra, ModelFileError
from edgekd.tflite.constant_data import constant

IDENTIFIER = b"TFL3"  # file_identifier in tflite's schema.fbs, at bytes 4..8
# force_align of Buffer.data in schema.fbs. Kernels load weights with aligned vector loads.
ALIGNMENT = 16
# Operators that call other subgraphs of the file.
CALLS = frozenset({"CALL", "CALL_ONCE", "IF", "STABLEHLO_CASE", "STABLEHLO_COMPOSITE", "WHILE"})


@dataclasses.dataclass(frozen=True)
class LiteTensor:
    """One tensor. `scale` (float32) and `zero_point` (int64) are empty unless it is quantized.

    `axis`: the dimension that several scales belong to. `data`: None unless it is a constant.
    """

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
    """One operator. `options`: the fields of its table in schema.fbs, whose types differ from table
    to table.

    An optional input that is absent is -1. `name`: BUILTIN_ and the number for an operator that
    the installed schema does not know. `custom`: the name of a CUSTOM operator, "" for others.
    """

    index: int
    name: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: dict[str, Any]
    custom: str = ""

    def label(self, tensors: list[LiteTensor]) -> str:
        """Its name in messages: "CONV_2D #3 -> blocks.0.0.conv_pw"."""
        return f"{self.name} #{self.index} -> {tensors[self.outputs[0]].name}"


@dataclasses.dataclass(frozen=True)
class LiteGraph:
    """The one subgraph of a model, or the first one (`read_main`), checked.

    `data`: the file. `written`: the schema's own object, to be read only, since graphs of the same
    file share it.
    """

    tensors: list[LiteTensor]
    ops: list[LiteOp]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    data: bytes = dataclasses.field(repr=False)
    written: Any = dataclasses.field(repr=False, compare=False)

    @functools.cached_property
    def model(self) -> Any:
        """The schema's own object, this graph's alone, for passes that change it.

        Parsing it takes 10 ms; `written` is there already.
        """
        return _unpacked(self.data)

    def counts(self) -> dict[str, int]:
        """{operator: how many}, sorted by name."""
        return dict(sorted(collections.Counter(op.name for op in self.ops).items()))

    def by_name(self) -> dict[str, LiteTensor]:
        """{tensor name: tensor}."""
        return {tensor.name: tensor for tensor in self.tensors}


def schema() -> ModuleType:
    """The generated TFLite schema. Raises MissingExtra when ai-edge-litert is not installed."""
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise MissingExtra("ai-edge-litert", "", "reading a .tflite") from error
    return schema_py_generated


@functools.cache
def _names(enum: type) -> dict[int, str]:
    """{value: name} of one of the schema's enumerations, which have up to 200 members."""
    return {value: name for name, value in vars(enum).items() if not name.startswith("_")}


def read(data: bytes | memoryview) -> LiteGraph:
    """Parse a .tflite and check its identifier, every offset, every index and every constant's
    length.

    Raises ModelFileError for a file that is truncated, of another kind, or has not exactly one
    subgraph.
    """
    return _own(_checked(bytes(data), alone=True))


def read_main(data: bytes | memoryview) -> LiteGraph:
    """As `read`, of the first subgraph of a file that may have others, as one for each signature.

    An interpreter runs the first one, which is all of the network as long as it calls no other.
    Raises ModelFileError where it does. For reading only: a pass that writes the file needs `read`.
    """
    return _own(_checked(bytes(data), alone=False))


def _own(graph: LiteGraph) -> LiteGraph:
    """The same graph with lists that the caller may change."""
    return dataclasses.replace(graph, tensors=[*graph.tensors], ops=[*graph.ops])


# A build reads each of its files several times, and reading takes 20 ms. Four are the trained file,
# and those with metadata, with other ports and in float.
@functools.lru_cache(maxsize=4)
def _checked(data: bytes, alone: bool) -> LiteGraph:
    """`read`, of a graph that nobody changes; not `alone`: `read_main`."""
    if len(data) < 8 or data[4:8] != IDENTIFIER:
        raise ModelFileError(
            f"not a .tflite: {len(data)} bytes, and bytes 4..8 are {data[4:8]!r} instead of "
            f"{IDENTIFIER!r}",
            "give a file written by a TFLite converter",
        )
    if struct.unpack_from("<I", data)[0] + 4 > len(data):
        raise _broken("its root lies outside the file")
    try:
        model = _unpacked(data)
    except Exception as error:  # a broken offset leads to struct, index and unicode errors
        raise _broken(f"{type(error).__name__}: {error}") from error
    if alone or not model.subgraphs:
        _check_alone(model)
    graph = model.subgraphs[0]
    try:
        tensors = [
            _tensor(model, data, index, tensor)
            for index, tensor in enumerate(_listed(graph.tensors))
        ]
        ops = [
            _operator(model, index, op, len(tensors))
            for index, op in enumerate(_listed(graph.operators))
        ]
        inputs, outputs = (
            _indices(part, len(tensors), 0) for part in (graph.inputs, graph.outputs)
        )
    except (TypeError, AttributeError, KeyError, ValueError) as error:
        raise _broken(f"{type(error).__name__}: {error}") from error
    if {op.name for op in ops} & CALLS:
        _check_alone(model)
    return LiteGraph(tensors, ops, inputs, outputs, data, model)


def _check_alone(model: Any) -> None:
    """Raise ModelFileError unless the model has exactly one subgraph."""
    count = len(_listed(model.subgraphs))
    if count == 1:
        return
    calls = sorted({builtin_name(code) for code in _listed(model.operatorCodes)} & CALLS)
    called = f", which {' and '.join(calls)} call" if calls else ""
    raise ModelFileError(
        f"this .tflite has {count} subgraphs{called}; exactly one is supported",
        "convert a network without control flow, and one signature alone",
    )


def _unpacked(data: bytes) -> Any:
    parts = schema()
    return parts.ModelT.InitFromObj(parts.Model.GetRootAs(data, 0))


def _broken(why: str) -> ModelFileError:
    return ModelFileError(
        f"this .tflite is truncated or damaged ({why})", "copy it again, or convert it again"
    )


def _listed(values: Any) -> list[Any]:
    return [] if values is None else list(values)


def _indices(values: Any, count: int, lowest: int) -> tuple[int, ...]:
    found = tuple(int(value) for value in _listed(values))
    if any(not lowest <= index < count for index in found):
        raise ValueError(f"tensor index out of 0..{count - 1} in {found}")
    return found


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")


def _tensor(model: Any, file: bytes, index: int, tensor: Any) -> LiteTensor:
    dtype = _names(schema().TensorType)[tensor.type]
    shape = tuple(int(dim) for dim in _listed(tensor.shape))
    if any(dim < 0 for dim in shape):
        raise ValueError(f"tensor {index} has the shape {list(shape)}")
    if not 0 <= tensor.buffer < len(model.buffers):
        raise ValueError(f"tensor {index} has buffer {tensor.buffer} of {len(model.buffers)}")
    raw = _buffer(model.buffers[tensor.buffer], file, index)
    data = None
    if raw is not None and len(raw):
        if getattr(tensor, "sparsity", None) is not None:
            raise ModelFileError(
                f"tensor {index}, {_text(tensor.name)!r}, is sparse; EdgeKD reads dense weights",
                "convert the model without sparsity",
            )
        try:
            data = constant(raw, dtype, shape)
        except ValueError as error:
            raise ValueError(f"tensor {index} holds {error}") from None
    quant = tensor.quantization
    scale = np.asarray(_listed(quant.scale) if quant else [], np.float32)
    zero = np.asarray(_listed(quant.zeroPoint) if quant else [], np.int64)
    scale.flags.writeable = zero.flags.writeable = False  # several graphs share them
    axis = int(quant.quantizedDimension) if quant else 0
    if len(scale) > 1 and (not 0 <= axis < len(shape) or shape[axis] != len(scale)):
        raise ValueError(f"tensor {index} has {len(scale)} scales on axis {axis} of {shape}")
    return LiteTensor(index, _text(tensor.name), shape, dtype, scale, zero, axis, data)


def _buffer(buffer: Any, file: bytes, index: int) -> Any:
    """The bytes of a buffer: inside the flatbuffer, or behind it, as in files above 2 GB."""
    start, size = getattr(buffer, "offset", 0), getattr(buffer, "size", 0)
    if start <= 1 and size <= 1:
        return buffer.data
    if start + size > len(file):
        raise ValueError(f"tensor {index} ends behind the file")
    return file[start : start + size]


def _operator(model: Any, index: int, op: Any, tensors: int) -> LiteOp:
    code = (
        model.operatorCodes[op.opcodeIndex]
        if 0 <= op.opcodeIndex < len(model.operatorCodes)
        else None
    )
    if code is None:
        raise ValueError(f"op {index} has opcode {op.opcodeIndex} of {len(model.operatorCodes)}")
    outputs = _indices(op.outputs, tensors, 0)
    if not outputs:
        raise ValueError(f"op {index} has no output")
    options = dict(vars(op.builtinOptions)) if op.builtinOptions is not None else {}
    inputs = _indices(op.inputs, tensors, -1)
    name, custom = builtin_name(code), custom_name(code)
    return LiteOp(index, name, int(code.version), inputs, outputs, options, custom)


def builtin_name(code: Any) -> str:
    """The name of an OperatorCodeT: "CUSTOM" for a custom operator, see `custom_name`.

    Files of before 2021 have the number in the older of two fields; TFLite takes the larger.
    """
    number = max(int(code.builtinCode), int(code.deprecatedBuiltinCode))
    return _names(schema().BuiltinOperator).get(number, f"BUILTIN_{number}")


def custom_name(code: Any) -> str:
    """The name of a custom operator's OperatorCodeT, "" for a builtin one."""
    if builtin_name(code) != "CUSTOM":
        return ""
    name = code.customCode
    return name.decode(errors="replace") if isinstance(name, bytes) else str(name or "")


def write(model: Any) -> bytes:
    """A schema ModelT as .tflite bytes, every buffer aligned to 16 bytes. Equal models give equal
    bytes.
    """
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
    signatures = _table_vector(
        builder, [entry.Pack(builder) for entry in model.signatureDefs or []]
    )
    description = builder.CreateString(model.description or "")
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
    builder.Bytes[builder.Head() : builder.Head() + len(raw)] = raw
    return int(builder.EndVector())


def _table_vector(builder: Any, offsets: Iterable[int]) -> int:
    items = list(offsets)
    builder.StartVector(4, len(items), 4)
    for offset in reversed(items):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())
