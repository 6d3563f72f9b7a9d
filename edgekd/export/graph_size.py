"""The size of the .tflite that a graph would be written as."""

from __future__ import annotations

from edgekd.export.model_builder import OPTIONS, ModelBuilder
from edgekd.tflite.canonical import WITHOUT_OPTIONS
from edgekd.tflite.flatbuffer import LiteGraph


def file_bytes(graph: LiteGraph) -> int:
    """Bytes of the canonical file of an int8 graph whose operators all are of the int8 route."""
    builder = ModelBuilder()
    for tensor in graph.tensors:
        quantized = tensor.scale.size > 0
        builder.tensor(
            tensor.name,
            tensor.shape,
            tensor.dtype,
            data=tensor.data,
            scale=tensor.scale if quantized else None,
            zero_point=tensor.zero_point if quantized else None,
            axis=tensor.axis,
        )
    for op in graph.ops:
        known = op.name in OPTIONS and op.name not in WITHOUT_OPTIONS
        builder.op(op.name, op.inputs, op.outputs, op.options if known else None)
    names = [
        [graph.tensors[index].name for index in part] for part in (graph.inputs, graph.outputs)
    ]
    (image,), (answers, *further) = names
    return len(builder.finish(image, answers, graph.written.description, further))
