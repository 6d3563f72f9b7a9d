"""The size of the .tflite that a graph would be written as."""

from __future__ import annotations

import numpy as np

from edgekd.export.model_builder import OPTIONS, ModelBuilder
from edgekd.tflite.canonical import WITHOUT_OPTIONS, complete
from edgekd.tflite.flatbuffer import ALIGNMENT, LiteGraph, write


def file_bytes(graph: LiteGraph) -> int:
    """Bytes of the file of a canonical int8 graph whose operators all are of the int8 route.

    The file is written with a few bytes in place of each constant, which is exact: a constant is
    aligned to ALIGNMENT bytes, so that as many more move all that is in front of it by themselves.
    """
    builder, left_out = ModelBuilder(), 0
    for tensor in graph.tensors:
        data = tensor.data
        if data is not None and data.nbytes > ALIGNMENT:
            short = data.nbytes % ALIGNMENT + ALIGNMENT
            left_out += data.nbytes - short
            data = np.zeros(short // data.itemsize, data.dtype)
        scales = tensor.scale.size
        builder.tensor(
            tensor.name,
            tensor.shape,
            tensor.dtype,
            data=data,
            scale=tensor.scale if scales else None,
            zero_point=tensor.zero_point if scales else None,
            axis=tensor.axis if scales > 1 else 0,
        )
    for op in graph.ops:
        known = op.name in OPTIONS and op.name not in WITHOUT_OPTIONS
        builder.op(op.name, op.inputs, op.outputs, op.options if known else None)
    names = [
        [graph.tensors[index].name for index in part] for part in (graph.inputs, graph.outputs)
    ]
    (image,), (answers, *further) = names
    model = builder.model(image, answers, graph.written.description, further)
    complete(model, graph)
    return len(write(model)) + left_out
