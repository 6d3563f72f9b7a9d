"""Builds an int8 .tflite in canonical form, tensor by tensor and operator by operator."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgekd.tflite.canonical import canonical
from edgekd.tflite.constant_data import DTYPES
from edgekd.tflite.flatbuffer import schema, write
from edgekd.tflite.operators import Operator, operator_table

# Operator -> its options table in schema.fbs. Tests build files with operators that the int8 route
# does not write.
OPTIONS: dict[str, str] = {
    "ADD": "AddOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "CONCATENATION": "ConcatenationOptions",
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "GELU": "GeluOptions",
    "L2_NORMALIZATION": "L2NormOptions",
    "LEAKY_RELU": "LeakyReluOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "MUL": "MulOptions",
    "PAD": "PadOptions",
    "PADV2": "PadV2Options",
    "RESHAPE": "ReshapeOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
    "SLICE": "SliceOptions",
    "SOFTMAX": "SoftmaxOptions",
    "SPLIT": "SplitOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
    "SUB": "SubOptions",
    "TRANSPOSE": "TransposeOptions",
    "TRANSPOSE_CONV": "TransposeConvOptions",
}
_NO_OPTIONS = "has no options: its kernel reads nothing but the tensors"
operator_table(
    f"{__name__}.OPTIONS",
    OPTIONS,
    absent={
        Operator.ELU: _NO_OPTIONS,
        Operator.HARD_SWISH: _NO_OPTIONS,
        Operator.LOGISTIC: _NO_OPTIONS,
        Operator.PRELU: _NO_OPTIONS,
        Operator.QUANTIZE: _NO_OPTIONS,
        Operator.RELU: _NO_OPTIONS,
        Operator.RELU6: _NO_OPTIONS,
        Operator.RSQRT: _NO_OPTIONS,
    },
)


class ModelBuilder:
    """A model under construction: tensors by name, operators in order. Equal calls give equal
    bytes.
    """

    def __init__(self) -> None:
        self.indices: dict[str, int] = {}
        self._tensors: list[Any] = []
        self._data: list[npt.NDArray[Any] | None] = []
        self._ops: list[Any] = []
        self._codes: list[str] = []

    def tensor(
        self,
        name: str,
        shape: Iterable[int],
        dtype: str,
        *,
        data: npt.NDArray[Any] | None = None,
        scale: Any = None,
        zero_point: Any = None,
        axis: int = 0,
    ) -> int:
        """The index of the tensor `name`; it is added when it is new. `axis`: which one the scales
        belong to.
        """
        if name in self.indices:
            return self.indices[name]
        parts = schema()
        tensor = parts.TensorT()
        tensor.name, tensor.type = name, getattr(parts.TensorType, dtype)
        tensor.shape = np.asarray(list(shape), np.int32)
        tensor.buffer = len(self._tensors)
        tensor.quantization = parts.QuantizationParametersT()
        if scale is not None:
            tensor.quantization.scale = np.asarray(scale, np.float32)
            tensor.quantization.zeroPoint = np.asarray(zero_point, np.int64)
            tensor.quantization.quantizedDimension = axis
        self.indices[name] = len(self._tensors)
        self._tensors.append(tensor)
        self._data.append(None if data is None else np.ascontiguousarray(data, DTYPES[dtype]))
        return self.indices[name]

    def op(
        self,
        name: str,
        inputs: Iterable[int],
        outputs: Iterable[int],
        options: dict[str, Any] | None,
    ) -> None:
        """Append an operator.

        `options`: fields of the schema's options table; None where the operator has none.
        """
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

    def finish(
        self, input_name: str, output_name: str, description: str, further: Sequence[str] = ()
    ) -> bytes:
        """The whole model as canonical bytes, with one input, one output and `further` ones behind
        it, and a signature naming them.
        """
        return canonical(write(self.model(input_name, output_name, description, further)))

    def model(
        self, input_name: str, output_name: str, description: str, further: Sequence[str] = ()
    ) -> Any:
        """The same as the schema's ModelT, not canonical yet."""
        parts = schema()
        graph = parts.SubGraphT()
        graph.name, graph.tensors, graph.operators = "main", self._tensors, self._ops
        ports = [input_name], [output_name, *further]
        graph.inputs, graph.outputs = ([self.indices[name] for name in names] for names in ports)
        model = parts.ModelT()
        model.description, model.subgraphs = description, [graph]
        model.operatorCodes = []
        for name in self._codes:
            code = parts.OperatorCodeT()
            code.builtinCode = getattr(parts.BuiltinOperator, name)
            model.operatorCodes.append(code)
        signature = parts.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = (
            "serving_default",
            0,
        )  # TensorFlow's own key
        signature.inputs, signature.outputs = (
            [_port(name, self.indices[name]) for name in names] for names in ports
        )
        model.signatureDefs = [signature]
        model.buffers = []
        for data in self._data:
            buffer = parts.BufferT()
            buffer.data = None if data is None else data.tobytes()
            model.buffers.append(buffer)
        return model


def _port(name: str, index: int) -> Any:
    port = schema().TensorMapT()
    port.name, port.tensorIndex = name, index
    return port
