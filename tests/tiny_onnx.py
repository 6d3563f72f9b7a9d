"""A classifier of a few weights as an ONNX file, written without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

NCHW, NHWC = (0, 1, 2, 3), (0, 2, 3, 1)


def model(
    classes: int = 3,
    px: int | str = 32,
    *,
    batch: int | str = "n",
    axes: tuple[int, ...] = NCHW,
    opset: int = 17,
    metadata: dict[str, str] | None = None,
) -> onnx.ModelProto:
    """Convolution, global pooling, linear layer: logits [batch, classes] of an image."""
    rng = np.random.default_rng(0)
    weights: dict[str, Any] = {
        "w": rng.normal(0, 0.5, (8, 3, 3, 3)),
        "b": rng.normal(0, 0.1, 8),
        "head": rng.normal(0, 2, (8, classes)),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["maps"], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["maps"], ["active"]),
        helper.make_node("GlobalAveragePool", ["active"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "head"], ["logits"]),
    ]
    entry = "x"
    if axes == NHWC:
        entry = "nhwc"
        nodes.insert(0, helper.make_node("Transpose", ["nhwc"], ["x"], perm=[0, 3, 1, 2]))
    shape = [batch, 3, px, px]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(entry, TensorProto.FLOAT, [shape[axis] for axis in axes])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, classes])],
        [numpy_helper.from_array(value.astype(np.float32), key) for key, value in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    helper.set_model_props(made, metadata or {})
    return made


def save(file: Path, **more: Any) -> Path:
    """The model as a file; the arguments are those of `model`."""
    onnx.save(model(**more), file)
    return file
