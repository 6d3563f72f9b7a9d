"""The size of an ONNX model: its parameters, and the multiply-accumulates of one image."""

from __future__ import annotations

import math

import onnx

from edgekd.networks.network_size import Size

# Operators whose second input is a weight, with each element used once for an output position.
LAYERS = frozenset({"Conv", "Gemm", "MatMul"})


def size(model: onnx.ModelProto) -> Size:
    """The size of a model. Layers whose shapes ONNX cannot infer count no multiply-accumulates."""
    weights = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer}
    firsts = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    shapes = _shapes(model)
    macs = 0
    for node in model.graph.node:
        if node.op_type not in LAYERS or len(node.input) < 2:
            continue
        shape, weight = shapes.get(node.output[0], []), firsts.get(node.input[1], [])
        if not weight:
            continue
        if node.op_type == "Conv":
            macs += math.prod(shape[2:]) * weights[node.input[1]] if shape else 0
        else:
            macs += math.prod(shape[1:-1]) * weights[node.input[1]]
    return {"params": sum(weights.values()), "macs": macs}


def _shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    """The shape of each value that ONNX can infer in full, with the batch as it is."""
    try:
        inferred = onnx.shape_inference.infer_shapes(model)
    except Exception:  # onnx raises types of its own; a size is no reason to stop
        return {}
    found = {}
    for value in (*inferred.graph.value_info, *inferred.graph.output):
        dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        if all(dims[1:]):
            found[value.name] = dims
    return found
