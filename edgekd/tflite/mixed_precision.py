"""Computes some operators of an int8 .tflite in float32, and leaves the others as they are.

A tensor that such an operator reads or writes is there in float32; a DEQUANTIZE or a QUANTIZE
stands where an int8 operator is on the other side. Between two operators in float32 nothing is
rounded. Input and output of the file stay int8.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.tflite.canonical import canonical
from edgekd.tflite.flatbuffer import LiteGraph, LiteOp, LiteTensor, read, schema, write
from edgekd.tflite.operators import Operator, operator_group

# Operators that stay int8: QUANTIZE stands at ports, and an int8 RSQRT takes values below its floor
# as the floor, which a float32 one does not.
NEVER = frozenset({Operator.QUANTIZE.value, Operator.RSQRT.value})
operator_group(f"{__name__}.NEVER", NEVER, "it computes in float32 what it computes in int8")
SUFFIX = "/float32"
# tflite/tools/versioning/op_version.cc: QUANTIZE to int8 is version 1, DEQUANTIZE from int8 2.
VERSIONS = {"QUANTIZE": 1, "DEQUANTIZE": 2}

Floats = npt.NDArray[np.float32]


def with_float_operators(
    data: bytes | memoryview,
    chosen: Collection[int],
    values: Mapping[str, Floats],
    bounded: Collection[str] = (),
) -> bytes:
    """The file with the operators `chosen`, by their index, in float32. Those of NEVER stay int8.

    `values`: of weights and biases by the name of their tensor, in its layout. Operators in float32
    take them as they are, and the int32 biases of others are rounded anew; without a value, the
    codes stay what they are. `bounded`: names of tensors whose range is part of the function, such
    as the clamp of a hard-sigmoid, so that they always pass through int8. Equal input gives equal
    bytes.
    """
    graph = read(data)
    made = _Mixed(graph, values, frozenset(bounded))
    for op in graph.ops:
        made.add(op, op.index in chosen and op.name not in NEVER)
    return made.bytes()


class _Mixed:
    """The schema's model under construction: the operators so far, and the tensors in float32."""

    def __init__(
        self, graph: LiteGraph, values: Mapping[str, Floats], bounded: frozenset[str]
    ) -> None:
        self.graph, self.values, self.bounded = graph, values, bounded
        self.model = graph.model
        self.subgraph = self.model.subgraphs[0]
        self.ops: list[Any] = []
        self.real: dict[int, int] = {}  # an int8 tensor -> the same values in float32
        self.codes: set[int] = set(graph.inputs)  # int8 tensors that something has written

    def add(self, op: LiteOp, in_float: bool) -> None:
        """Append one operator in float32 or as it is, with the conversions that it needs before."""
        written = self.subgraph.operators[op.index]
        activations = [
            index for index in op.inputs if index >= 0 and self.graph.tensors[index].data is None
        ]
        if not in_float:
            for index in activations:
                self._quantize(index)
            self._round_bias(op)
            self.codes |= set(op.outputs)
            self.ops.append(written)
            return
        inputs = [index if index < 0 else self._real(index) for index in op.inputs]
        outputs = [self._tensor(self.graph.tensors[index]) for index in op.outputs]
        written.inputs, written.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
        self.ops.append(written)
        for index, output in zip(op.outputs, outputs, strict=True):
            self.real[index] = output
            if index in self.graph.outputs:
                self._quantize(index)
            elif self.graph.tensors[index].name in self.bounded:
                self._quantize(index)
                del self.real[index]

    def bytes(self) -> bytes:
        """The file, in canonical form."""
        self.subgraph.operators = self.ops
        return canonical(write(self.model))

    def _quantize(self, index: int) -> None:
        """Write the codes of a tensor that is there in float32 alone."""
        if index not in self.codes and index in self.real:
            self._convert("QUANTIZE", self.real[index], index)
            self.codes.add(index)

    def _round_bias(self, op: LiteOp) -> None:
        """Give an int8 layer the codes of its bias's value."""
        for index in op.inputs:
            tensor = self.graph.tensors[index]
            if index >= 0 and tensor.dtype == "INT32" and tensor.name in self.values:
                scale = tensor.scale.astype(np.float64)
                codes = np.rint(self.values[tensor.name].astype(np.float64) / scale)
                low, high = np.iinfo(np.int32).min, np.iinfo(np.int32).max
                held = self.model.buffers[self.subgraph.tensors[index].buffer]
                held.data = np.clip(codes, low, high).astype("<i4").tobytes()

    def _real(self, index: int) -> int:
        """The tensor with the same values in float32."""
        tensor = self.graph.tensors[index]
        if index in self.real:
            return self.real[index]
        if tensor.data is not None:
            values = self._values(tensor)
            self.real[index] = index if values is None else self._tensor(tensor, values)
        else:
            self.real[index] = self._tensor(tensor)
            self._convert("DEQUANTIZE", index, self.real[index])
        return self.real[index]

    def _values(self, tensor: LiteTensor) -> Floats | None:
        """A constant's real values; None for a shape or axes, which are no codes."""
        if not tensor.scale.size or tensor.data is None:
            return None
        if tensor.name in self.values:
            return self.values[tensor.name]
        column = [1] * tensor.data.ndim
        if tensor.scale.size > 1:
            column[tensor.axis] = -1
        scale, zero = (
            part.astype(np.float64).reshape(column) for part in (tensor.scale, tensor.zero_point)
        )
        return np.asarray((tensor.data - zero) * scale, np.float32)

    def _tensor(self, like: LiteTensor, values: Floats | None = None) -> int:
        """Append a float32 tensor of this shape. Returns its index."""
        parts = schema()
        tensor = parts.TensorT()
        tensor.name, tensor.type = f"{like.name}{SUFFIX}", parts.TensorType.FLOAT32
        tensor.shape, tensor.hasRank = np.asarray(like.shape, np.int32), True
        tensor.quantization = parts.QuantizationParametersT()
        tensor.buffer = len(self.model.buffers)
        buffer = parts.BufferT()
        buffer.data = None if values is None else np.ascontiguousarray(values, "<f4").tobytes()
        self.model.buffers.append(buffer)
        self.subgraph.tensors.append(tensor)
        return len(self.subgraph.tensors) - 1

    def _convert(self, name: str, source: int, target: int) -> None:
        """Append a QUANTIZE or a DEQUANTIZE."""
        parts = schema()
        builtin = getattr(parts.BuiltinOperator, name)
        known = [code.builtinCode for code in self.model.operatorCodes]
        if builtin not in known:
            code = parts.OperatorCodeT()
            # Both operators are below 127, where the two fields agree.
            code.builtinCode = code.deprecatedBuiltinCode = builtin
            code.version = VERSIONS[name]
            self.model.operatorCodes.append(code)
            known.append(builtin)
        op = parts.OperatorT()
        op.opcodeIndex = known.index(builtin)
        op.inputs, op.outputs = np.array([source], np.int32), np.array([target], np.int32)
        self.ops.append(op)
