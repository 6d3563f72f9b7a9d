"""Writes a view of a tensor by strides as a reshape.

Where a tensor lies in memory as NHWC, PyTorch's exporter writes the output of an average pool as
`as_strided`: a Reshape to one axis, and a Gather whose indices a Loop computes from shapes. With a
fixed input size these indices are numbers. Where they count 0, 1, 2 ... the Gather is a Reshape.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgekd.core.errors import ModelFileError
from edgekd.tflite.onnx_runner import open_session

LOOPS = frozenset({"Loop", "Scan"})


def write_strided(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with a Reshape for each Gather whose indices a loop counts from 0 upwards.

    The model's input has a fixed shape with a batch of one. Other loops stay.
    """
    made_by = {name: node for node in model.graph.node for name in node.output}
    gathers = [
        node
        for node in model.graph.node
        if node.op_type == "Gather"
        and node.input[0] in made_by
        and made_by[node.input[0]].op_type == "Reshape"
        and _is_looped_constant(model, made_by, node.input[1])
    ]
    if not gathers:
        return model
    try:
        values = _values(model, [name for node in gathers for name in node.input[:2]])
    except ModelFileError:
        return model  # the loops are then refused by name
    written = onnx.ModelProto()
    written.CopyFrom(model)
    places = {node.output[0]: place for place, node in enumerate(model.graph.node)}
    for gather in gathers:
        flat, indices = (values[name] for name in gather.input[:2])
        if indices.size != flat.size or not np.array_equal(indices.ravel(), np.arange(flat.size)):
            continue  # another view: the loop stays, and is refused by name
        # -1 for the batch of one, so that the shape serves any batch.
        shape = np.array([-1, *indices.shape[1:]], np.int64)
        source, name = made_by[gather.input[0]].input[0], f"{gather.output[0]}_shape"
        written.graph.initializer.append(numpy_helper.from_array(shape, name))
        reshape = helper.make_node("Reshape", [source, name], list(gather.output))
        written.graph.node[places[gather.output[0]]].CopyFrom(reshape)
    _drop_unread(written)
    return written


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """The values that a node reads, those inside its subgraphs too."""
    yield from (name for name in node.input if name)
    for item in node.attribute:
        for graph in (item.g, *item.graphs):
            for inner in graph.node:
                yield from _reads(inner)


def _is_looped_constant(
    model: onnx.ModelProto, made_by: dict[str, onnx.NodeProto], name: str
) -> bool:
    """Whether a loop computes a value, and the image's shape alone decides it."""
    weights = {tensor.name for tensor in model.graph.initializer}
    image = {entry.name for entry in model.graph.input} - weights
    pending, seen, looped = [name], set(), False
    while pending:
        found = pending.pop()
        if found in seen:
            continue
        seen.add(found)
        node = made_by.get(found)
        if found in image:
            return False
        if node is not None and node.op_type != "Shape":
            looped = looped or node.op_type in LOOPS
            pending.extend(_reads(node))
    return looped


def _values(model: onnx.ModelProto, names: list[str]) -> dict[str, np.ndarray]:
    """What the model computes under these names for an image of zeros."""
    asked = onnx.ModelProto()
    asked.CopyFrom(model)
    del asked.graph.output[:]
    wanted = list(dict.fromkeys(names))
    asked.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    session = open_session(asked.SerializeToString())
    (port,) = session.get_inputs()
    answers = session.run(wanted, {port.name: np.zeros(port.shape, np.float32)})
    return dict(zip(wanted, answers, strict=True))


def _drop_unread(model: onnx.ModelProto) -> None:
    """Remove the nodes whose outputs nothing reads."""
    kept = {entry.name for entry in model.graph.output}
    for node in reversed(list(model.graph.node)):
        if kept.isdisjoint(node.output):
            model.graph.node.remove(node)
        else:
            kept.update(_reads(node))
