"""Small .tflite graphs of any operator, for tests of what compilers and delegates accept.

Shapes and operators matter in these tests. Values do not, so that weights are zeros.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgekd.tflite.flatbuffer import LiteGraph, read

DTYPES = {"INT8": np.int8, "UINT8": np.uint8, "INT32": np.int32, "FLOAT32": np.float32}
OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "CONCATENATION": "ConcatenationOptions",
    "MEAN": "ReducerOptions",
    "SUM": "ReducerOptions",
    "ADD": "AddOptions",
    "MUL": "MulOptions",
    "RESHAPE": "ReshapeOptions",
    "SOFTMAX": "SoftmaxOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
    "PACK": "PackOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
}


@dataclasses.dataclass(frozen=True)
class T:
    """A tensor. With `data` ("zeros" or an array) it is a constant."""

    shape: tuple[int, ...]
    dtype: str = "INT8"
    data: Any = None
    signature: tuple[int, ...] | None = None
    scale: float = 0.1
    zero_point: int = 0


class Net:
    """Builds a graph operator by operator.

    The first tensor is the input of the graph. The output of the last operator is its output.
    """

    def __init__(
        self,
        shape: tuple[int, ...] = (1, 8, 8, 8),
        dtype: str = "INT8",
        signature: tuple[int, ...] | None = None,
    ) -> None:
        self.model = schema.ModelT()
        self.model.version, self.model.operatorCodes, self.model.buffers = 3, [], [schema.BufferT()]
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators, self.graph.name = [], [], "main"
        self.last = self.tensor(T(shape, dtype, signature=signature))
        self.graph.inputs = np.array([self.last], np.int32)

    def tensor(self, t: T) -> int:
        """Add a tensor and return its index."""
        made = schema.TensorT()
        made.name, made.shape, made.type = (
            f"t{len(self.graph.tensors)}",
            np.array(t.shape, np.int32),
            getattr(schema.TensorType, t.dtype),
        )
        made.buffer = 0
        made.shapeSignature = None if t.signature is None else np.array(t.signature, np.int32)
        is_bias = t.dtype == "INT32" and isinstance(t.data, str)
        if t.dtype in ("INT8", "UINT8") or is_bias:
            made.quantization = schema.QuantizationParametersT()
            # The scale of a bias is the scale of the input times the scale of the weights.
            made.quantization.scale = np.array([t.scale**2 if is_bias else t.scale], np.float32)
            made.quantization.zeroPoint = np.array([t.zero_point], np.int64)
        if t.data is not None:
            values = (
                np.zeros(t.shape, DTYPES[t.dtype])
                if isinstance(t.data, str)
                else np.array(t.data, DTYPES[t.dtype])
            )
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(values.tobytes(), np.uint8)
            self.model.buffers.append(buffer)
            made.buffer = len(self.model.buffers) - 1
        self.graph.tensors.append(made)
        return len(self.graph.tensors) - 1

    def op(
        self,
        name: str,
        output: T,
        *extra: T | int,
        version: int = 1,
        inputs: list[int] | None = None,
        custom: str = "",
        **options: Any,
    ) -> int:
        """Add an operator and return the index of its output tensor.

        It reads `inputs` (tensor indices; the last tensor if None), then `extra`, which are new
        tensors or tensor indices. `options` are fields of the operator's options table.
        """
        code = schema.OperatorCodeT()
        code.builtinCode, code.version = getattr(schema.BuiltinOperator, name), version
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.customCode = custom or None
        self.model.operatorCodes.append(code)
        made = schema.OperatorT()
        made.opcodeIndex = len(self.model.operatorCodes) - 1
        sources = [
            *([self.last] if inputs is None else inputs),
            *(e if isinstance(e, int) else self.tensor(e) for e in extra),
        ]
        made.inputs = np.array(sources, np.int32)
        self.last = self.tensor(output)
        made.outputs = np.array([self.last], np.int32)
        if name in OPTIONS:
            made.builtinOptionsType = getattr(schema.BuiltinOptions, OPTIONS[name])
            made.builtinOptions = getattr(schema, f"{OPTIONS[name]}T")()
            for key, value in options.items():
                assert hasattr(made.builtinOptions, key), key
                setattr(made.builtinOptions, key, value)
        self.graph.operators.append(made)
        return self.last

    def conv(
        self, channels: int, kernel: int = 1, stride: int = 1, version: int = 3, **options: Any
    ) -> int:
        """Add a CONV_2D with SAME padding, zero weights and a bias."""
        _, h, w, c = self.graph.tensors[self.last].shape
        return self.op(
            "CONV_2D",
            T((1, -(-h // stride), -(-w // stride), channels)),
            T((channels, kernel, kernel, c), data="zeros"),
            T((channels,), "INT32", "zeros"),
            version=version,
            **{
                "strideH": stride,
                "strideW": stride,
                "dilationHFactor": 1,
                "dilationWFactor": 1,
                **options,
            },
        )

    def bytes(self) -> bytes:
        """The .tflite file."""
        self.graph.outputs = np.array([self.last], np.int32)
        self.model.subgraphs = [self.graph]
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def read(self) -> LiteGraph:
        """The graph as EdgeKD reads it from the file."""
        return read(self.bytes())


def separable(
    hard_swish: bool = False, squeeze_excite: bool = False, side: int = 64, width: int = 16
) -> Net:
    """A small network like MobileNetV3.

    Stem, hard-swish, depthwise convolution, squeeze-and-excite, pointwise convolution, MEAN and a
    classifier.
    """
    net = Net((1, side, side, 3))
    net.conv(width, 3, 2)
    shape = T((1, side // 2, side // 2, width))
    if hard_swish:
        net.op("HARD_SWISH", shape)
    net.op(
        "DEPTHWISE_CONV_2D",
        shape,
        T((1, 3, 3, width), data="zeros"),
        T((width,), "INT32", "zeros"),
        version=3,
        strideH=1,
        strideW=1,
        depthMultiplier=1,
        dilationHFactor=1,
        dilationWFactor=1,
    )
    if squeeze_excite:
        trunk = net.last
        net.op("MEAN", T((1, 1, 1, width)), T((2,), "INT32", [1, 2]), version=2, keepDims=True)
        net.conv(8)
        net.conv(width)
        net.op("LOGISTIC", T((1, 1, 1, width), scale=1 / 256, zero_point=-128), version=2)
        net.op("MUL", shape, inputs=[trunk, net.last], version=2)
    net.conv(32)
    net.op("MEAN", T((1, 1, 1, 32)), T((2,), "INT32", [1, 2]), version=2, keepDims=True)
    net.op("RESHAPE", T((1, 32)), T((2,), "INT32", [1, 32]))
    net.op(
        "FULLY_CONNECTED",
        T((1, 10)),
        T((10, 32), data="zeros"),
        T((10,), "INT32", "zeros"),
        version=4,
    )
    return net
