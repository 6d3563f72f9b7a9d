"""model.onnx as it is published: the network with Q/DQ pairs, and what the converter needs beside.

ONNX Runtime runs the file as it is. Its metadata hold the learned ranges, the rows of the layers
and the biases as they were trained (a bias code can have more digits than float32 keeps), so that
`read` gives exactly what the converter was given.
"""

from __future__ import annotations

import base64
import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgekd.core.artifacts import Exported, Json, canonical_json
from edgekd.core.errors import ModelFileError

KEY = "edgekd"  # of the metadata
VERSION = 1
PAIR = ("QuantizeLinear", "DequantizeLinear")


def with_recipe(qdq: bytes, exported: Exported) -> bytes:
    """The Q/DQ form with what `read` needs in its metadata. Equal arguments give equal bytes."""
    model = onnx.load_from_string(qdq)
    float_form = onnx.load_from_string(bytes(exported.onnx))
    biases = {
        tensor.name: base64.b64encode(numpy_helper.to_array(tensor).tobytes()).decode()
        for tensor in float_form.graph.initializer
        if tensor.name.endswith(".bias")
    }
    body: dict[str, Json] = {
        "version": VERSION,
        "px": exported.px,
        "io_dtype": exported.io_dtype,
        "ranges": dict(exported.ranges),
        "weights": dict(exported.weights),
        "biases": dict(biases),
    }
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, canonical_json(body).decode()
    return bytes(model.SerializeToString(deterministic=True))


def is_ours(model: onnx.ModelProto) -> bool:
    """Whether a model is one that EdgeKD published."""
    return any(entry.key == KEY for entry in model.metadata_props)


def read(data: bytes, name: str) -> Exported:
    """What the converter was given when this model.onnx was published.

    `name`: of the file, for messages. Raises ModelFileError for a file that was changed.
    """
    try:
        model = onnx.load_from_string(data)
        body = json.loads(next(row.value for row in model.metadata_props if row.key == KEY))
        if body["version"] != VERSION:
            raise ValueError(f"version {body['version']} of its metadata")
        return Exported(
            px=body["px"],
            ranges=body["ranges"],
            weights=body["weights"],
            io_dtype=body["io_dtype"],
            onnx=_float_form(model, body["biases"]),
            qdq=data,
        )
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        raise ModelFileError(
            f"{name}: published by EdgeKD and changed since, or by a newer version ({error})",
            "take the model.onnx of the build's out folder as it is",
        ) from None


def _float_form(model: onnx.ModelProto, biases: dict[str, str]) -> bytes:
    """The graph without Q/DQ pairs, with weights on the int8 grid and biases as trained."""
    values = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    outputs = [entry.name for entry in model.graph.output]
    renamed, nodes, kept = {f"{name}_float": name for name in outputs}, [], dict[str, np.ndarray]()
    for node in model.graph.node:
        if node.op_type not in PAIR:
            nodes.append(node)
            continue
        source, target = node.input[0], node.output[0]
        if source not in values:  # a pair at an edge, or the input
            renamed[target] = renamed.get(source, source)
        elif target in biases:
            kept[target] = np.frombuffer(base64.b64decode(biases[target]), np.float32)
        else:
            codes, scale = values[source], values[node.input[1]]
            shape = [-1] + [1] * (codes.ndim - 1)
            kept[target] = codes.astype(np.float32) * scale.reshape(shape)
    used = {name for node in nodes for name in node.input}
    kept |= {name: value for name, value in values.items() if name in used}
    for node in nodes:
        node.input[:] = [renamed.get(name, name) for name in node.input]
        node.output[:] = [renamed.get(name, name) for name in node.output]
        node.name = f"{node.output[0]}/{node.op_type}"
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    graph = helper.make_graph(
        nodes,
        model.graph.name,
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
        list(model.graph.output),
        [numpy_helper.from_array(value, name) for name, value in kept.items()],
    )
    made = helper.make_model(
        graph,
        opset_imports=list(model.opset_import),
        ir_version=model.ir_version,
        producer_name=model.producer_name,
    )
    return bytes(made.SerializeToString(deterministic=True))
