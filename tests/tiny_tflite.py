"""A classifier of one FULLY_CONNECTED operator for tests, with the answers that it must give."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import pytest

CHANNELS = 3
SCALE_IN, SCALE_W, SCALE_OUT, ZERO_OUT = np.float32(1 / 127.5), 0.002, 0.05, 3


@dataclass(frozen=True)
class Tiny:
    """A model and what it computes.

    `model`: the .tflite. `images`: uint8 [n, px, px, 3]. `logits`: int8 [n, classes], computed with
    numpy alone.
    """

    model: bytes
    images: np.ndarray
    logits: np.ndarray
    labels: np.ndarray

    def golden(self, **instead: np.ndarray) -> bytes:
        """The bytes of golden.npz; `instead` replaces arrays, and None leaves one out."""
        buffer = io.BytesIO()
        arrays = {
            "inputs": self.images,
            "logits_int8": self.logits,
            "labels": self.labels,
            **instead,
        }
        np.savez(buffer, **{name: array for name, array in arrays.items() if array is not None})
        return buffer.getvalue()


def tiny(kind: str = "int8", px: int = 4, classes: int = 5) -> Tiny:
    """A tiny classifier whose input and output are int8, uint8 or float32 ("int8" | "uint8" |
    "float32").
    """
    schema = pytest.importorskip(
        "ai_edge_litert.schema_py_generated", reason="needs ai-edge-litert"
    )
    flatbuffers = pytest.importorskip("flatbuffers")
    random = np.random.default_rng(7)
    pixels = px * px * CHANNELS
    weights = random.integers(-127, 128, (classes, pixels)).astype(np.int64)
    bias = random.integers(-3000, 3000, classes).astype(np.int64)
    images = random.integers(0, 256, (12, px, px, CHANNELS), dtype=np.uint8)
    # code + 1 = pixel - 127: the input's zero point is -1
    total = (images.reshape(len(images), -1).astype(np.int64) - 127) @ weights.T + bias
    real = total * (float(SCALE_IN) * SCALE_W)
    logits = np.clip(np.rint(real / SCALE_OUT) + ZERO_OUT, -128, 127).astype(np.int8)
    labels = logits.argmax(axis=1).astype(np.int64)
    labels[0] = (labels[0] + 1) % classes  # so that top-1 is not 1

    tensor_type, shift = schema.TensorType, 128 if kind == "uint8" else 0
    buffers = [schema.BufferT()]

    def tensor(
        name: str, shape: list[int], dtype: int, scale: float, zero: int, data: bytes | None
    ) -> object:
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name, np.array(shape, np.int32), dtype, 0
        if kind != "float32":
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale = np.array([scale], np.float32)
            made.quantization.zeroPoint = np.array([zero], np.int64)
        if data is not None:
            buffers.append(schema.BufferT())
            buffers[-1].data = np.frombuffer(data, np.uint8)
            made.buffer = len(buffers) - 1
        return made

    if kind == "float32":
        edge = filter_type = bias_type = tensor_type.FLOAT32
        stored = (
            (weights * SCALE_W).astype(np.float32),
            (bias * float(SCALE_IN) * SCALE_W).astype(np.float32),
        )
    else:
        edge = filter_type = tensor_type.UINT8 if kind == "uint8" else tensor_type.INT8
        bias_type = tensor_type.INT32
        stored = (weights + shift).astype(kind), bias.astype(np.int32)
    graph = schema.SubGraphT()
    graph.name = "main"
    graph.tensors = [
        tensor("image", [1, px, px, CHANNELS], edge, float(SCALE_IN), -1 + shift, None),
        tensor("weights", [classes, pixels], filter_type, SCALE_W, shift, stored[0].tobytes()),
        tensor("bias", [classes], bias_type, float(SCALE_IN) * SCALE_W, 0, stored[1].tobytes()),
        tensor("logits", [1, classes], edge, SCALE_OUT, ZERO_OUT + shift, None),
    ]
    graph.inputs, graph.outputs = np.array([0], np.int32), np.array([3], np.int32)
    op, code, model = schema.OperatorT(), schema.OperatorCodeT(), schema.ModelT()
    op.opcodeIndex, op.inputs, op.outputs = (
        0,
        np.array([0, 1, 2], np.int32),
        np.array([3], np.int32),
    )
    op.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    op.builtinOptions = schema.FullyConnectedOptionsT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version = 1 if kind == "float32" else 4
    graph.operators, model.version, model.operatorCodes = [op], 3, [code]
    model.subgraphs, model.buffers = [graph], buffers
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return Tiny(bytes(builder.Output()), images, logits, labels)


def busy() -> bytes:
    """A model whose 20,000 runs take many seconds of CPU time.

    Each run has 25 million multiplications (8 s on a quiet EPYC).
    """
    return tiny(px=128, classes=512).model
